"""Systems of a comparison: what they are declared as, and what they are asked to do."""

import ast
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from ..errors import DataError, UsageError
from ..files import sha256

# Options of which the value is a path, or several joined by ':'; never anything else.
PATH_OPTIONS = ("rescore_with",)
# Longest name of a file, with room for what goes before and behind it.
LONGEST_NAME = 200


def _digest(path: Path) -> str:
    state = path.stat()
    return _known_digest(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _known_digest(path: Path, size: int, modified: int) -> str:
    """The digest of a file; systems share large ones."""
    return sha256(path)


@dataclass(frozen=True)
class System:
    """One row of a comparison: checkpoints, and how they decode.

    Attributes:
        name: of the row.
        checkpoints: one path, or several for an ensemble.
        options: of fairseq's generation, `beam` (1 unless it is given) or `lenpen` for example, and of the
            checkpoint's own task or model, such as `rescore_with`.
    """

    name: str
    checkpoints: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=lambda: {"beam": 1})

    @property
    def beam(self) -> int:
        return int(self.options["beam"])

    @property
    def file_name(self) -> str:
        """The name as that of a file, different for different names."""
        return "".join(
            letter if letter.isprintable() and letter not in '/\\%:*?"<>|' else quote(letter, safe="")
            for letter in self.name
        )

    def as_dict(self) -> dict[str, Any]:
        """What a report says of the system."""
        return {"checkpoints": list(self.checkpoints), **self.options}

    def paths(self) -> list[Path]:
        """All files that the system is made of."""
        others = [path for name in PATH_OPTIONS if name in self.options for path in self.option_paths(name)]
        return [*map(Path, self.checkpoints), *others]

    def option_paths(self, name: str) -> list[Path]:
        """The files that an option names."""
        return [Path(path) for path in split_paths(str(self.options.get(name) or ""))]

    def identity(self) -> dict[str, Any]:
        """What the output depends on: the contents of the files, wherever they are, and the options.

        Raises:
            DataError: one of the files is missing.
        """
        self.require_files()
        paths = {name: [_digest(path) for path in self.option_paths(name)] for name in PATH_OPTIONS}
        options = {name: paths.get(name, value) for name, value in sorted(self.options.items())}
        return {"checkpoints": [_digest(Path(path)) for path in self.checkpoints], "options": options}

    def require_files(self) -> None:
        """Raise `DataError` unless all files are there."""
        for path in self.paths():
            if not path.is_file():
                raise DataError(f"system {self.name}: no checkpoint {path}")


@dataclass(frozen=True)
class Conditions:
    """What is the same for all systems.

    Attributes:
        data: binarised data; replaces the folder that a checkpoint was trained on.
        subset: split of `data` to translate.
        source_lang, target_lang: None for those of data and checkpoints.
        cpu: do not use the GPU.
        precision: `fp32`, `fp16` or `bf16`.
        seed: of systems that sample.
    """

    data: Path
    subset: str = "test"
    source_lang: str | None = None
    target_lang: str | None = None
    cpu: bool = False
    precision: str = "fp32"
    seed: int = 1

    @property
    def uses_gpu(self) -> bool:
        """Whether there is a GPU and it may be used."""
        import torch

        return torch.cuda.is_available() and not self.cpu

    def identity(self) -> dict[str, Any]:
        """What outputs depend on, the contents of the data included."""
        starts = (f"{self.subset}.", "dict.")
        files = [path for path in sorted(self.data.iterdir()) if path.name.startswith(starts)]
        return {
            "data": sha256(*files),
            "subset": self.subset,
            "source_lang": self.source_lang,
            "target_lang": self.target_lang,
            "precision": self.precision,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Measurement:
    """How systems are timed.

    Attributes:
        batch_sizes: sentences a batch.
        sentences: to be translated at each batch size, at least (see `choose_batches`).
        warmup: batches before the clock starts.
        threads: of torch on the CPU.
        seed: of the sample of sentences.
    """

    batch_sizes: tuple[int, ...] = (1, 32)
    sentences: int = 100
    warmup: int = 3
    threads: int = 1
    seed: int = 1


class Translator(Protocol):
    """A system that is loaded.

    Attributes:
        name: of the system.
        lengths: source tokens of each sentence of the subset.
        latent: whether it decodes through discrete latents.
    """

    name: str
    lengths: list[int]
    latent: bool

    def decode(self, batch_size: int, tokenizer: str) -> list[str]:
        """The whole subset, translated and detokenised, in its order."""

    def prepare(self, sentences: Sequence[int]) -> Any:
        """The batch of these sentences of the subset, on the host."""

    def translate(self, batch: Any) -> list[list[int]]:
        """Token ids of the best hypothesis of each sentence, on the host."""

    def synchronize(self) -> None:
        """Wait until the device is idle."""


def parse_system(words: Sequence[str], shared: Mapping[str, Any] | None = None) -> System:
    """Read NAME CHECKPOINT[:CHECKPOINT...] [OPTION=VALUE ...]; without `beam` it is 1.

    Args:
        words: the declaration.
        shared: options of systems that do not say otherwise.

    Raises:
        UsageError: the declaration has another form.
    """
    shown = f"--system {' '.join(words)}"
    if len(words) < 2 or not words[0].strip() or not words[1]:
        raise UsageError(f"{shown}: needs the form NAME CHECKPOINT [OPTION=VALUE ...]")
    options: dict[str, Any] = {"beam": 1, **(shared or {})}
    given = set()
    for setting in words[2:]:
        name, equals, value = setting.partition("=")
        name = name.strip().replace("-", "_")
        if not name or not equals:
            raise UsageError(f"{shown}: '{setting}' needs the form OPTION=VALUE")
        if name in given:
            raise UsageError(f"{shown}: {name} is given twice")
        given.add(name)
        options[name] = value if name in PATH_OPTIONS else _value(value.strip())
    if type(options["beam"]) is not int or options["beam"] < 1:
        raise UsageError(f"{shown}: beam must be a whole number from 1")
    system = System(words[0], split_paths(words[1]), options)
    if len(system.file_name.encode(errors="surrogateescape")) > LONGEST_NAME:
        raise UsageError(f"{shown}: needs a shorter name")
    return system


def _value(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return value if value is None or isinstance(value, bool | int | float | str) else text


def split_paths(text: str) -> tuple[str, ...]:
    """Paths joined by ':'; a file with that in its name is one path."""
    return (text,) if Path(text).is_file() else tuple(filter(None, text.split(":")))


def check_systems(systems: Sequence[System], conditions: Conditions) -> None:
    """See whether systems can be what they are declared as, before any time is spent on one of them.

    Raises:
        DataError: see `fairseq_translator.check_systems`.
    """
    from . import fairseq_translator

    fairseq_translator.check_systems(systems, conditions)


def open_system(system: System, conditions: Conditions) -> Translator:
    """Load a system. Another kind of system is another class here, chosen by what its paths are.

    Raises:
        DataError: see `FairseqTranslator`.
    """
    from .fairseq_translator import FairseqTranslator

    return FairseqTranslator(system, conditions)
