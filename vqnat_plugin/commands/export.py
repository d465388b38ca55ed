"""Write a trained translation model as a folder that 'vqnat translate' decodes fast, without torch.

The folder holds ONNX graphs, the text pipeline, the dictionaries and config.json; with --with-teacher also
the graphs of an autoregressive model, which 'vqnat translate' needs to rank candidates (--rescore) or to
check translations (--verify). Both the checkpoint and the exported model then translate at most 1,000
sentences of the validation set, where the data is still there; how far they agree is shown.

  vqnat export runs/student/checkpoint_best.pt --out runs/student/exported
  vqnat export runs/student --out exported --with-teacher runs/teacher
  vqnat export runs/student --out exported --precision fp32 --data runs/data/bin
"""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..options import FOLDER, PluginOptions, flag, option

INTERRUPTED = "interrupted; --out is as it was before"


@dataclass(kw_only=True)
class Options(PluginOptions):
    """Options of `vqnat export`."""

    checkpoint: Path = option(
        ..., "the trained model, or the folder that a training wrote", positional=True, metavar="CHECKPOINT"
    )
    out: Path = option(
        ..., "folder to write; an exported model there is replaced", metavar="DIR", writes=FOLDER
    )
    precision: str = option(
        "int8", "of weights; int8 is faster and a quarter of the size", choices=("fp32", "int8")
    )
    with_teacher: Path | None = option(
        None,
        "autoregressive Transformer of fairseq with the same dictionaries that is to rank candidates or to "
        "check translations, as --rescore-with and --verify-with of vqnat generate",
        metavar="CHECKPOINT",
    )
    data: Path | None = option(
        None,
        "folder of the binarised data (default: that of the training, or one beside the checkpoint)",
        exists=FOLDER,
        metavar="DIR",
    )
    source_lang: str | None = option(
        None, "source language (default: that of checkpoint or data)", short="-s", metavar="LANG"
    )
    target_lang: str | None = option(
        None, "target language (default: that of checkpoint or data)", short="-t", metavar="LANG"
    )

    def check(self) -> None:
        """Raise `UsageError` for a checkpoint that is not there, or for several."""
        for name, path in (("checkpoint", self.checkpoint), (flag("with_teacher"), self.with_teacher)):
            if path is not None and not path.exists():
                several = ":" in str(path)
                way = "one checkpoint, not an ensemble; 'vqnat average' makes one of several of a training"
                raise UsageError(
                    f"{name} {path}: " + (f"needs {way}" if several else "no such file or folder")
                )


def run(options: Options) -> None:
    """Export, and show how the exported model compares."""
    from ..export.comparison import describe
    from ..export.run import export

    config = export(
        options.checkpoint,
        options.out,
        options.precision,
        options.data,
        (options.source_lang, options.target_lang),
        options.with_teacher,
        lambda line: print(f"vqnat export: {line}", file=sys.stderr),
    )
    print(f"{options.out}: {options.precision}, {_sizes(options.out)}")
    print(describe(config["comparison"], options.precision))


def _sizes(folder: Path) -> str:
    """How large a model is, and its parts, the largest first."""
    parts: Counter[str] = Counter()
    for path in folder.iterdir():
        name = path.stem.partition("_")[0] if path.suffix == ".onnx" else "text"
        parts[name] += path.stat().st_size
    shown = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in parts.most_common())
    return f"{parts.total() / 2**20:.1f} MiB ({shown})"
