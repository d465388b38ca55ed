"""Code grids as files: images to codes and back."""

import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor
from torchvision.io import write_png
from tqdm import tqdm

from ..errors import DataError
from ..files import write_atomically
from ..models.vq_vae import VQVAE
from ..modules.likelihood import to_levels
from .models import encode_images
from .reading import read_images

DECODING_BATCH = 64


def encode(model: VQVAE, folder: Path, out: Path) -> int:
    """Write the codes of all images below a folder; returns their number.

    Args:
        model: the autoencoder.
        folder: of images of its size.
        out: the .npz file: `names` (paths below `folder`), `codes` (images, height, width, codes a position)
            and the `digest` of the codebook that they belong to.

    Raises:
        DataError: there are none, or one is broken or has another form.
    """
    names, images = read_images(folder, model.image_size)
    codes = encode_images(model, images, "images")
    digest = np.array(model.digest())

    def save(part: Path) -> None:
        # Given a name, numpy would add a suffix to it.
        with part.open("wb") as file:
            np.savez(file, names=np.array(names), codes=codes, digest=digest)

    write_atomically(out, save)
    return len(names)


def read_codes(model: VQVAE, path: Path) -> tuple[list[str], np.ndarray]:
    """Names and codes of a file that `encode` wrote.

    Raises:
        DataError: the file is missing or broken, or its codes are those of another model.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names, codes, digest = file["names"].tolist(), file["codes"], int(file["digest"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as codes ({error})") from None
    good = (
        codes.ndim == 4
        and codes.shape == (len(names), *model.codes_shape)
        and np.issubdtype(codes.dtype, np.integer)
        and (codes >= 0).all()
        and (codes < model.config.codebook_size).all()
    )
    if digest != model.digest() or not good:
        raise DataError(f"{path}: holds codes of another model")
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts:
            raise DataError(f"{path}: refused, because '{name}' lies outside the output folder")
    return names, codes


def _save(image: Tensor, file: Path) -> None:
    write_atomically(file, lambda part: write_png(image, str(part)))


@torch.no_grad()
def decode(model: VQVAE, path: Path, out: Path) -> int:
    """Write the expected image of each code grid in a file as a PNG below `out`; returns their number.

    Raises:
        DataError: see `read_codes`.
    """
    names, codes = read_codes(model, path)
    device = next(model.parameters()).device
    for start in tqdm(range(0, len(names), DECODING_BATCH), "decode", unit="batch", disable=None):
        batch = torch.from_numpy(codes[start : start + DECODING_BATCH].astype(np.int64)).to(device)
        images = to_levels(model.likelihood.mean(model.decode_codes(batch))).cpu()
        for name, image in zip(names[start : start + DECODING_BATCH], images, strict=True):
            file = out / (name if name.endswith(".png") else f"{name}.png")
            _save(image, file)
    return len(names)
