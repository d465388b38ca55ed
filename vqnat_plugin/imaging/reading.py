"""Pictures of a folder as one memory-mapped array: torchvision's CIFAR-10 and SVHN, or class folders."""

import hashlib
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from torchvision.datasets import CIFAR10, SVHN, ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS
from tqdm import tqdm

from ..errors import UsageError
from ..files import write_atomically

DOWNLOADS = ("none", "cifar10", "svhn")
FOLDERS = ("train", "test")
# Held out of the training pictures, the same ones whatever the machine.
HOLD_OUT_SEED = 1


class Subset:
    """Some rows of an array, read when they are asked for."""

    def __init__(self, images: np.ndarray, rows: np.ndarray) -> None:
        self.images, self.rows = images, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.images[self.rows[index]]


def fingerprint(root: Path) -> str:
    """Digest of names, sizes and times of all files below `root`: changes when the pictures do."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            stat = path.stat()
            entry = f"{path.relative_to(root)}\t{stat.st_size}\t{stat.st_mtime_ns}\n"
            digest.update(entry.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def open_split(
    root: Path, split: str, size: int, cache: Path, held_out: int, download: str = "none"
) -> np.ndarray | Subset:
    """All pictures of a split, (pictures, 3, size, size) uint8, memory-mapped, each decoded once.

    Args:
        root: torchvision's layout of CIFAR-10 (`cifar-10-batches-py`) or SVHN (`*_32x32.mat`), or `train` and
            `test` with a folder of pictures for each class.
        split: "train", "test" or "valid", which is `held_out` pictures of the training folder; "train" is
            the others.
        size: height and width that every picture has to have.
        cache: folder for the decoded pictures; they are decoded anew when `root` has changed.
        held_out: number of validation pictures.
        download: "cifar10" or "svhn" lets torchvision fetch them into `root` first.

    Raises:
        UsageError: nothing is there, a picture is broken or has another form, or too many are held out.
    """
    folder = "test" if split == "test" else "train"
    if not root.is_dir() and download == "none":
        raise UsageError(f"{root}: no such folder of pictures (--download-data cifar10 or svhn fetches some)")
    file = cache / f"{folder}-{size}-{fingerprint(root)}.npy" if root.is_dir() else None
    if file is None or not file.is_file():
        read, count = _find(root, folder, size, download)
        file = cache / f"{folder}-{size}-{fingerprint(root)}.npy"
        if not file.is_file():
            write_atomically(file, lambda part: _decode(part, read(), count, size, folder))
            for old in cache.glob(f"{folder}-{size}-*.npy"):
                if old != file:
                    old.unlink(missing_ok=True)
    images = np.load(file, mmap_mode="r")
    if folder == "test":
        return images
    if not 0 <= held_out < len(images):
        raise UsageError(
            f"--valid-size {held_out}: has to leave some of the {len(images)} training pictures in {root}"
        )
    order = np.random.default_rng(HOLD_OUT_SEED).permutation(len(images))
    chosen = np.sort(order[:held_out] if split == "valid" else order[held_out:])
    return Subset(images, chosen)


Read = Callable[[], Iterator[np.ndarray]]


def _decode(part: Path, pictures: Iterator[np.ndarray], count: int, size: int, title: str) -> None:
    array = np.lib.format.open_memmap(part, "w+", np.uint8, (count, 3, size, size))
    for number, picture in enumerate(tqdm(pictures, f"decode {title}", count, unit="img", disable=None)):
        array[number] = picture
    array.flush()


def _find(root: Path, folder: str, size: int, download: str) -> tuple[Read, int]:
    """How to read the pictures of a folder, each (3, size, size), and how many there are."""
    is_cifar = download == "cifar10" or (root / CIFAR10.base_folder).is_dir()
    is_svhn = download == "svhn" or any(root.glob("*_32x32.mat"))
    if is_cifar or is_svhn:
        data = _from_torchvision(root, folder, "cifar10" if is_cifar else "svhn", download != "none")
        if data.shape[2] != size:
            raise UsageError(f"--image-size {size}: the pictures in {root} have {data.shape[2]}")
        return lambda: iter(data), len(data)
    if not (root / folder).is_dir():
        raise UsageError(
            f"{root}: holds neither '{folder}' with class folders of pictures, nor CIFAR-10, nor SVHN "
            "(--download-data cifar10 or svhn fetches those)"
        )
    try:
        paths = [Path(path) for path, _ in ImageFolder(str(root / folder)).samples]
    except FileNotFoundError as error:
        raise UsageError(f"{root / folder}: {str(error).splitlines()[0]}") from None
    return lambda: (_read(path, size) for path in paths), len(paths)


def _from_torchvision(root: Path, folder: str, name: str, download: bool) -> np.ndarray:
    """(pictures, 3, 32, 32)."""
    try:
        if name == "cifar10":
            cifar = CIFAR10(str(root), train=folder == "train", download=download)
            return np.ascontiguousarray(cifar.data.transpose(0, 3, 1, 2))
        return np.asarray(SVHN(str(root), split=folder, download=download).data)
    except (RuntimeError, OSError, ValueError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{root}: torchvision cannot read {name} there ({reason}); --download-data {name} fetches it"
        ) from None


def _read(path: Path, size: int) -> np.ndarray:
    """One picture, (3, size, size)."""
    try:
        with Image.open(path) as image:
            image.load()
            mode, shape = image.mode, image.size
            pixels = np.asarray(image)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path}: cannot be read as a picture ({error})") from None
    if mode != "RGB":
        raise UsageError(f"{path}: has colour mode {mode}, needs RGB; convert it first")
    if shape != (size, size):
        raise UsageError(
            f"{path}: has {shape[0]}x{shape[1]} pixels, but --image-size is {size}; scale it first"
        )
    return pixels.transpose(2, 0, 1)


def is_picture(path: Path) -> bool:
    """Whether a file's name ends like that of a picture."""
    return path.suffix.lower() in IMG_EXTENSIONS


def read_pictures(folder: Path, size: int) -> tuple[list[str], np.ndarray]:
    """Names and (pictures, 3, size, size) of all pictures below a folder, in the order of their names.

    Raises:
        UsageError: there are none, or one is broken or has another form.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and is_picture(path))
    if not paths:
        raise UsageError(f"{folder}: holds no pictures ({', '.join(IMG_EXTENSIONS)})")
    bar = tqdm(paths, "read", unit="img", disable=None)
    return [str(path.relative_to(folder)) for path in paths], np.stack([_read(path, size) for path in bar])
