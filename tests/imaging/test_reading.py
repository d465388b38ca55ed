"""Reading pictures: three layouts, the cache, and pictures that cannot be used."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets as datasets
from PIL import Image
from scipy.io import savemat
from tiny_images import HELD_OUT, SIZE, TEST, TRAIN, pictures

from vqnat_plugin.errors import UsageError
from vqnat_plugin.imaging.dataset import ArrayDataset, ImageDataset
from vqnat_plugin.imaging.reading import open_split, read_pictures


def everything(root: Path, cache: Path, split: str, size: int = SIZE) -> np.ndarray:
    return np.asarray(open_split(root, split, size, cache, HELD_OUT)[:])


def test_class_folders(picture_folder: Path, tmp_path: Path) -> None:
    found = {split: everything(picture_folder, tmp_path, split) for split in ("train", "valid", "test")}
    assert {name: len(images) for name, images in found.items()} == {
        "train": TRAIN - HELD_OUT,
        "valid": HELD_OUT,
        "test": TEST,
    }
    # Class by class, in the order of the names.
    test = pictures(TEST, 2)
    assert np.array_equal(found["test"], np.concatenate([test[::2], test[1::2]]))
    both = np.concatenate([found["train"], found["valid"]])
    assert {picture.tobytes() for picture in both} == {picture.tobytes() for picture in pictures(TRAIN, 1)}


def test_the_same_pictures_are_held_out_every_time(picture_folder: Path, tmp_path: Path) -> None:
    first = everything(picture_folder, tmp_path / "a", "valid")
    assert np.array_equal(first, everything(picture_folder, tmp_path / "b", "valid"))


def test_pictures_are_decoded_once_and_anew_after_a_change(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = tmp_path / "pictures", tmp_path / "cache"
    shutil.copytree(picture_folder, root)
    first = everything(root, cache, "test")
    [file] = cache.glob("test-*.npy")
    with monkeypatch.context() as patched:
        patched.setattr("vqnat_plugin.imaging.reading._read", lambda *_: pytest.fail("decoded again"))
        assert np.array_equal(everything(root, cache, "test"), first)
    (root / "test" / "a" / "000.png").unlink()
    second = everything(root, cache, "test")
    assert len(second) == TEST - 1 and np.array_equal(second, first[1:])
    assert [new for new in cache.glob("test-*.npy")] != [file] and not file.exists()


def test_a_decoding_that_was_stopped_leaves_nothing(picture_folder: Path, tmp_path: Path) -> None:
    root, cache = tmp_path / "pictures", tmp_path / "cache"
    shutil.copytree(picture_folder, root)
    broken = root / "test" / "b" / "011.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(UsageError, match=r"011\.png: cannot be read as a picture"):
        everything(root, cache, "test")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "size", "message"),
    [
        ("L", (SIZE, SIZE), "odd.png: has colour mode L, needs RGB"),
        ("RGBA", (SIZE, SIZE), "odd.png: has colour mode RGBA, needs RGB"),
        ("RGB", (SIZE, 2 * SIZE), f"odd.png: has 8x16 pixels, but --image-size is {SIZE}"),
    ],
)
def test_pictures_of_another_form(
    picture_folder: Path, tmp_path: Path, mode: str, size: tuple[int, int], message: str
) -> None:
    root = tmp_path / "pictures"
    shutil.copytree(picture_folder, root)
    Image.new(mode, size).save(root / "test" / "a" / "odd.png")
    with pytest.raises(UsageError, match=message):
        everything(root, tmp_path / "cache", "test")


def test_folders_that_hold_nothing(picture_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none: no such folder of pictures"):
        everything(tmp_path / "none", tmp_path / "cache", "train")
    with pytest.raises(UsageError, match="holds neither 'train' with class folders"):
        everything(tmp_path, tmp_path / "cache", "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(UsageError, match="train: Couldn't find any class folder"):
        everything(tmp_path, tmp_path / "cache", "train")
    (tmp_path / "train" / "cats").mkdir()
    with pytest.raises(UsageError, match="train: Found no valid file"):
        everything(tmp_path, tmp_path / "cache", "train")
    with pytest.raises(UsageError, match=f"--valid-size {TRAIN}: has to leave some of the {TRAIN}"):
        open_split(picture_folder, "train", SIZE, tmp_path / "cache", TRAIN)


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
    with pytest.raises(UsageError, match=r"--image-size 8: the pictures in .* have 32"):
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
    with pytest.raises(UsageError, match=r"torchvision cannot read cifar10 there .* --download-data cifar10"):
        everything(tmp_path, tmp_path / "cache", "train", 32)


def test_read_pictures_in_the_order_of_their_names(picture_folder: Path, tmp_path: Path) -> None:
    names, images = read_pictures(picture_folder / "test", SIZE)
    assert names == sorted(names) and names[0] == "a/000.png" and len(names) == TEST
    assert np.array_equal(images[0], pictures(TEST, 2)[0])
    with pytest.raises(UsageError, match="holds no pictures"):
        read_pictures(tmp_path, SIZE)


def test_shifts_and_mirrors_depend_on_seed_epoch_and_number_alone() -> None:
    images = pictures(20, 3)

    def seen(epoch: int, seed: int = 1) -> list[bytes]:
        dataset = ImageDataset(images, crop=2, flip=True, seed=seed)
        dataset.set_epoch(epoch)
        return [dataset[number][1].tobytes() for number in range(20)]

    assert seen(1) == seen(1) and seen(1) != seen(2) and seen(1) != seen(1, seed=2)
    allowed = []
    for picture in images:
        padded = np.pad(picture, ((0, 0), (2, 2), (2, 2)), "edge")
        shifted = [padded[:, y : y + SIZE, x : x + SIZE] for y in range(5) for x in range(5)]
        mirrored = np.pad(picture[:, :, ::-1], ((0, 0), (2, 2), (2, 2)), "edge")
        shifted += [mirrored[:, y : y + SIZE, x : x + SIZE] for y in range(5) for x in range(5)]
        allowed.append({np.ascontiguousarray(each).tobytes() for each in shifted})
    assert all(one in many for one, many in zip(seen(5), allowed, strict=True))
    plain = ImageDataset(images)
    assert all(np.array_equal(plain[number][1], images[number]) for number in range(20))


def test_batches() -> None:
    dataset = ArrayDataset(pictures(5, 1), "images", 3 * SIZE * SIZE)
    batch = dataset.collater([dataset[3], dataset[0]])
    assert batch["id"].tolist() == [3, 0] and batch["nsentences"] == 2
    assert batch["ntokens"] == 2 * 3 * SIZE * SIZE
    assert np.array_equal(batch["net_input"]["images"].numpy(), pictures(5, 1)[[3, 0]])
    assert dataset.collater([]) == {}
    assert sorted(dataset.ordered_indices()) == list(range(5))
