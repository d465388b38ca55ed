"""Code grids of `vqnat images encode` to images.

Writes the expected image of each code grid as a PNG, under the name that the image had, in place of a file of
that name in OUTDIR: name another folder than that of the images.

  vqnat images encode autoencoder/checkpoint_best.pt images codes.npz
  vqnat images decode autoencoder/checkpoint_best.pt codes.npz images-again
"""

from dataclasses import dataclass
from pathlib import Path

from ..options import FILE, FOLDER, PluginOptions, option


@dataclass(kw_only=True)
class Options(PluginOptions):
    """Options of `vqnat images decode`."""

    checkpoint: Path = option(
        ..., "the autoencoder that made the codes", positional=True, exists=FILE, metavar="CHECKPOINT"
    )
    codes: Path = option(..., "file of codes", positional=True, exists=FILE, metavar="IN.npz")
    output: Path = option(..., "folder to write to", positional=True, metavar="OUTDIR", writes=FOLDER)
    cpu: bool = option(False, "do not use a GPU")


def writes_to(options: Options) -> Path:
    """The folder of the images."""
    return options.output


def run(options: Options) -> None:
    """Decode, and count."""
    from ..imaging.codes import decode
    from ..imaging.image_file import shown
    from ..imaging.models import load_autoencoder
    from ..machine import available_device

    model = load_autoencoder(options.checkpoint).to(available_device(options.cpu))
    print(f"{shown(options.output)}: {decode(model, options.codes, options.output)} images")
