"""Write a trained translation model as a folder that 'vqnat translate' decodes fast, without torch.

The folder holds ONNX graphs, the text pipeline, the dictionaries and config.json. Both the checkpoint and the
exported model then translate the validation set, where the data is still there; how far they agree is shown.

  vqnat export runs/student/checkpoint_best.pt --out runs/student/exported
  vqnat export runs/student --out exported --precision fp32 --data runs/data/bin
"""

from dataclasses import dataclass
from pathlib import Path

from ..options import FOLDER, PATH, option


@dataclass(kw_only=True)
class Options:
    """Options of `vqnat export`."""

    checkpoint: Path = option(
        ...,
        "the trained model, or the folder that a training wrote",
        positional=True,
        exists=PATH,
        metavar="CHECKPOINT",
    )
    out: Path = option(..., "folder to write; an exported model there is replaced", metavar="DIR")
    precision: str = option(
        "int8", "of weights; int8 is faster and a quarter of the size", choices=("fp32", "int8")
    )
    data: Path | None = option(
        None,
        "folder of the binarised data (default: that of the training, or one beside the checkpoint)",
        exists=FOLDER,
        metavar="DIR",
    )
    source_lang: str | None = option(None, "source language (default: that of checkpoint or data)")
    target_lang: str | None = option(None, "target language (default: that of checkpoint or data)")


def run(options: Options) -> None:
    """Export, and show how the exported model compares."""
    from ..export.comparison import describe
    from ..export.run import export

    languages = (options.source_lang, options.target_lang)
    config = export(options.checkpoint, options.out, options.precision, options.data, languages)
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(f"{options.out}: {options.precision}, {size / 2**20:.1f} MiB")
    print(describe(config["comparison"], options.precision))
