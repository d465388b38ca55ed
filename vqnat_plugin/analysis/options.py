"""What all commands that look at a latent translation model are asked. Nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path

from ..options import FILE, FOLDER, PluginOptions, option


@dataclass(kw_only=True)
class AnalysisOptions(PluginOptions):
    """The model, its data, and how they are read."""

    checkpoint: Path = option(..., "the trained model", positional=True, metavar="CHECKPOINT", exists=FILE)
    data: Path | None = option(
        None, "binarised data; what the model was trained on by default", metavar="DIR", exists=FOLDER
    )
    gen_subset: str = option("test", "split to look at", metavar="SPLIT")
    batch_size: int = option(50, "sentences", least=1)
    cpu: bool = option(False, "do not use a GPU")
