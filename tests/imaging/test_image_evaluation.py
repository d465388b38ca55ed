"""Figures of a trained image model against hand-computed ones, its sheets, and code grids as files."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from tiny_images import HELD_OUT, SIZE, TEST, make_images, tiny_autoencoder, tiny_prior

from vqnat_plugin.commands.main import main as vqnat
from vqnat_plugin.errors import DataError
from vqnat_plugin.imaging.codes import decode, encode, read_codes
from vqnat_plugin.imaging.evaluation import evaluate
from vqnat_plugin.imaging.models import load_autoencoder, load_prior
from vqnat_plugin.imaging.reading import read_images
from vqnat_plugin.imaging.report import figures_table
from vqnat_plugin.imaging.sheets import row_label
from vqnat_plugin.models.vq_vae import VQVAE
from vqnat_plugin.modules.likelihood import to_levels
from vqnat_plugin.recipes.stages import Stages

DIMENSIONS = 3 * SIZE * SIZE


def test_bits_per_dim_by_hand() -> None:
    model, prior = tiny_autoencoder(), tiny_prior(shape=(2, 2, 1))
    images = make_images(7, 1)
    found = evaluate(model, prior, images, batch_size=3)
    pixels, codes_nats, seen = 0.0, 0.0, []
    with torch.no_grad():
        for image in torch.from_numpy(images):
            codes = model.encode_codes(image[None])
            seen += codes.flatten().tolist()
            pixels -= float(model.likelihood.log_probability(model.decode_codes(codes), image[None]))
            log_p = prior.logits(codes).log_softmax(-1).flatten(0, 2)
            codes_nats -= sum(float(row[code]) for row, code in zip(log_p, codes.flatten(), strict=True))
    bits = found["bits_per_dim"]
    scale = 7 * DIMENSIONS * math.log(2)
    assert bits["reconstruction"] == pytest.approx(pixels / scale, rel=1e-5)
    assert bits["prior"] == pytest.approx(codes_nats / scale, rel=1e-5)
    assert bits["total"] == bits["reconstruction"] + bits["prior"]
    assert bits["uniform_prior"] == pytest.approx(4 * math.log2(6) / DIMENSIONS)
    assert bits["total_uniform"] == bits["reconstruction"] + bits["uniform_prior"]
    assert found["bits_per_code"] == pytest.approx(bits["prior"] * DIMENSIONS / 4)
    assert found["usage"] == pytest.approx(len(set(seen)) / 6)
    shares = np.bincount(seen) / len(seen)
    assert found["perplexity"] == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares if p)))
    assert found["images"] == 7 and found["codebook_size"] == 6
    assert f"{bits['total']:.3f}" in figures_table({"model": [found]})


@pytest.mark.parametrize("size", [4, 8, 12])
def test_images_of_any_size_have_figures(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = VQVAE(tiny_autoencoder().config, size).eval()
    model.quantizer.set_codebook(torch.randn(model.quantizer.codebook.shape))
    images = np.random.default_rng(1).integers(0, 256, (3, 3, size, size), np.uint8)
    assert -1 <= evaluate(model, None, images, batch_size=2)["ssim"] <= 1
    # However near: an error in one value of many is more than none.
    monkeypatch.setattr("vqnat_plugin.imaging.evaluation.peak_signal_noise_ratio", lambda *_: 101.0)
    assert evaluate(model, None, images, batch_size=2)["psnr"] == 100.0


def test_without_a_prior_and_error_of_images() -> None:
    model, images = tiny_autoencoder(), make_images(4, 2)
    found = evaluate(model, None, images, batch_size=10)
    assert found["bits_per_dim"]["total"] is None and found["bits_per_code"] is None
    with torch.no_grad():
        decoded = model.decode_codes(model.encode_codes(torch.from_numpy(images)))
        restored = to_levels(model.likelihood.mean(decoded)).numpy().astype(float)
    errors = ((restored - images) ** 2).mean((1, 2, 3))
    assert found["psnr"] == pytest.approx(np.mean(10 * np.log10(255**2 / errors)), rel=1e-6)
    similar = [
        structural_similarity(one, other, channel_axis=0, data_range=255.0)
        for one, other in zip(images.astype(float), restored, strict=True)
    ]
    assert found["ssim"] == pytest.approx(np.mean(similar), abs=1e-6)
    assert "bits/dim" not in figures_table({"model": [found]})


def test_prior_of_another_autoencoder(image_autoencoder: Path, image_prior: Path, tmp_path: Path) -> None:
    model = load_autoencoder(image_autoencoder)
    assert load_prior(image_prior, image_autoencoder, model).codebook_size == 8
    state = torch.load(image_autoencoder, weights_only=False)
    state["model"]["quantizer.codebook"] += 0.1
    other = tmp_path / "other.pt"
    torch.save(state, other)
    changed = load_autoencoder(other)
    with pytest.raises(DataError, match="was trained on the codes of another autoencoder"):
        load_prior(image_prior, other, changed)
    with pytest.raises(DataError, match="is no prior over codes"):
        load_prior(image_autoencoder, image_autoencoder, model)
    with pytest.raises(DataError, match=r"none\.pt"):
        load_prior(tmp_path / "none.pt", image_autoencoder, model)


def run(*arguments: str | Path) -> int:
    return vqnat(list(map(str, ("images", *arguments))))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The line in which a command says what is wrong."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_evaluation_as_users_type_it(
    image_autoencoder: Path,
    image_prior: Path,
    image_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "model" / "checkpoint_best.pt"
    model.parent.mkdir()
    for name in ("checkpoint_best.pt", "checkpoint_2_10.pt", "checkpoint_9_80.pt"):
        shutil.copy(image_autoencoder, model.with_name(name))
    log = {"epoch": 1, "loss": "3.5", "codebook_usage": "0.9", "num_updates": "100"}
    (tmp_path / "train.log").write_text(f"INFO | train_inner | {json.dumps(log)}\n")
    out = tmp_path / "out"
    Stages(out, image_folder).run("train", ["true", f"{out}/autoencoder", str(image_folder)])
    words = ("evaluate", model, "--data", image_folder, "--prior", image_prior, "--out", out)
    flags = ("--samples", "4", "--images", "10", "--cpu", "--title", "Squares", "--seed", "3")
    # No 40: fairseq writes none after an update that ends an epoch.
    earlier = ("--earlier-updates", "80", "40", "10")
    assert run(*words, *flags, *earlier, "--train-log", f"squares={tmp_path / 'train.log'}") == 0
    shown = capsys.readouterr().out
    result = json.loads((out / "images.json").read_text())
    assert result["images"] == TEST and result["bits_per_dim"]["total"] > 0
    assert f"{result['bits_per_dim']['total']:.3f}" in shown and "images.json" in shown
    sizes = {path.name: Image.open(path).size for path in out.glob("*.png")}
    pixel, gap = 2 * SIZE, 2
    # Columns by rows: 8 x (2 rows of originals, each over its copies), 8 codes in one row, 4 samples; 8 x 4
    # with labels to the left.
    assert sizes["reconstructions.png"] == (8 * (pixel + gap) + gap, 4 * (pixel + gap) + gap)
    assert sizes["codes.png"] == (8 * (pixel + gap) + gap, pixel + 2 * gap)
    assert sizes["samples.png"] == (4 * (pixel + gap) + gap, pixel + 2 * gap)
    assert sizes["progress.png"][1] == 4 * (pixel + gap) + gap
    margin = sizes["progress.png"][0] - (8 * (pixel + gap) + gap)
    written = np.asarray(Image.open(out / "progress.png"))[:, :margin].min((1, 2)) < 128
    assert all(row.any() for row in np.array_split(written, 4))
    report = json.loads((out / "report.json").read_text())
    (figures,) = report["results"]["vq_vae_em"]
    assert figures["bits_per_dim"] == result["bits_per_dim"] and report["seed"] == 3
    assert list(report["stages"]) == ["train", "evaluate"] and report["notes"] == []
    assert report["commands"] == [
        "true OUT/autoencoder DATA",
        f"vqnat images evaluate {model} --data DATA --prior {image_prior} --out OUT --cpu --images 10"
        " --samples 4 --seed 3 --earlier-updates 80 40 10 --title Squares --train-log"
        f" squares={tmp_path / 'train.log'}",
    ]
    text = (out / "report.md").read_text()
    assert text.startswith("# Squares") and f"{result['bits_per_dim']['total']:.3f}" in text
    assert all(f"]({name})" in text for name in (*sizes, "training.png")) and str(out) not in text
    assert run(*words[:4], "--out", out, "--earlier-updates", "10") == 0
    # Nothing of the evaluation before is taken for one of this.
    assert {path.name for path in out.glob("*.png")} == {"reconstructions.png", "codes.png", "progress.png"}
    assert "samples.png" not in (out / "report.md").read_text()
    # In a folder that no evaluation has written to, there is nothing to clear away.
    own = tmp_path / "own"
    own.mkdir()
    (own / "samples.png").write_bytes(b"mine")
    assert run(*words[:4], "--out", own) == 0
    assert (own / "samples.png").read_bytes() == b"mine"
    assert Image.open(out / "progress.png").height == 3 * (pixel + gap) + gap
    # Those that the training held out, whose number the checkpoint knows.
    assert run(*words[:4], "--out", own, "--gen-subset", "valid") == 0
    assert json.loads((own / "images.json").read_text())["images"] == HELD_OUT


def test_images_that_the_prior_has_seen_are_not_held_out(
    image_autoencoder: Path, image_prior: Path, image_folder: Path, tmp_path: Path
) -> None:
    state = torch.load(image_prior, weights_only=False)
    state["cfg"]["task"]["valid_size"] = HELD_OUT - 1
    torch.save(state, tmp_path / "prior.pt")
    words = ("evaluate", image_autoencoder, "--data", image_folder, "--gen-subset", "valid", "--samples", "2")
    for prior, count in ((image_prior, HELD_OUT), (tmp_path / "prior.pt", HELD_OUT - 1)):
        assert run(*words, "--prior", prior, "--out", tmp_path / "out") == 0
        assert json.loads((tmp_path / "out" / "images.json").read_text())["images"] == count


def test_figures_are_written_before_anything_is_drawn(
    image_autoencoder: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("vqnat_plugin.imaging.sheets.save_codes", fail)
    with pytest.raises((MemoryError, SystemExit)):
        run("evaluate", image_autoencoder, "--data", image_folder, "--out", tmp_path)
    assert json.loads((tmp_path / "images.json").read_text())["images"] == TEST


def test_rows_are_called_by_their_updates() -> None:
    assert row_label(Path("a/checkpoint_3_4000.pt")) == "4,000 updates"
    assert row_label(Path("checkpoint_best.pt")) == "best" and row_label(Path("mine.pt")) == "mine"


def test_mistakes(
    image_autoencoder: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("evaluate", image_autoencoder, "--data", image_folder, "--out", tmp_path / "out")
    assert "is no prior over codes" in refused(capsys, *words, "--prior", image_autoencoder)
    assert "--samples 0: needs at least 1" in refused(capsys, *words, "--samples", "0")
    assert "--train-log x.log: needs the form NAME=FILE" in refused(capsys, *words, "--train-log", "x.log")
    assert "--train-log a=x.log: no such file" in refused(capsys, *words, "--train-log", "a=x.log")
    (tmp_path / "empty.log").touch()
    assert "empty.log: no metrics" in refused(capsys, *words, "--train-log", f"a={tmp_path / 'empty.log'}")
    assert "--gen-subset dev: needs one of" in refused(capsys, *words, "--gen-subset", "dev")
    assert not (tmp_path / "out").exists()


def test_checkpoints_that_are_something_else(
    image_autoencoder: Path,
    image_prior: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    image_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cut = tmp_path / "cut.pt"
    cut.write_bytes(image_autoencoder.read_bytes()[:1000])
    state = torch.load(image_autoencoder, weights_only=False)
    del state["model"]["quantizer.codebook"]
    torch.save(state, tmp_path / "lacking.pt")
    commands: list[tuple[str | Path, ...]] = [
        ("evaluate", "--data", image_folder, "--out", tmp_path / "out"),
        ("encode", image_folder, tmp_path / "codes.npz"),
    ]
    for command, *others in commands:
        for other in (image_prior, tiny_student, tiny_teacher):
            assert f"{other}: is no image autoencoder" in refused(capsys, command, other, *others)
        assert "cut.pt: truncated, or not a checkpoint" in refused(capsys, command, cut, *others)
        lacking = refused(capsys, command, tmp_path / "lacking.pt", *others)
        assert "lacking.pt: cannot be rebuilt" in lacking and "codebook" in lacking
    words = ("evaluate", image_autoencoder, *commands[0][1:])
    assert "cut.pt: truncated" in refused(capsys, *words, "--prior", cut)
    assert "is no prior over codes" in refused(capsys, *words, "--prior", tiny_student)
    assert {path.name for path in tmp_path.iterdir()} == {"cut.pt", "lacking.pt"}


def test_code_grids_round_trip(image_autoencoder: Path, image_folder: Path, tmp_path: Path) -> None:
    model = load_autoencoder(image_autoencoder)
    assert encode(model, image_folder / "test", tmp_path / "codes.npz") == TEST
    names, codes = read_codes(model, tmp_path / "codes.npz")
    expected_names, images = read_images(image_folder / "test", SIZE)
    assert names == expected_names
    assert np.array_equal(codes, model.encode_codes(torch.from_numpy(images)).numpy())
    assert decode(model, tmp_path / "codes.npz", tmp_path / "again") == TEST
    again, restored = read_images(tmp_path / "again", SIZE)
    assert again == names
    with torch.no_grad():
        expected = to_levels(model.likelihood.mean(model.decode_codes(torch.from_numpy(codes))))
    assert np.array_equal(restored, expected.numpy())


def test_code_grids_as_users_type_it(
    image_autoencoder: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test, file = image_folder / "test", tmp_path / "codes.npz"
    assert run("encode", image_autoencoder, test, file) == 0
    assert f"{file}: the codes of {TEST} images" in capsys.readouterr().out
    assert run("decode", image_autoencoder, file, tmp_path / "again") == 0
    assert f"{tmp_path / 'again'}: {TEST} images" in capsys.readouterr().out
    assert len(list((tmp_path / "again").rglob("*.png"))) == TEST
    (tmp_path / "cut.npz").write_bytes(file.read_bytes()[:100])
    wrong = refused(capsys, "decode", image_autoencoder, tmp_path / "cut.npz", tmp_path / "out")
    assert "cut.npz: cannot be read as codes" in wrong and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": np.array(3)}, "holds codes of another model"),
        ({"codes": np.full((1, 2, 2, 1), 99)}, "holds codes of another model"),
        ({"codes": np.zeros((1, 3, 2, 1), int)}, "holds codes of another model"),
        ({"names": np.array(["../away.png"])}, "refused, because '../away.png' lies outside"),
        ({"names": np.array(["/tmp/away.png"])}, "refused, because '/tmp/away.png' lies outside"),
    ],
)
def test_files_that_hold_something_else(change: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    model = tiny_autoencoder()
    good = {
        "names": np.array(["a.png"]),
        "codes": np.zeros((1, 2, 2, 1), int),
        "digest": np.array(model.digest()),
    }
    np.savez(tmp_path / "codes.npz", **good)
    assert read_codes(model, tmp_path / "codes.npz")[0] == ["a.png"]
    np.savez(tmp_path / "codes.npz", **(good | change))
    with pytest.raises(DataError, match=message):
        read_codes(model, tmp_path / "codes.npz")
