"""Pictures of what the image models do, as PNG files."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.utils import make_grid, save_image

from ..files import write_atomically
from ..models.vq_image_prior import VQImagePrior
from ..models.vq_vae import VQVAE

MAGNIFICATION = 2


@torch.no_grad()
def reconstruct(model: VQVAE, images: Tensor) -> Tensor:
    """What is left of pictures (batch, 3, size, size) after the codes: the same shape, -1 to 1."""
    return model.likelihood.mean(model.decode_codes(model.encode_codes(images)))


def save_grid(pictures: Tensor, path: Path, columns: int) -> None:
    """Write pictures (count, 3, height, width), -1 to 1, as one PNG, row by row, every pixel magnified."""
    large = pictures.repeat_interleave(MAGNIFICATION, 2).repeat_interleave(MAGNIFICATION, 3)
    grid = make_grid(large, nrow=columns, normalize=True, value_range=(-1, 1), pad_value=1.0)
    write_atomically(path, lambda part: save_image(grid, part))


def save_reconstructions(model: VQVAE, images: Tensor, path: Path, columns: int = 8) -> None:
    """Rows of originals, each over the row of their reconstructions (figure 4 of Roy et al., 2018).

    Args:
        images: (count, 3, size, size), 0 to 255.
    """
    originals = images.float() / 127.5 - 1
    restored = reconstruct(model, images)
    rows = []
    for start in range(0, len(images), columns):
        for pictures in (originals, restored):
            row = pictures[start : start + columns]
            gap = row.new_ones(columns - len(row), *row.shape[1:])
            rows.append(torch.cat([row, gap]))
    save_grid(torch.cat(rows), path, columns)


def save_progress(models: Sequence[VQVAE], images: Tensor, path: Path) -> None:
    """A row of originals, then one row of reconstructions for each model, from the earliest on."""
    rows = [images.float() / 127.5 - 1, *(reconstruct(model, images) for model in models)]
    save_grid(torch.cat(rows), path, len(images))


@torch.no_grad()
def save_codes(model: VQVAE, path: Path, columns: int = 16) -> None:
    """One picture a code, in the order of their numbers: that code at every place of the grid."""
    codes = torch.arange(model.config.codebook_size, device=next(model.parameters()).device)
    grids = codes.view(-1, 1, 1, 1).expand(-1, *model.codes_shape)
    tiles = [model.likelihood.mean(model.decode_codes(part)) for part in grids.split(64)]
    save_grid(torch.cat(tiles), path, columns)


def save_samples(
    model: VQVAE, prior: VQImagePrior, path: Path, count: int, temperature: float, seed: int, columns: int = 8
) -> None:
    """Pictures drawn from the prior, each the expected one of its codes."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    codes = prior.sample(count, temperature, generator)
    with torch.no_grad():
        save_grid(model.likelihood.mean(model.decode_codes(codes)), path, columns)
