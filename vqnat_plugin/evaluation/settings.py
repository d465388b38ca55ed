"""What is asked of scores and comparisons: the options of `vqnat score`, `compare` and `benchmark`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..options import (
    FILE,
    FOLDER,
    MOST_PROCESSES,
    MOST_ROUNDS,
    MOST_SEED,
    MOST_TOKENS,
    PluginOptions,
    named_files,
    option,
)
from .systems import Conditions, System, parse_system

LENGTHS = "lengths: of every system that does not say otherwise"
TIMING = "timing"


@dataclass(kw_only=True)
class ScoringOptions:
    """How texts are scored."""

    tokenize: str | None = option(
        None,
        "sacreBLEU's tokeniser (default: that of the language: zh, ja-mecab, ko-mecab, char where"
        " no blanks stand between words, else 13a)",
        metavar="NAME",
    )


@dataclass(kw_only=True)
class TextOptions:
    """How text is made of what a model writes."""

    tokenizer: str | None = option(
        None,
        "how tokens become text (default: as the data was prepared, by its text.json, else moses)",
        choices=("moses", "space"),
    )


@dataclass(kw_only=True)
class TimingOptions(PluginOptions):
    """Options of `vqnat benchmark`."""

    data: Path = option(..., "binarised data", exists=FOLDER, positional=True, metavar="DATA_BIN")
    system: tuple[tuple[str, ...], ...] = option(
        ...,
        "a system: its name, its checkpoint (several joined by ':' are an ensemble) or the folder of a model "
        "that was exported or converted, and how it decodes; once for each",
        repeat=True,
        metavar=("NAME", "PATH [OPTION=VALUE]"),
    )
    out: Path = option(..., "folder to write to", metavar="DIR", writes=FOLDER)
    baseline: tuple[str, ...] = option(
        (),
        "what speed-ups are relative to, such as the greedy teacher (default: the first system); once for "
        "each, the main one first",
        repeat=True,
        metavar="NAME",
    )
    gen_subset: str = option("test", "split to translate", metavar="SPLIT")
    source_lang: str | None = option(
        None, "language of the sources, where data or checkpoint do not say", short="-s", metavar="LANG"
    )
    target_lang: str | None = option(
        None, "language of the translations, likewise", short="-t", metavar="LANG"
    )
    title: str = option("Report", "heading of the report", metavar="TEXT")
    note: tuple[str, ...] = option(
        (), "a line under the report's table; once for each", repeat=True, metavar="TEXT"
    )
    max_len_a: float | None = option(
        None,
        "at most A * source sub-words + B sub-words",
        least=0,
        most=MOST_TOKENS,
        group=LENGTHS,
        metavar="A",
    )
    max_len_b: int | None = option(
        None, "B of --max-len-a", least=0, most=MOST_TOKENS, group=LENGTHS, metavar="B"
    )
    min_len: int | None = option(None, "at least so many sub-words", least=0, most=MOST_TOKENS, group=LENGTHS)
    batch_sizes: tuple[int, ...] = option(
        (1, 32), "sentences a batch", least=1, most=MOST_ROUNDS, group=TIMING, metavar="N"
    )
    sentences: int = option(
        100, "translated at each batch size, at least", least=1, most=MOST_ROUNDS, group=TIMING
    )
    warmup: int = option(3, "untimed batches before", least=0, most=MOST_ROUNDS, group=TIMING)
    threads: int = option(1, "on the CPU, of every engine", least=1, most=MOST_PROCESSES, group=TIMING)
    profile: bool = option(
        False, "of exported models, also show what each part takes: encoder, steps, writer", group=TIMING
    )
    seed: int = option(1, "of the choice of sentences, and of systems that sample", least=0, most=MOST_SEED)
    cpu: bool = option(False, "leave the GPU alone")
    fp16: bool = option(False, "half precision")
    bf16: bool = option(False, "half precision with the range of floats")

    def check(self) -> None:
        """Raise `UsageError` for a system that cannot be, and for options that do not go together."""
        names = [system.name for system in self.systems()]
        if len(set(names)) < len(names):
            raise UsageError(f"--system: each needs a name of its own, found {', '.join(names)}")
        for name in self.baseline:
            if name not in names:
                raise UsageError(f"--baseline {name}: not among the systems ({', '.join(names)})")
        if self.fp16 and self.bf16:
            raise UsageError("--fp16, --bf16: only one of them")
        if len(set(self.batch_sizes)) < len(self.batch_sizes):
            raise UsageError(
                f"--batch-sizes {' '.join(map(str, self.batch_sizes))}: each needs to be another"
            )

    def require_files(self) -> None:
        """Raise `DataError` unless all systems are there: before anything heavy is loaded."""
        for system in self.systems():
            system.require_files()

    def systems(self) -> list[System]:
        """The declared systems."""
        lengths = {"max_len_a": self.max_len_a, "max_len_b": self.max_len_b, "min_len": self.min_len}
        shared: dict[str, Any] = {name: value for name, value in lengths.items() if value is not None}
        return [parse_system(words, shared) for words in self.system]

    def conditions(self) -> Conditions:
        """What is the same for all systems."""
        return Conditions(
            data=self.data,
            subset=self.gen_subset,
            source_lang=self.source_lang,
            target_lang=self.target_lang,
            cpu=self.cpu,
            precision="fp16" if self.fp16 else "bf16" if self.bf16 else "fp32",
            seed=self.seed,
        )


@dataclass(kw_only=True)
class ComparisonOptions(TextOptions, ScoringOptions, TimingOptions):
    """Options of `vqnat compare`."""

    ref: tuple[Path, ...] = option(
        ..., "reference translations, plain text, one sentence a line", exists=FILE, metavar="FILE"
    )
    batch_size: int = option(32, "sentences a batch in decoding", least=1)
    train_log: tuple[str, ...] = option(
        (),
        "log of a training (--log-format json --log-file FILE), to be drawn; once for each",
        repeat=True,
        metavar="NAME=FILE",
    )

    def check(self) -> None:
        """As `TimingOptions.check`; and for logs that are not named."""
        super().check()
        self.train_logs()

    def train_logs(self) -> dict[str, Path]:
        """Logs of trainings by name; they need not be there."""
        return named_files("train_log", self.train_log, missing=True)
