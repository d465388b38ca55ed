"""Sheets of images that show what the models do, as PNG files."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

from ..files import write_atomically
from ..models.vq_vae import VQVAE

MAGNIFICATION = 2
COLUMNS = 8
CODE_COLUMNS = 16
# Pixels: of a label's letters, and of the space beside it.
LETTERS, SPACE = 12, 6


def spread(images: Any, count: int) -> Tensor:
    """At most `count` images, spread over all, so that all classes of a folder are seen; uint8."""
    chosen = torch.linspace(0, len(images) - 1, min(count, len(images))).long().unique().numpy()
    return torch.from_numpy(images[chosen].copy())


@torch.no_grad()
def reconstruct(model: VQVAE, images: Tensor) -> Tensor:
    """What is left of images (batch, 3, size, size) after the codes: the same shape, -1 to 1."""
    return model.likelihood.mean(model.decode_codes(model.encode_codes(images)))


def save_grid(images: Tensor, path: Path, columns: int, labels: Sequence[str] = ()) -> None:
    """Write images (count, 3, height, width), -1 to 1, as one PNG, row by row, every pixel magnified.

    Args:
        images: the images.
        path: of the file.
        columns: images in a row.
        labels: to the left of the rows, one each; none by default.
    """
    # Bytes before anything grows: the codes of a large codebook are many images.
    pixels = (255 * ((images.clamp(-1, 1) + 1) / 2)).round().byte().cpu()
    large = pixels.repeat_interleave(MAGNIFICATION, 2).repeat_interleave(MAGNIFICATION, 3)
    sheet = Image.fromarray(make_grid(large, nrow=columns, pad_value=255).permute(1, 2, 0).numpy())
    if labels:
        sheet = _labelled(sheet, labels)
    write_atomically(path, sheet.save)


def _labelled(sheet: Image.Image, labels: Sequence[str]) -> Image.Image:
    font = ImageFont.load_default(LETTERS)
    margin = round(max(map(font.getlength, labels))) + 2 * SPACE
    wide = Image.new("RGB", (margin + sheet.width, sheet.height), "white")
    wide.paste(sheet, (margin, 0))
    draw = ImageDraw.Draw(wide)
    for row, label in enumerate(labels):
        place = (margin - SPACE, sheet.height * (row + 0.5) / len(labels))
        draw.text(place, label, "black", font, anchor="rm")
    return wide


def row_label(checkpoint: Path) -> str:
    """What a checkpoint is called in a sheet: after how many updates it was written, if its name says so."""
    found = re.fullmatch(r"checkpoint_\d+_(\d+)", checkpoint.stem)
    return f"{int(found[1]):,} updates" if found else checkpoint.stem.removeprefix("checkpoint_")


def save_reconstructions(model: VQVAE, images: Tensor, path: Path) -> None:
    """Rows of originals, each over the row of their reconstructions (figure 4 of Roy et al., 2018).

    Args:
        images: (count, 3, size, size), 0 to 255.
    """
    originals = images.float() / 127.5 - 1
    restored = reconstruct(model, images)
    rows = []
    for start in range(0, len(images), COLUMNS):
        for group in (originals, restored):
            row = group[start : start + COLUMNS]
            gap = row.new_ones(COLUMNS - len(row), *row.shape[1:])
            rows.append(torch.cat([row, gap]))
    save_grid(torch.cat(rows), path, COLUMNS)


def save_progress(course: Sequence[tuple[str, VQVAE]], images: Tensor, path: Path) -> None:
    """A row of originals, then one of reconstructions for each model, with its label, the earliest first."""
    rows = [images.float() / 127.5 - 1, *(reconstruct(model, images) for _, model in course)]
    save_grid(torch.cat(rows), path, len(images), ["originals", *(label for label, _ in course)])


@torch.no_grad()
def save_codes(model: VQVAE, path: Path) -> None:
    """One image a code, in the order of their numbers: that code at every place of the grid."""
    codes = torch.arange(model.config.codebook_size, device=next(model.parameters()).device)
    grids = codes.view(-1, 1, 1, 1).expand(-1, *model.codes_shape)
    tiles = [model.likelihood.mean(model.decode_codes(part)) for part in grids.split(64)]
    save_grid(torch.cat(tiles), path, CODE_COLUMNS)


def draw_sheets(
    model: VQVAE,
    images: Tensor,
    samples: Tensor | None,
    course: Sequence[tuple[str, VQVAE]],
    out: Path,
) -> list[str]:
    """Draw everything that there is to show.

    Args:
        model: the autoencoder.
        images: (count, 3, size, size), 0 to 255, on the models' device.
        samples: codes drawn from a prior, (count, *codes_shape); None where there is none.
        course: the autoencoder in the course of its training, with labels; empty draws no progress.
        out: folder.

    Returns:
        The names of the files.
    """
    save_reconstructions(model, images, out / "reconstructions.png")
    save_codes(model, out / "codes.png")
    drawn = ["reconstructions.png", "codes.png"]
    if samples is not None:
        with torch.no_grad():
            save_grid(model.likelihood.mean(model.decode_codes(samples)), out / "samples.png", COLUMNS)
        drawn.append("samples.png")
    if course:
        save_progress(course, images[:COLUMNS], out / "progress.png")
        drawn.append("progress.png")
    return drawn
