"""Sheets of images that show what the models do, as PNG files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.utils import make_grid, save_image

from ..files import write_atomically
from ..models.vq_image_prior import VQImagePrior
from ..models.vq_vae import VQVAE

MAGNIFICATION = 2
PROGRESS_COLUMNS = 8


@dataclass(frozen=True)
class Sampling:
    """How images are drawn from a prior.

    Attributes:
        count: number of images.
        temperature: of the codes; below 1 likely ones are favoured.
        seed: of the random numbers.
    """

    count: int = 64
    temperature: float = 1.0
    seed: int = 1


def spread(images: Any, count: int) -> Tensor:
    """At most `count` images, spread over all, so that all classes of a folder are seen; uint8."""
    chosen = torch.linspace(0, len(images) - 1, min(count, len(images))).long().unique().numpy()
    return torch.from_numpy(images[chosen].copy())


@torch.no_grad()
def reconstruct(model: VQVAE, images: Tensor) -> Tensor:
    """What is left of images (batch, 3, size, size) after the codes: the same shape, -1 to 1."""
    return model.likelihood.mean(model.decode_codes(model.encode_codes(images)))


def save_grid(images: Tensor, path: Path, columns: int) -> None:
    """Write images (count, 3, height, width), -1 to 1, as one PNG, row by row, every pixel magnified."""
    large = images.repeat_interleave(MAGNIFICATION, 2).repeat_interleave(MAGNIFICATION, 3)
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
        for group in (originals, restored):
            row = group[start : start + columns]
            gap = row.new_ones(columns - len(row), *row.shape[1:])
            rows.append(torch.cat([row, gap]))
    save_grid(torch.cat(rows), path, columns)


def save_progress(models: Sequence[VQVAE], images: Tensor, path: Path) -> None:
    """A row of originals, then one row of reconstructions for each model, from the earliest on."""
    rows = [images.float() / 127.5 - 1, *(reconstruct(model, images) for model in models)]
    save_grid(torch.cat(rows), path, len(images))


@torch.no_grad()
def save_codes(model: VQVAE, path: Path, columns: int = 16) -> None:
    """One image a code, in the order of their numbers: that code at every place of the grid."""
    codes = torch.arange(model.config.codebook_size, device=next(model.parameters()).device)
    grids = codes.view(-1, 1, 1, 1).expand(-1, *model.codes_shape)
    tiles = [model.likelihood.mean(model.decode_codes(part)) for part in grids.split(64)]
    save_grid(torch.cat(tiles), path, columns)


def draw_sheets(
    model: VQVAE,
    prior: VQImagePrior | None,
    earlier: Sequence[VQVAE],
    images: Tensor,
    out: Path,
    samples: Sampling,
) -> list[str]:
    """Draw everything that the models at hand can show.

    Args:
        model: the autoencoder.
        prior: over its codes; None draws no samples.
        earlier: the autoencoder in the course of its training; empty draws no progress.
        images: (count, 3, size, size), 0 to 255, on the models' device.
        out: folder.
        samples: how they are drawn.

    Returns:
        The names of the files.
    """
    save_reconstructions(model, images, out / "reconstructions.png")
    save_codes(model, out / "codes.png")
    drawn = ["reconstructions.png", "codes.png"]
    if prior is not None:
        save_samples(model, prior, out / "samples.png", samples)
        drawn.append("samples.png")
    if earlier:
        save_progress([*earlier, model], images[:PROGRESS_COLUMNS], out / "progress.png")
        drawn.append("progress.png")
    return drawn


def save_samples(model: VQVAE, prior: VQImagePrior, path: Path, samples: Sampling, columns: int = 8) -> None:
    """Images drawn from the prior, each the expected one of its codes."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(samples.seed)
    codes = prior.sample(samples.count, samples.temperature, generator)
    with torch.no_grad():
        save_grid(model.likelihood.mean(model.decode_codes(codes)), path, columns)
