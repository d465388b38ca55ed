"""Images to code grids, in a file for numpy.

OUT.npz has `names` (paths below the folder), `codes` (images, height, width, codes a position) and the
`digest` of the codebook that they belong to.

  vqnat images encode autoencoder/checkpoint_best.pt images codes.npz
  vqnat images decode autoencoder/checkpoint_best.pt codes.npz images-again
"""

from dataclasses import dataclass
from pathlib import Path

from ..options import FILE, FOLDER, PluginOptions, option


@dataclass(kw_only=True)
class Options(PluginOptions):
    """Options of `vqnat images encode`."""

    checkpoint: Path = option(
        ..., "the trained autoencoder", positional=True, exists=FILE, metavar="CHECKPOINT"
    )
    images: Path = option(
        ..., "folder of images, in folders of any depth", positional=True, exists=FOLDER, metavar="IMAGES"
    )
    output: Path = option(..., "file to write", positional=True, metavar="OUT.npz", writes=FILE)
    cpu: bool = option(False, "do not use a GPU")


def run(options: Options) -> None:
    """Encode, and count."""
    from ..imaging.codes import encode
    from ..imaging.image_file import shown
    from ..imaging.models import load_autoencoder
    from ..machine import available_device

    model = load_autoencoder(options.checkpoint).to(available_device(options.cpu))
    print(f"{shown(options.output)}: the codes of {encode(model, options.images, options.output)} images")
