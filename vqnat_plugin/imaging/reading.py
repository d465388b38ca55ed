"""Images of a folder as one memory-mapped array: torchvision's CIFAR-10 and SVHN, or class folders."""

import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from torchvision.datasets import CIFAR10, SVHN, ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS
from tqdm import tqdm

from ..errors import DataError, UsageError
from ..files import write_atomically
from .cache import one_at_a_time

DOWNLOADS = ("none", "cifar10", "svhn")
FOLDERS = ("train", "test")
SVHN_FILES = "*_32x32.mat"
JPEG = (".jpg", ".jpeg")
# Held out of the training images, the same ones whatever the machine.
HOLD_OUT_SEED = 1


class Subset:
    """Some rows of an array, read when they are asked for."""

    def __init__(self, images: np.ndarray, rows: np.ndarray) -> None:
        self.images, self.rows = images, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.images[self.rows[index]]


def fingerprint(root: Path, cache: Path) -> str:
    """Digest of names, sizes and times of the files that images are read from: changes when they do.

    Args:
        root: folder of images, see `open_split`.
        cache: folder whose files do not count, wherever it lies.
    """
    digest = hashlib.sha256()
    sources = [root / CIFAR10.base_folder, *(root / name for name in FOLDERS)]
    for path in sorted([*_files(sources, cache.resolve()), *root.glob(SVHN_FILES)]):
        stat = path.stat()
        entry = f"{path.relative_to(root)}\t{stat.st_size}\t{stat.st_mtime_ns}\n"
        digest.update(entry.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _files(folders: Sequence[Path], cache: Path) -> Iterator[Path]:
    for folder in folders:
        # As torchvision reads class folders.
        for name, _, files in os.walk(folder, followlinks=True):
            resolved = Path(name).resolve()
            if resolved != cache and cache not in resolved.parents:
                yield from (path for path in (Path(name, file) for file in files) if path.is_file())


def are_jpeg(root: Path) -> bool:
    """Whether class folders hold JPEG files: lossy copies, smoother and easier to describe."""
    return any(path.suffix.lower() in JPEG for name in FOLDERS for path in (root / name).rglob("*"))


def open_split(
    root: Path, split: str, size: int, cache: Path, held_out: int, download: str = "none"
) -> np.ndarray | Subset:
    """All images of a split, (images, 3, size, size) uint8, memory-mapped, each decoded once.

    Args:
        root: torchvision's layout of CIFAR-10 (`cifar-10-batches-py`) or SVHN (`*_32x32.mat`), or `train` and
            `test` with a folder of images for each class.
        split: "train", "test" or "valid", which is `held_out` images of the training folder; "train" is the
            others.
        size: height and width that every image has to have.
        cache: folder for the decoded images; they are decoded anew when those in `root` have changed. Of
            several processes that need them one decodes, and the others wait.
        held_out: number of validation images.
        download: "cifar10" or "svhn" lets torchvision fetch them into `root` first.

    Raises:
        DataError: nothing is there, or an image is broken or has another form.
        UsageError: too many are held out, or all have another size.
    """
    folder = "test" if split == "test" else "train"
    images = np.load(_decoded(root, folder, size, cache, download), mmap_mode="r")
    if folder == "test":
        return images
    if not 0 <= held_out < len(images):
        raise UsageError(
            f"--valid-size {held_out}: has to leave some of the {len(images)} training images in {root}"
        )
    order = np.random.default_rng(HOLD_OUT_SEED).permutation(len(images))
    chosen = np.sort(order[:held_out] if split == "valid" else order[held_out:])
    return Subset(images, chosen)


def _decoded(root: Path, folder: str, size: int, cache: Path, download: str) -> Path:
    """The cache file of a folder's images, made if needed."""
    if not root.is_dir() and download == "none":
        raise DataError(f"{root}: no such folder of images (--download-data cifar10 or svhn fetches some)")

    def current() -> Path:
        return cache / f"{folder}-{size}-{fingerprint(root, cache)}.npy"

    if (file := current()).is_file():
        return file
    with one_at_a_time(cache, f"{folder}-{size}"):
        if not (file := current()).is_file():
            read, count = _find(root, folder, size, download)
            # Again: there may have been a download.
            file = current()
            write_atomically(file, lambda part: _decode(part, read(), count, size, folder))
            for old in cache.glob(f"{folder}-{size}-*.npy"):
                if old != file:
                    old.unlink(missing_ok=True)
    return file


Read = Callable[[], Iterator[np.ndarray]]


def _decode(part: Path, images: Iterator[np.ndarray], count: int, size: int, title: str) -> None:
    array = np.lib.format.open_memmap(part, "w+", np.uint8, (count, 3, size, size))
    for number, image in enumerate(tqdm(images, f"decode {title}", count, unit="img", disable=None)):
        array[number] = image
    array.flush()


def _find(root: Path, folder: str, size: int, download: str) -> tuple[Read, int]:
    """How to read the images of a folder, each (3, size, size), and how many there are."""
    is_cifar = download == "cifar10" or (root / CIFAR10.base_folder).is_dir()
    is_svhn = download == "svhn" or any(root.glob(SVHN_FILES))
    if is_cifar or is_svhn:
        data = _from_torchvision(root, folder, "cifar10" if is_cifar else "svhn", download != "none")
        if data.shape[2] != size:
            raise UsageError(f"--image-size {size}: the images in {root} have {data.shape[2]}")
        return lambda: iter(data), len(data)
    if not (root / folder).is_dir():
        raise DataError(
            f"{root}: holds neither '{folder}' with class folders of images, nor CIFAR-10, nor SVHN "
            "(--download-data cifar10 or svhn fetches those)"
        )
    try:
        paths = [Path(path) for path, _ in ImageFolder(str(root / folder)).samples]
    except FileNotFoundError as error:
        raise DataError(f"{root / folder}: {str(error).splitlines()[0]}") from None
    return lambda: (_read(path, size) for path in paths), len(paths)


def _from_torchvision(root: Path, folder: str, name: str, download: bool) -> np.ndarray:
    """(images, 3, 32, 32)."""
    try:
        if name == "cifar10":
            cifar = CIFAR10(str(root), train=folder == "train", download=download)
            return np.ascontiguousarray(cifar.data.transpose(0, 3, 1, 2))
        return np.asarray(SVHN(str(root), split=folder, download=download).data)
    except (RuntimeError, OSError, ValueError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{root}: torchvision cannot read {name} there ({reason}); --download-data {name} fetches it"
        ) from None


def _read(path: Path, size: int) -> np.ndarray:
    """One image, (3, size, size)."""
    try:
        with Image.open(path) as image:
            image.load()
            mode, shape = image.mode, image.size
            pixels = np.asarray(image)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from None
    if mode != "RGB":
        raise DataError(f"{path}: has colour mode {mode}, needs RGB; convert it first")
    if shape != (size, size):
        raise DataError(
            f"{path}: has {shape[0]}x{shape[1]} pixels, but --image-size is {size}; scale it first"
        )
    return pixels.transpose(2, 0, 1)


def read_images(folder: Path, size: int) -> tuple[list[str], np.ndarray]:
    """Names and (images, 3, size, size) of all images below a folder, in the order of their names.

    Raises:
        DataError: there are none, or one is broken or has another form.
    """
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)
    paths = sorted(path for path in found if path.is_file())
    if not paths:
        raise DataError(f"{folder}: holds no images ({', '.join(IMG_EXTENSIONS)})")
    bar = tqdm(paths, "read", unit="img", disable=None)
    return [str(path.relative_to(folder)) for path in paths], np.stack([_read(path, size) for path in bar])
