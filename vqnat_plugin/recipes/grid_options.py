"""What is asked of a grid of trainings: the options of `vqnat ablate`."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..evaluation.settings import ScoringOptions
from ..options import FILE, FOLDER, IMAGE_SPLITS, MOST_BEAM, MOST_PROCESSES, flag, option

# Those that only some kinds of grids need.
SPECIAL = ("distilled", "teacher", "ref")


@dataclass(kw_only=True)
class GridOptions(ScoringOptions):
    """Options of `vqnat ablate`."""

    grid: Path = option(..., "what to train (YAML)", exists=FILE, positional=True, metavar="GRID")
    data: Path = option(..., "binarised corpus, or folder of images", exists=FOLDER, metavar="DIR")
    distilled: Path | None = option(
        None, "translation, needed there: the same corpus, distilled", exists=FOLDER, metavar="DIR"
    )
    teacher: Path | None = option(
        None,
        "translation, needed there: TEACHER in the flags, and whom rows are compared with",
        exists=FILE,
        metavar="CKPT",
    )
    ref: tuple[Path, ...] = option(
        (), "translation, needed there: raw text of --gen-subset", exists=FILE, metavar="FILE"
    )
    gen_subset: str = option("test", "split to measure on; choose settings on valid", metavar="SPLIT")
    beam: int = option(4, "translation: latent candidates", least=1, most=MOST_BEAM)
    tokenizer: str | None = option(
        None,
        "translation: how tokens become text (default: as the data was prepared, else moses)",
        choices=("moses", "space"),
    )
    out: Path = option(..., "folder to write to", metavar="DIR", writes=FOLDER)
    jobs: int | None = option(
        None,
        "cells side by side (default: for translation one a core, at most two, or one a GPU; for images one, "
        "which takes all cores or GPUs)",
        least=1,
        most=MOST_PROCESSES,
    )
    keep_checkpoints: bool = option(False, "of cells that have been measured")
    report_only: bool = option(False, "train nothing, report what is done so far")
    title: str | None = option(None, "heading of the report (default: that of the grid)", metavar="TEXT")

    def for_measuring(self) -> tuple[str, ...]:
        """What is handed on to the command that measures, whatever the kind of grid."""
        return () if self.gen_subset == "test" else ("--gen-subset", self.gen_subset)

    def check_for(self, measure: str, needs: tuple[str, ...]) -> None:
        """Raise `UsageError` unless just those special options are given that a kind of grid needs."""
        for name in SPECIAL:
            given = bool(getattr(self, name))
            if given != (name in needs):
                what = "means nothing" if given else "is needed"
                raise UsageError(f"{flag(name)} {what} for {self.grid}, which measures {measure}")
        binarised = any(self.data.glob(f"{self.gen_subset}.*.idx"))
        there = binarised if "ref" in needs else self.gen_subset in IMAGE_SPLITS
        if self.for_measuring() and not there:
            raise UsageError(f"--gen-subset {self.gen_subset}: {self.data} has no such split")
        for name in ("beam", "tokenizer", "tokenize"):
            if "ref" not in needs and getattr(self, name) != getattr(GridOptions, name):
                raise UsageError(f"{flag(name)} means nothing for {self.grid}, which measures {measure}")
