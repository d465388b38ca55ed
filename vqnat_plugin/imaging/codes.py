"""Code grids as files: pictures to codes and back.

  scripts/image_codes.py encode autoencoder/checkpoint_best.pt PICTURES codes.npz
  scripts/image_codes.py decode autoencoder/checkpoint_best.pt codes.npz PICTURES-AGAIN

codes.npz holds `names` (paths below PICTURES), `codes` (pictures, height, width, codes a position) and the
`digest` of the codebook that they belong to. Decoding writes a PNG for each of them.
"""

import argparse
import functools
import sys
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor
from torchvision.io import write_png
from tqdm import tqdm

from ..errors import CheckpointError, DataError
from ..files import write_atomically
from ..imaging.reading import read_pictures
from ..models.vq_vae import VQVAE
from ..modules.likelihood import to_levels
from ..tasks.image_vq import encode_pictures, load_autoencoder

DECODING_BATCH = 64


def encode(model: VQVAE, size: int, folder: Path, out: Path) -> int:
    """Write the codes of all pictures below a folder; returns their number.

    Raises:
        UsageError: there are none, or one is broken or has another form.
    """
    names, images = read_pictures(folder, size)
    codes = encode_pictures(model, len(images), lambda rows: images[rows], "pictures")
    digest = np.array(model.digest())
    write_atomically(out, lambda part: np.savez(part, names=np.array(names), codes=codes, digest=digest))
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


def _write_png(picture: Tensor, path: Path) -> None:
    write_png(picture, str(path))


@torch.no_grad()
def decode(model: VQVAE, path: Path, out: Path) -> int:
    """Write the expected picture of each code grid in a file as a PNG below `out`; returns their number.

    Raises:
        DataError: see `read_codes`.
    """
    names, codes = read_codes(model, path)
    for start in tqdm(range(0, len(names), DECODING_BATCH), "decode", unit="batch", disable=None):
        batch = torch.from_numpy(codes[start : start + DECODING_BATCH].astype(np.int64))
        pictures = to_levels(model.likelihood.mean(model.decode_codes(batch)))
        for name, picture in zip(names[start : start + DECODING_BATCH], pictures, strict=True):
            file = out / (name if name.endswith(".png") else f"{name}.png")
            write_atomically(file, functools.partial(_write_png, picture))
    return len(names)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="image_codes.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for action, source, result in (("encode", "PICTURES", "NPZ"), ("decode", "NPZ", "PICTURES")):
        one = actions.add_parser(action, help=f"{source} to {result}")
        one.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the trained autoencoder")
        one.add_argument("source", type=Path, metavar=source, help="what to read")
        one.add_argument("out", type=Path, metavar=result, help="what to write")
    options = parser.parse_args()
    try:
        model, size = load_autoencoder(options.checkpoint)
        if options.action == "encode":
            count = encode(model, size, options.source, options.out)
        else:
            count = decode(model, options.source, options.out)
    except (DataError, CheckpointError) as error:
        sys.exit(f"image_codes: {error}")
    print(f"image_codes: {count} pictures in {options.out}")


if __name__ == "__main__":
    main()
