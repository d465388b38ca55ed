"""Figures of a trained image model against hand-computed ones, its pictures, and code grids as files."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_images import SIZE, TEST, pictures, tiny_autoencoder, tiny_prior

from vqnat_plugin.errors import DataError
from vqnat_plugin.imaging.codes import decode, encode, read_codes
from vqnat_plugin.imaging.evaluation import evaluate, table
from vqnat_plugin.imaging.models import load_prior
from vqnat_plugin.imaging.reading import read_pictures
from vqnat_plugin.modules.likelihood import to_levels
from vqnat_plugin.tasks.image_vq import load_autoencoder

ROOT = Path(__file__).parents[2]
DIMENSIONS = 3 * SIZE * SIZE


def test_bits_per_dim_by_hand() -> None:
    model, prior = tiny_autoencoder(), tiny_prior(shape=(2, 2, 1))
    images = pictures(7, 1)
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
    assert found["pictures"] == 7
    shown = table(found)
    assert f"{bits['total']:.3f}" in shown and len({len(line) for line in shown.splitlines()}) == 1


def test_without_a_prior_and_error_of_pictures() -> None:
    model, images = tiny_autoencoder(), pictures(4, 2)
    found = evaluate(model, None, images, batch_size=10)
    assert found["bits_per_dim"]["total"] is None and found["bits_per_code"] is None
    with torch.no_grad():
        decoded = model.decode_codes(model.encode_codes(torch.from_numpy(images)))
        restored = to_levels(model.likelihood.mean(decoded)).numpy().astype(float)
    errors = ((restored - images) ** 2).mean((1, 2, 3))
    assert found["psnr"] == pytest.approx(np.mean(10 * np.log10(255**2 / errors)), rel=1e-6)
    assert -1 <= found["ssim"] <= 1
    assert "-" in table(found)


def test_prior_of_another_autoencoder(image_autoencoder: Path, image_prior: Path, tmp_path: Path) -> None:
    model, _ = load_autoencoder(image_autoencoder)
    assert load_prior(image_prior, image_autoencoder, model).codebook_size == 8
    state = torch.load(image_autoencoder, weights_only=False)
    state["model"]["quantizer.codebook"] += 0.1
    other = tmp_path / "other.pt"
    torch.save(state, other)
    changed, _ = load_autoencoder(other)
    with pytest.raises(DataError, match="was trained on the codes of another autoencoder"):
        load_prior(image_prior, other, changed)
    with pytest.raises(DataError, match="is no prior over codes"):
        load_prior(image_autoencoder, image_autoencoder, model)
    with pytest.raises(DataError, match=r"none\.pt"):
        load_prior(tmp_path / "none.pt", image_autoencoder, model)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, text=True, capture_output=True)


def test_evaluation_as_users_type_it(
    image_autoencoder: Path, image_prior: Path, picture_folder: Path, tmp_path: Path
) -> None:
    words = (
        "scripts/evaluate_images.py",
        image_autoencoder,
        "--data",
        picture_folder,
        "--prior",
        image_prior,
    )
    flags = ("--earlier", image_autoencoder, "--samples", "4", "--pictures", "10", "--out", tmp_path, "--cpu")
    done = run(*words, *flags)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "images.json").read_text())
    assert result["pictures"] == TEST and result["bits_per_dim"]["total"] > 0
    assert "bits/dim, learned prior" in done.stdout and "images.json" in done.stdout
    sizes = {path.name: Image.open(path).size for path in tmp_path.glob("*.png")}
    pixel, gap = 2 * SIZE, 2
    # Columns by rows: 8 x (2 rows of originals, each over its copies), 8 codes in one row, 4 samples, 8 x 3.
    assert sizes["reconstructions.png"] == (8 * (pixel + gap) + gap, 4 * (pixel + gap) + gap)
    assert sizes["codes.png"] == (8 * (pixel + gap) + gap, pixel + 2 * gap)
    assert sizes["samples.png"] == (4 * (pixel + gap) + gap, pixel + 2 * gap)
    assert sizes["progress.png"] == (8 * (pixel + gap) + gap, 3 * (pixel + gap) + gap)
    wrong = run(*words[:4], "--prior", image_autoencoder, "--out", tmp_path)
    assert wrong.returncode == 1 and "is no prior over codes" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    wrong = run(*words, "--samples", "0")
    assert wrong.returncode == 2 and "--samples 0: needs at least 1" in wrong.stderr


def test_code_grids_round_trip(image_autoencoder: Path, picture_folder: Path, tmp_path: Path) -> None:
    model, size = load_autoencoder(image_autoencoder)
    assert encode(model, size, picture_folder / "test", tmp_path / "codes.npz") == TEST
    names, codes = read_codes(model, tmp_path / "codes.npz")
    expected_names, images = read_pictures(picture_folder / "test", SIZE)
    assert names == expected_names
    assert np.array_equal(codes, model.encode_codes(torch.from_numpy(images)).numpy())
    assert decode(model, tmp_path / "codes.npz", tmp_path / "again") == TEST
    again, restored = read_pictures(tmp_path / "again", SIZE)
    assert again == names
    with torch.no_grad():
        expected = to_levels(model.likelihood.mean(model.decode_codes(torch.from_numpy(codes))))
    assert np.array_equal(restored, expected.numpy())


def test_code_grids_as_users_type_it(image_autoencoder: Path, picture_folder: Path, tmp_path: Path) -> None:
    test, file = picture_folder / "test", tmp_path / "codes.npz"
    done = run("scripts/image_codes.py", "encode", image_autoencoder, test, file)
    assert done.returncode == 0 and f"{TEST} pictures in {file}" in done.stdout, done.stderr
    shutil.copy(file, tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes(file.read_bytes()[:100])
    wrong = run("scripts/image_codes.py", "decode", image_autoencoder, tmp_path / "cut.npz", tmp_path / "out")
    assert wrong.returncode == 1 and "cut.npz: cannot be read as codes" in wrong.stderr
    assert "Traceback" not in wrong.stderr and not (tmp_path / "out").exists()


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
