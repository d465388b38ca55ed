"""One image file: whether it is one, and its pixels."""

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import DataError

# Pillow knows no pixels of theirs, runs other programs to get them, or takes other files for them.
NO_IMAGES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "SPIDER", "WMF"}
# What has exactly one form in RGB.
CONVERTIBLE = {"1", "L", "P", "RGB", "RGBX", "YCbCr"}


@cache
def _formats() -> tuple[dict[str, str], tuple[str, ...]]:
    """The format of each suffix, and the formats that are known by how their files begin."""
    suffixes = Image.registered_extensions()
    readable = Image.OPEN.keys() - NO_IMAGES
    signed = tuple(name for name, (_, accept) in Image.OPEN.items() if accept and name in readable)
    return {suffix: name for suffix, name in suffixes.items() if name in readable}, signed


def format_of_name(path: Path) -> str | None:
    """Pillow's name of the image format that a suffix stands for, whatever the file holds."""
    return _formats()[0].get(path.suffix.lower())


@contextmanager
def _opened(path: Path, formats: Collection[str]) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        # Of large files, and of odd things in good ones: what matters is an error.
        warnings.simplefilter("ignore")
        with Image.open(path, formats=tuple(formats)) as image:
            yield image


def is_image(path: Path) -> bool:
    """Whether a file has the name of an image, or begins like one."""
    if format_of_name(path):
        return True
    try:
        with _opened(path, _formats()[1]):
            return True
    except Image.DecompressionBombError:
        return True
    except PermissionError:
        raise
    except Exception:
        # Whatever a reader makes of a file that is none of its own.
        return False


def shown(path: Path | str) -> str:
    """A path for a message of one line: as it is, or quoted where it has characters that cannot be shown."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def read_image(path: Path, size: int) -> tuple[np.ndarray, bool]:
    """The pixels of a file, upright, and whether it has more frames than this first one.

    Args:
        path: of an image in any format.
        size: height and width that it has to have.

    Returns:
        (3, size, size) uint8, and the mark.

    Raises:
        DataError: it is broken, has another size, or colours that have no one form in RGB.
    """
    suffixes, signed = _formats()
    formats = {*signed, suffixes.get(path.suffix.lower(), signed[0])}
    try:
        with _opened(path, formats) as image:
            # Before anything is unpacked.
            _check_size(path, image, size)
            several = bool(getattr(image, "is_animated", False))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            pixels = _in_rgb(path, image)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{shown(path)}: cannot be read as an image") from None
    except Exception as error:
        # A damaged file leads Pillow's readers to exceptions of any kind.
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise DataError(f"{shown(path)}: cannot be read as an image ({reason})") from None
    return pixels.transpose(2, 0, 1), several


def _check_size(path: Path, image: Image.Image, size: int) -> None:
    if image.size != (size, size):
        raise DataError(
            f"{shown(path)}: has {image.width}x{image.height} pixels, needed are {size}x{size} (--image-size"
            " of the training); scale it first"
        )


def _in_rgb(path: Path, image: Image.Image) -> np.ndarray:
    """(height, width, 3)."""
    mode = image.mode
    convertible = mode in CONVERTIBLE
    if image.has_transparency_data:
        image = image.convert("RGBA")
        convertible = image.getchannel("A").getextrema() == (255, 255)
    if not convertible:
        raise DataError(
            f"{shown(path)}: has colour mode {mode}, needs RGB without transparent pixels; convert it first"
        )
    return np.asarray(image.convert("RGB"))
