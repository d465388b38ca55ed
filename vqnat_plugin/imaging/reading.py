"""Images of a folder as one memory-mapped array: torchvision's CIFAR-10 and SVHN, or class folders."""

import hashlib
import logging
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.datasets import CIFAR10, SVHN
from tqdm import tqdm

from ..errors import DataError, UsageError
from ..files import alone, write_atomically
from .cache import make_once
from .dataset import DOWNLOADS
from .image_file import format_of_name, read_image, shown
from .listing import find_images, list_files, some, state

logger = logging.getLogger(__name__)

FOLDERS = ("train", "test")
SVHN_FILES = "*_32x32.mat"
JPEG = ("JPEG", "MPO")
DOWNLOADING = "vqnat train --download-data cifar10 or svhn fetches some"
# Held out of the training images, the same ones whatever the machine.
HOLD_OUT_SEED = 1


class Images:
    """Some rows of an array of images, read when they are asked for.

    Args:
        array: (images, 3, size, size) uint8.
        rows: numbers of those that are meant.
        digest: of the files that the array was made from.
    """

    def __init__(self, array: np.ndarray, rows: np.ndarray, digest: str) -> None:
        self.array, self.rows, self.digest = array, rows, digest

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.array[self.rows[index]]


def _fingerprint(root: Path, cache: Path) -> str:
    """Digest of the files that images are read from, links followed, apart from those of the cache."""
    digest = hashlib.sha256()
    for name in (CIFAR10.base_folder, *FOLDERS):
        if (root / name).is_dir():
            digest.update(name.encode() + list_files(root / name, cache).digest)
    for path in sorted(root.glob(SVHN_FILES)):
        digest.update(state(path.name, path.stat()))
    return digest.hexdigest()[:16]


def are_jpeg(root: Path) -> bool:
    """Whether class folders hold JPEG files: lossy copies, smoother and easier to describe."""
    folders = [root / name for name in FOLDERS if (root / name).is_dir()]
    files = (path for folder in folders for path in list_files(folder).files)
    return any(format_of_name(path) in JPEG for path in files)


def open_split(
    root: Path, split: str, size: int, cache: Path, held_out: int, download: str = "none"
) -> Images:
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
        DataError: nothing is there, or several sets of images, or one is broken or has another form.
        UsageError: too many or none are held out, or all have another size.
    """
    if not root.is_dir() and download == "none":
        raise DataError(f"{shown(root)}: no such folder of images ({DOWNLOADING})")
    folder = "test" if split == "test" else "train"

    def check(count: int) -> None:
        if folder == "test":
            return
        if not 0 <= held_out < count:
            raise UsageError(
                f"--valid-size {held_out}: has to leave some of the {count} training images in {shown(root)}"
            )
        if split == "valid" and not held_out:
            raise UsageError(
                "--valid-size 0: leaves no images for subset 'valid' (--disable-validation trains without)"
            )

    def place() -> tuple[str, Path]:
        digest = _fingerprint(root, cache)
        return digest, cache / f"{folder}-{size}-{digest}.npy"

    digest, decoded = place()
    if download != "none" and not decoded.exists():
        with alone(cache / "download", beside=True, wait=True):
            _find(root, folder, size, cache, download)
        digest, decoded = place()

    def make(file: Path) -> None:
        found, count = _find(root, folder, size, cache)
        check(count)
        write_atomically(file, lambda part: _decode(part, found, count, size, folder))
        if place() != (digest, decoded):
            file.unlink()
            raise DataError(f"{shown(root)}: has changed while it was read; run the same command again")
        for old in cache.glob(f"{folder}-{size}-*.npy"):
            if old != file and re.fullmatch(r".*-[0-9a-f]{16}\.npy", old.name):
                old.unlink(missing_ok=True)

    images = make_once(decoded, (None, 3, size, size), np.uint8, make)
    check(len(images))
    if folder == "test":
        return Images(images, np.arange(len(images)), digest)
    order = np.random.default_rng(HOLD_OUT_SEED).permutation(len(images))
    chosen = np.sort(order[:held_out] if split == "valid" else order[held_out:])
    return Images(images, chosen, digest)


def _decode(part: Path, images: Iterable[np.ndarray], count: int, size: int, title: str) -> None:
    shape = (count, 3, size, size)
    # Not by mapping the file into memory: a full disk would end the process without a word.
    with part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for image in tqdm(images, f"decode {title}", count, unit="img", disable=None):
            file.write(np.ascontiguousarray(image, np.uint8).tobytes())


def _find(
    root: Path, folder: str, size: int, cache: Path, download: str = "none"
) -> tuple[Iterable[np.ndarray], int]:
    """The images of a folder, each (3, size, size), and how many there are."""
    there = {
        "cifar10": (root / CIFAR10.base_folder).is_dir(),
        "svhn": any(root.glob(SVHN_FILES)),
        "class folders": any((root / name).is_dir() for name in FOLDERS),
    }
    kinds = [kind for kind, found in there.items() if found or kind == download]
    if len(kinds) > 1:
        raise DataError(f"{shown(root)}: cannot be {' and '.join(kinds)}; keep each in a folder of its own")
    if kinds and kinds[0] in DOWNLOADS:
        data = _from_torchvision(root, folder, kinds[0], download != "none")
        if data.shape[2] != size:
            raise UsageError(
                f"{root}: the images have {data.shape[2]}x{data.shape[2]} pixels, needed are {size}x{size} "
                "(--image-size of the training)"
            )
        return data, len(data)
    if not (root / folder).is_dir():
        raise DataError(
            f"{root}: holds neither '{folder}' with class folders of images, nor CIFAR-10, nor SVHN "
            f"({DOWNLOADING})"
        )
    paths = find_images(root / folder, cache)
    return _read_all(paths, size, root / folder), len(paths)


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
            f"{root}: torchvision cannot read {name} there ({reason}); vqnat train --download-data {name} "
            "fetches it"
        ) from None


def _read_all(paths: list[Path], size: int, folder: Path) -> Iterator[np.ndarray]:
    """Images one by one; at the end a line of the log says which files held several."""
    several = []
    for path in paths:
        image, more = read_image(path, size)
        if more:
            several.append(path)
        yield image
    if several:
        logger.warning(
            "%s: the first image is read of %s", shown(folder), some(several, folder, "animated file")
        )


def read_images(
    folder: Path, size: int, check: Callable[[list[str]], object] = len
) -> tuple[list[str], np.ndarray]:
    """Names and (images, 3, size, size) of all images below a folder, in the order of their names.

    Args:
        folder: to look through, links followed.
        size: height and width that every image has to have.
        check: is given the names before anything is read, and may raise what it likes.

    Raises:
        DataError: there are none, or one is broken or has another form.
    """
    paths = find_images(folder)
    names = [path.relative_to(folder).as_posix() for path in paths]
    check(names)
    bar = tqdm(_read_all(paths, size, folder), "read", len(paths), unit="img", disable=None)
    return names, np.stack(list(bar))
