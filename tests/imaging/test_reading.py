"""Reading images: three layouts, the cache, and images that cannot be used."""

import contextlib
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets as datasets
from PIL import Image
from scipy.io import savemat
from tiny_images import HELD_OUT, SIZE, TEST, TRAIN, make_images

from vqnat_plugin.errors import DataError, UsageError
from vqnat_plugin.imaging import reading
from vqnat_plugin.imaging.cache import make_once
from vqnat_plugin.imaging.dataset import ArrayDataset, ImageDataset
from vqnat_plugin.imaging.reading import are_jpeg, open_split, read_images

DECODE = reading._decode


def everything(root: Path, cache: Path, split: str, size: int = SIZE) -> np.ndarray:
    return np.asarray(open_split(root, split, size, cache, HELD_OUT)[:])


def test_class_folders(image_folder: Path, tmp_path: Path) -> None:
    found = {split: everything(image_folder, tmp_path, split) for split in ("train", "valid", "test")}
    assert {name: len(images) for name, images in found.items()} == {
        "train": TRAIN - HELD_OUT,
        "valid": HELD_OUT,
        "test": TEST,
    }
    # Class by class, in the order of the names.
    test = make_images(TEST, 2)
    assert np.array_equal(found["test"], np.concatenate([test[::2], test[1::2]]))
    both = np.concatenate([found["train"], found["valid"]])
    assert {image.tobytes() for image in both} == {image.tobytes() for image in make_images(TRAIN, 1)}


def test_the_same_images_are_held_out_every_time(image_folder: Path, tmp_path: Path) -> None:
    first = everything(image_folder, tmp_path / "a", "valid")
    assert np.array_equal(first, everything(image_folder, tmp_path / "b", "valid"))


def test_images_are_decoded_once_and_anew_after_a_change(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = tmp_path / "images", tmp_path / "cache"
    shutil.copytree(image_folder, root)
    first = everything(root, cache, "test")
    [file] = cache.glob("test-*.npy")
    with monkeypatch.context() as patched:
        patched.setattr("vqnat_plugin.imaging.reading.read_image", lambda *_: pytest.fail("decoded again"))
        assert np.array_equal(everything(root, cache, "test"), first)
    (root / "test" / "a" / "000.png").unlink()
    second = everything(root, cache, "test")
    assert len(second) == TEST - 1 and np.array_equal(second, first[1:])
    assert [new for new in cache.glob("test-*.npy")] != [file] and not file.exists()


@pytest.mark.parametrize("cache", ["cache", "test/cache"])
def test_a_cache_below_the_images_is_no_change(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    root = tmp_path / "images"
    shutil.copytree(image_folder, root)
    first = everything(root, root / cache, "train")
    (root / "run").mkdir()
    (root / "run" / "checkpoint_last.pt").touch()
    monkeypatch.setattr("vqnat_plugin.imaging.reading._decode", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(everything(root, root / cache, "train"), first)


def test_one_process_decodes_and_the_others_wait(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, both = [], threading.Barrier(2)

    def decode(*arguments: Any) -> None:
        decoding.append(arguments)
        # Two of them would meet here.
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.5)
        DECODE(*arguments)

    monkeypatch.setattr("vqnat_plugin.imaging.reading._decode", decode)
    with ThreadPoolExecutor(3) as ranks:
        found = list(ranks.map(lambda _: everything(image_folder, tmp_path / "cache", "test"), range(3)))
    assert len(decoding) == 1 and [len(images) for images in found] == [TEST] * 3
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npy"]


def test_a_process_that_fails_lets_the_next_one_try(tmp_path: Path) -> None:
    made = tmp_path / "cache" / "codes.npy"

    def fail(_: Path) -> None:
        raise DataError("no")

    def make(file: Path) -> None:
        np.save(file, np.ones((2, 3), np.uint8))

    with pytest.raises(DataError):
        make_once(made, (2, 3), np.uint8, fail)
    assert not made.parent.exists()
    make_once(made, (2, 3), np.uint8, make)
    assert np.array_equal(make_once(made, (2, 3), np.uint8, fail), np.ones((2, 3)))


def test_codes_that_cannot_be_are_made_anew(tmp_path: Path) -> None:
    made = tmp_path / "codes.npy"
    for forged in (np.full((2, 3), 16, np.int32), np.full((2, 3), -1, np.int32)):
        np.save(made, forged)
        found = make_once(made, (2, 3), np.int32, lambda file: np.save(file, np.ones((2, 3), np.int32)), 16)
        assert (found == 1).all()


def test_only_what_was_written_here_is_deleted_from_a_cache(image_folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / f"test-{SIZE}-mine.npy"
    mine.touch()
    open_split(image_folder, "test", SIZE, tmp_path, 0)
    assert mine.exists()


def test_jpeg_files_are_copies(image_folder: Path, tmp_path: Path) -> None:
    assert not are_jpeg(image_folder)
    (tmp_path / "train" / "cats").mkdir(parents=True)
    (tmp_path / "train" / "cats" / "1.JPG").touch()
    assert are_jpeg(tmp_path)


def test_a_decoding_that_was_stopped_leaves_nothing(image_folder: Path, tmp_path: Path) -> None:
    root, cache = tmp_path / "images", tmp_path / "cache"
    shutil.copytree(image_folder, root)
    broken = root / "test" / "b" / "011.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(DataError, match=r"011\.png: cannot be read as an image"):
        everything(root, cache, "test")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("mode", "size", "message"),
    [
        ("I;16", (SIZE, SIZE), "odd.png: has colour mode I;16, needs RGB"),
        ("RGBA", (SIZE, SIZE), "odd.png: has colour mode RGBA, needs RGB without transparent pixels"),
        ("RGB", (SIZE, 2 * SIZE), f"odd.png: has 8x16 pixels, needed are {SIZE}x{SIZE} "),
    ],
)
def test_images_of_another_form(
    image_folder: Path, tmp_path: Path, mode: str, size: tuple[int, int], message: str
) -> None:
    root = tmp_path / "images"
    shutil.copytree(image_folder, root)
    Image.new(mode, size).save(root / "test" / "a" / "odd.png")
    with pytest.raises(DataError, match=message):
        everything(root, tmp_path / "cache", "test")


def test_folders_that_hold_nothing(image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none: no such folder of images"):
        everything(tmp_path / "none", tmp_path / "cache", "train")
    with pytest.raises(DataError, match="holds neither 'train' with class folders"):
        everything(tmp_path, tmp_path / "cache", "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="train: holds no images"):
        everything(tmp_path, tmp_path / "cache", "train")
    (tmp_path / "train" / "cats").mkdir()
    with pytest.raises(DataError, match="train: holds no images"):
        everything(tmp_path, tmp_path / "cache", "train")
    with pytest.raises(UsageError, match=f"--valid-size {TRAIN}: has to leave some of the {TRAIN}"):
        open_split(image_folder, "train", SIZE, tmp_path / "cache", TRAIN)
    with pytest.raises(UsageError, match="--valid-size 0: leaves no images for subset 'valid'"):
        open_split(image_folder, "valid", SIZE, tmp_path / "cache", 0)


def big(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def test_cifar10_as_torchvision_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [f"data_batch_{number}" for number in range(1, 6)]
    batches = {name: big(4, number) for number, name in enumerate([*names, "test_batch"])}
    for name, images in batches.items():
        content = {"data": images.reshape(4, -1), "labels": [0, 1, 2, 3]}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcd")}))
    assert np.array_equal(everything(tmp_path, tmp_path / "cache", "test", 32), batches["test_batch"])
    found = [everything(tmp_path, tmp_path / "cache", split, 32) for split in ("train", "valid")]
    expected = np.concatenate([batches[name] for name in names])
    assert {p.tobytes() for p in np.concatenate(found)} == {p.tobytes() for p in expected}
    with pytest.raises(UsageError, match=r"the images have 32x32 pixels, needed are 8x8"):
        everything(tmp_path, tmp_path / "cache", "test", 8)


def test_svhn_as_torchvision_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
    images = big(12, 1)
    labels = np.arange(1, 13)[:, None] % 10
    for split in ("train", "test"):
        savemat(tmp_path / f"{split}_32x32.mat", {"X": images.transpose(2, 3, 1, 0), "y": labels})
    assert np.array_equal(everything(tmp_path, tmp_path / "cache", "test", 32), images)


def test_damaged_cifar10(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match=r"torchvision cannot read cifar10 there .* --download-data cifar10"):
        everything(tmp_path, tmp_path / "cache", "train", 32)


def test_read_images_in_the_order_of_their_names(image_folder: Path, tmp_path: Path) -> None:
    names, images = read_images(image_folder / "test", SIZE)
    assert names == sorted(names) and names[0] == "a/000.png" and len(names) == TEST
    assert np.array_equal(images[0], make_images(TEST, 2)[0])
    with pytest.raises(DataError, match="holds no images"):
        read_images(tmp_path, SIZE)


def test_shifts_and_mirrors_depend_on_seed_epoch_and_number_alone() -> None:
    images = make_images(20, 3)

    def seen(epoch: int, seed: int = 1) -> list[bytes]:
        dataset = ImageDataset(images, crop=2, flip=True, seed=seed)
        dataset.set_epoch(epoch)
        return [dataset[number][1].tobytes() for number in range(20)]

    assert seen(1) == seen(1) and seen(1) != seen(2) and seen(1) != seen(1, seed=2)
    allowed = []
    for image in images:
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), "edge")
        shifted = [padded[:, y : y + SIZE, x : x + SIZE] for y in range(5) for x in range(5)]
        mirrored = np.pad(image[:, :, ::-1], ((0, 0), (2, 2), (2, 2)), "edge")
        shifted += [mirrored[:, y : y + SIZE, x : x + SIZE] for y in range(5) for x in range(5)]
        allowed.append({np.ascontiguousarray(each).tobytes() for each in shifted})
    assert all(one in many for one, many in zip(seen(5), allowed, strict=True))
    plain = ImageDataset(images)
    assert all(np.array_equal(plain[number][1], images[number]) for number in range(20))


def test_shifts_change_in_processes_that_read() -> None:
    """fairseq's data loader, and the datasets in its processes, live on over epochs."""
    dataset = ImageDataset(make_images(6, 3), crop=2, flip=True)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=6, collate_fn=dataset.collater, num_workers=1, persistent_workers=True
    )
    for epoch in (1, 2, 3):
        dataset.set_epoch(epoch)
        (batch,) = loader
        expected = np.stack([dataset[number][1] for number in range(6)])
        assert np.array_equal(batch["net_input"]["images"], expected)


def test_batches() -> None:
    dataset = ArrayDataset(make_images(5, 1), "images", 3 * SIZE * SIZE)
    batch = dataset.collater([dataset[3], dataset[0]])
    assert batch["id"].tolist() == [3, 0] and batch["nsentences"] == 2
    assert batch["ntokens"] == 2 * 3 * SIZE * SIZE
    assert np.array_equal(batch["net_input"]["images"].numpy(), make_images(5, 1)[[3, 0]])
    assert dataset.collater([]) == {}
    assert sorted(dataset.ordered_indices()) == list(range(5))
