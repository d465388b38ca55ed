"""Code grids as files: images to codes and back."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..errors import DataError
from ..files import write_atomically
from ..models.vq_vae import VQVAE
from ..modules.likelihood import to_levels
from ..plain_arrays import read_npz
from .image_file import shown
from .models import encode_images
from .reading import read_images

DECODING_BATCH = 64
PNG = ".png"
# Bytes, on all file systems of today.
LONGEST_NAME = 255


def encode(model: VQVAE, folder: Path, out: Path) -> int:
    """Write the codes of all images below a folder; returns their number.

    Args:
        model: the autoencoder.
        folder: of images of its size.
        out: the .npz file: `names` (paths below `folder`), `codes` (images, height, width, codes a position)
            and the `digest` of the codebook that they belong to.

    Raises:
        DataError: there are none, one is broken or has another form, or `decode` could not write them.
    """
    names, images = read_images(folder, model.image_size, lambda names: _targets(names, folder))
    # In the smallest type that holds them.
    smallest = np.min_scalar_type(model.config.codebook_size - 1)
    codes = encode_images(model, images, "images").astype(smallest)
    digest = np.array(model.digest())

    def save(part: Path) -> None:
        # Given a name, numpy would add a suffix to it.
        with part.open("wb") as file:
            np.savez(file, names=np.array(names), codes=codes, digest=digest)

    write_atomically(out, save)
    return len(names)


def _targets(names: Sequence[str], source: Path) -> list[str]:
    """The name of the PNG file, below the output folder, for each name of an image.

    Raises:
        DataError: a name leads elsewhere or cannot be one of a file, or two images would be one file; says
            that it is about `source`.
    """
    made: dict[str, str] = {}
    for name in names:
        target = name if name.lower().endswith(PNG) else name + PNG
        parts = PurePosixPath(target).parts
        if PurePosixPath(name).is_absolute() or ".." in parts or name.strip("./") == "":
            raise DataError(f"{shown(source)}: refused, because {name!r} lies outside the output folder")
        try:
            fits = "\0" not in name and all(len(os.fsencode(part)) <= LONGEST_NAME for part in parts)
        except UnicodeEncodeError:
            fits = False
        if not fits:
            raise DataError(f"{shown(source)}: {name!r} gives no name of a file; rename it")
        target = str(PurePosixPath(target))
        if target in made:
            raise DataError(
                f"{shown(source)}: {made[target]!r} and {name!r} would both become {target!r}; rename one"
            )
        made[target] = name
    for target, name in made.items():
        for folder in map(str, PurePosixPath(target).parents):
            if folder in made:
                raise DataError(
                    f"{shown(source)}: {made[folder]!r} would become a file where {name!r}"
                    " needs a folder; rename one"
                )
    return list(made)


def read_codes(model: VQVAE, path: Path) -> tuple[list[str], np.ndarray]:
    """Names and codes of a file that `encode` wrote.

    Raises:
        DataError: the file is missing or broken, its codes are those of another model, or its names are no
            names of files below a folder.
    """
    try:
        names, codes, digests = read_npz(path, "names", "codes", "digest")
        [digest] = digests.reshape(-1).tolist()
    except Exception as error:
        # Of any kind: other files, and damaged ones, get far into numpy.
        raise DataError(f"{shown(path)}: cannot be read as codes ({error})") from None
    good = (
        names.ndim == 1
        and names.dtype.kind == "U"
        and codes.shape == (len(names), *model.codes_shape)
        and np.issubdtype(codes.dtype, np.integer)
        and (codes >= 0).all()
        and (codes < model.config.codebook_size).all()
    )
    if digest != model.digest() or not good:
        raise DataError(f"{shown(path)}: holds codes of another model")
    _targets(names.tolist(), path)
    return names.tolist(), codes.astype(np.int64)


@torch.no_grad()
def decode(model: VQVAE, path: Path, out: Path) -> int:
    """Write the expected image of each code grid in a file as a PNG below `out`; returns their number.

    Raises:
        DataError: see `read_codes`.
    """
    names, codes = read_codes(model, path)
    targets = _targets(names, path)
    device = next(model.parameters()).device
    for start in tqdm(range(0, len(names), DECODING_BATCH), "decode", unit="batch", disable=None):
        batch = torch.from_numpy(codes[start : start + DECODING_BATCH].astype(np.int64)).to(device)
        images = to_levels(model.likelihood.mean(model.decode_codes(batch))).cpu()
        for target, image in zip(targets[start : start + DECODING_BATCH], images, strict=True):
            _save(image.permute(1, 2, 0).numpy(), out / target)
    return len(names)


def _save(pixels: np.ndarray, file: Path) -> None:
    write_atomically(file, lambda part: Image.fromarray(pixels).save(part, "PNG"))
