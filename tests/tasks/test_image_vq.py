"""The image task through fairseq-train: both stages, resuming, several processes, and wrong companions."""

import contextlib
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fairseq import tasks
from tiny import different, parse
from tiny_images import AUTOENCODER, HELD_OUT, PRIOR, SIZE, TRAIN, TRAINING, make_images, train_images

from vqnat_plugin.errors import CheckpointError, UsageError, UserError
from vqnat_plugin.imaging.models import encode_images, load_autoencoder

ROOT = Path(__file__).parents[2]


def saved(checkpoint: Path) -> dict[str, Any]:
    return dict(torch.load(checkpoint, weights_only=False))


def setup(data: Path, out: Path, kind: str, *flags: str) -> tuple[Any, Any]:
    cfg = parse([str(data), "--save-dir", str(out), *kind.split(), *TRAINING.split(), *flags])
    return cfg, tasks.setup_task(cfg.task)


def test_it_learns(image_autoencoder: Path) -> None:
    state = saved(image_autoencoder)
    assert state["optimizer_history"][-1]["num_updates"] == 200
    model = load_autoencoder(image_autoencoder)
    assert model.image_size == SIZE and model.quantizer.initialized
    images = torch.from_numpy(make_images(32, 9))
    fresh = type(model)(model.config, SIZE).eval()
    fresh.quantizer.set_codebook(model.quantizer.codebook)
    with torch.no_grad():
        assert float(model(images).losses["pixels"]) < 0.9 * float(fresh(images).losses["pixels"])


def test_prior_learns_the_codes(image_prior: Path, image_autoencoder: Path, image_folder: Path) -> None:
    state = saved(image_prior)["model"]
    model = load_autoencoder(image_autoencoder)
    assert int(state["digest"]) == model.digest()
    _, task = setup(image_folder, image_prior.parent, PRIOR, "--codes-from", str(image_autoencoder))
    prior = task.build_model(parse_model(image_folder, image_autoencoder))
    prior.load_state_dict(state)
    task.load_dataset("valid")
    codes = torch.from_numpy(np.asarray(task.dataset("valid").rows))
    with torch.no_grad():
        bits = -prior.eval().log_probability(codes).mean() / codes[0].numel() / np.log(2)
    assert float(bits) < 0.9 * np.log2(model.config.codebook_size)


def parse_model(data: Path, autoencoder: Path) -> Any:
    return parse([str(data), *PRIOR.split(), *TRAINING.split(), "--codes-from", str(autoencoder)]).model


def test_codes_are_those_of_the_images_and_made_once(
    image_folder: Path, image_autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pixels = setup(image_folder, tmp_path, AUTOENCODER)
    flags = ("--codes-from", str(image_autoencoder), "--flip")
    _, codes = setup(image_folder, tmp_path, PRIOR, *flags)
    for task in (pixels, codes):
        for split in ("train", "valid"):
            task.load_dataset(split)
    count = TRAIN - HELD_OUT
    assert len(codes.dataset("train")) == 2 * count and len(codes.dataset("valid")) == HELD_OUT
    model = load_autoencoder(image_autoencoder)
    images = torch.stack([torch.from_numpy(pixels.dataset("train")[i][1]) for i in range(count)])
    expected = torch.cat([model.encode_codes(images), model.encode_codes(images.flip(3))]).numpy()
    assert np.array_equal(codes.dataset("train").rows, expected)
    assert codes.dataset("train").rows.itemsize == 1
    assert codes.dataset("train").collater([codes.dataset("train")[0]])["ntokens"] == 3 * SIZE * SIZE
    monkeypatch.setattr("vqnat_plugin.tasks.image_vq.encode_images", lambda *_: pytest.fail("made again"))
    _, again = setup(image_folder, tmp_path, PRIOR, *flags)
    again.load_dataset("train")
    assert np.array_equal(again.dataset("train").rows, expected)


def test_codes_are_made_anew_where_their_file_is_damaged(
    image_folder: Path, image_autoencoder: Path, tmp_path: Path
) -> None:
    def codes() -> np.ndarray:
        _, task = setup(image_folder, tmp_path, PRIOR, "--codes-from", str(image_autoencoder))
        task.load_dataset("valid")
        return np.array(task.dataset("valid").rows)

    first = codes()
    [file] = (tmp_path / "images").glob("codes-valid-*.npy")
    whole = file.read_bytes()
    for content in (b"", b"no array", whole[:-1]):
        file.write_bytes(content)
        assert np.array_equal(codes(), first) and file.read_bytes() == whole


@pytest.mark.parametrize("gpu", [True, False])
def test_codes_are_made_on_the_gpu(
    image_folder: Path,
    image_autoencoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpu: bool,
) -> None:
    used = []

    def encode(model: torch.nn.Module, images: Any, *_: Any) -> np.ndarray:
        used.append(next(model.parameters()).device.type)
        return np.zeros((len(images), 2, 2, 4))

    def device(cpu: bool) -> torch.device:
        # "meta" stands for a GPU.
        return torch.device("meta" if gpu and not cpu else "cpu")

    monkeypatch.setattr("vqnat_plugin.tasks.image_vq.encode_images", encode)
    monkeypatch.setattr("vqnat_plugin.tasks.image_vq.available_device", device)
    for number, cpu in enumerate((True, False)):
        words = [*PRIOR.split(), *TRAINING.replace("--cpu", "--cpu" if cpu else "").split()]
        words += ["--codes-from", str(image_autoencoder), "--image-cache", str(tmp_path / str(number))]
        task = tasks.setup_task(parse([str(image_folder), *words]).task)
        task.load_dataset("valid")
    assert used == ["cpu", "meta" if gpu else "cpu"]


def test_one_rank_encodes_and_the_others_wait(
    image_folder: Path, image_autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoding, both = [], threading.Barrier(2)

    def encode(*arguments: Any) -> np.ndarray:
        encoding.append(arguments)
        # Two of them would meet here.
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.5)
        return encode_images(*arguments)

    monkeypatch.setattr("vqnat_plugin.tasks.image_vq.encode_images", encode)
    ranks = [setup(image_folder, tmp_path, PRIOR, f"--codes-from={image_autoencoder}")[1] for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda task: task.load_dataset("valid"), ranks))
    assert len(encoding) == 1
    first, second = (task.dataset("valid").rows for task in ranks)
    assert np.array_equal(first, second) and len(first) == HELD_OUT


@pytest.mark.parametrize("kind", [AUTOENCODER, PRIOR])
def test_resumed_training_is_the_uninterrupted_one(
    image_folder: Path, image_autoencoder: Path, tmp_path: Path, kind: str
) -> None:
    flags = ["--crop=1", "--flip"] if kind == AUTOENCODER else [f"--codes-from={image_autoencoder}"]
    whole = train_images(image_folder, tmp_path / "whole", kind, *flags, "--max-update=10")
    # In the middle of the second epoch of four batches.
    train_images(image_folder, tmp_path / "parts", kind, *flags, "--max-update=6")
    parts = train_images(image_folder, tmp_path / "parts", kind, *flags, "--max-update=10")
    assert different(saved(whole)["model"], saved(parts)["model"]) == []


def test_a_training_does_not_go_on_with_another_grid(image_folder: Path, tmp_path: Path) -> None:
    flags = ["--bottleneck=fsq", "--unquantized-updates=0", "--disable-validation"]
    train_images(image_folder, tmp_path, AUTOENCODER, *flags, "--codebook-size=8", "--max-update=1")
    with pytest.raises(UsageError, match="--codebook-size was 8, is now 7; "):
        train_images(image_folder, tmp_path, AUTOENCODER, *flags, "--codebook-size=7", "--max-update=2")


@pytest.mark.slow
def test_two_processes_equal_one(image_folder: Path, tmp_path: Path) -> None:
    flags = ["--bottleneck=hard", "--unquantized-updates=1", "--code-revival=0", "--em-decay=0.8"]
    flags += ["--optimizer=sgd", "--lr=0.01", "--max-epoch=2"]
    words = f"-m vqnat_plugin train --workers 2 {image_folder} --save-dir {tmp_path / 'two'}"
    command = [sys.executable, *words.split(), *AUTOENCODER.split(), *TRAINING.split(), *flags]
    together = subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    train_images(image_folder, tmp_path / "one", AUTOENCODER, *flags, "--update-freq=2")
    output, _ = together.communicate(timeout=500)
    assert together.returncode == 0, output[-3000:]
    one, two = (saved(tmp_path / name / "checkpoint_last.pt") for name in ("one", "two"))
    assert [state["optimizer_history"][-1]["num_updates"] for state in (one, two)] == [4, 4]
    torch.testing.assert_close(one["model"], two["model"], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        (AUTOENCODER, ["--image-size", "30"], "--image-size 30: needs a multiple of 4"),
        (AUTOENCODER, ["--crop", "-1"], "--crop -1: needs at least 0"),
        (AUTOENCODER, ["--codes-from", "CHECKPOINT"], "is for --arch vq_image_prior; leave it out"),
        (PRIOR, ["--codes-from", "CHECKPOINT", "--crop", "2"], "--crop 2: is for images; leave it out"),
        (PRIOR, [], "--arch vq_image_prior: add --task image_vq --codes-from CHECKPOINT"),
        (PRIOR, ["--codes-from", "none.pt"], "--codes-from none.pt: "),
        (PRIOR, ["--codes-from", "CHECKPOINT", "--image-size", "16"], "was trained with --image-size 8"),
        (PRIOR, ["--codes-from", "PRIOR"], "is no image autoencoder"),
    ],
)
def test_flags_that_do_not_go_together(
    image_folder: Path,
    image_autoencoder: Path,
    image_prior: Path,
    tmp_path: Path,
    kind: str,
    flags: list[str],
    message: str,
) -> None:
    paths = {"CHECKPOINT": str(image_autoencoder), "PRIOR": str(image_prior)}
    with pytest.raises(UserError, match=message):
        cfg, task = setup(image_folder, tmp_path, kind, *(paths.get(flag, flag) for flag in flags))
        task.build_model(cfg.model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("vq_vae_em_tiny", "transformer"), "--task image_vq cannot drive --arch transformer"),
        (("vq_vae_loss", "cross_entropy"), "--task image_vq cannot be driven by --criterion cross_entropy"),
    ],
)
def test_companions_that_cannot_work(
    image_folder: Path, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    words = AUTOENCODER.replace(*change)
    for flag in ("--channels 16", "--codebook-size 8", "--code-dim 4", "--unquantized-updates 3"):
        words = words.replace(flag, "") if change[1] == "transformer" else words
    with pytest.raises(UsageError, match=message):
        cfg, task = setup(image_folder, tmp_path, words)
        task.build_model(cfg.model)
        task.build_criterion(cfg.criterion)


def test_an_autoencoder_that_is_written_meanwhile_is_refused(
    image_folder: Path, image_autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its codes would be kept under the name of another one."""
    path = tmp_path / "checkpoint_best.pt"
    shutil.copy(image_autoencoder, path)

    def replaced(path: Path) -> Any:
        model = load_autoencoder(path)
        path.write_bytes(b"another")
        return model

    monkeypatch.setattr("vqnat_plugin.tasks.image_vq.load_autoencoder", replaced)
    with pytest.raises(CheckpointError, match="is still written to; wait for that training"):
        setup(image_folder, tmp_path, PRIOR, "--codes-from", str(path))


def test_autoencoder_with_another_task() -> None:
    from vqnat_plugin.models.vq_vae import VQVAE

    class Task:
        cfg = type("cfg", (), {"_name": "translation"})

    with pytest.raises(UsageError, match="--arch vq_vae_em cannot be driven by --task translation"):
        VQVAE.build_model(None, Task())


def test_unknown_subset(image_folder: Path, tmp_path: Path) -> None:
    _, task = setup(image_folder, tmp_path, AUTOENCODER)
    with pytest.raises(UsageError, match="subset 'dev': needs one of train, valid, test"):
        task.load_dataset("dev")
