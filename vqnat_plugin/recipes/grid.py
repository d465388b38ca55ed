"""The grid: which trainings, what they share, and which of them are compared."""

import hashlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..errors import DataError

DATA = ("raw", "distilled")


@dataclass(frozen=True)
class Cell:
    """One training with its decoding.

    Attributes:
        data: `raw` or `distilled` targets.
        flags: what `fairseq-train` is given, all of it but data, seed and folders.
        seed: of the training.
    """

    data: str
    flags: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder: the same for the same training, in whichever comparison it stands."""
        digest = hashlib.sha256(json.dumps([self.data, self.flags]).encode()).hexdigest()
        return f"{digest[:12]}-seed{self.seed}"


@dataclass(frozen=True)
class Row:
    """A line of a comparison's table: the same training with several seeds."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """One table.

    Attributes:
        name: short, for file names.
        title: heading.
        paper: what the paper says.
        rows: what is compared.
        curves: whether codebook and quality over updates are drawn too.
        note: what is to be said of our figures beside the paper's; may be empty.
    """

    name: str
    title: str
    paper: str
    rows: tuple[Row, ...]
    curves: bool = False
    note: str = ""


@dataclass(frozen=True)
class Grid:
    """Everything in a grid file.

    Attributes:
        caption: stands above all tables, and says how large the models are.
        comparisons: in the order of the file.
    """

    caption: str
    comparisons: tuple[Comparison, ...]

    def cells(self) -> list[Cell]:
        """All trainings, each once, in the order of the file; the first seed of everything comes first."""
        found = [
            (number, cell)
            for comparison in self.comparisons
            for row in comparison.rows
            for number, cell in enumerate(row.cells)
        ]
        return list(dict.fromkeys(cell for _, cell in sorted(found, key=lambda pair: pair[0])))


@dataclass
class _Reader:
    """Takes entries out of one mapping of the file, and complains about what is left."""

    where: str
    entries: dict[str, Any]
    known: set[str] = field(default_factory=set)

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        self.known.add(key)
        value = self.entries.get(key, default)
        if value is None or not isinstance(value, kind):
            raise DataError(f"{self.where}: '{key}' must be given, as {kind.__name__}, but is {value!r}")
        return value

    def finish(self) -> None:
        if unknown := sorted(map(str, set(self.entries) - self.known)):
            raise DataError(f"{self.where}: unknown entry '{unknown[0]}' (known: {sorted(self.known)})")


def read_grid(path: Path) -> Grid:
    """Read a grid file (YAML).

    It has `caption`, `seeds` (a list), `train` (flags that all trainings share) and `comparisons`: by name,
    `title`, `paper`, `rows`, and if wanted `note`, `curves: true`, `train` and `seeds` of its own (flags are
    put behind the shared ones, so that they win). Each row, by name, is the flags by which it differs, or a
    mapping of `flags` and `data` (`raw` or `distilled`, the default).

    Raises:
        DataError: the file cannot be read or has another form; the message says where.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (YAMLError, OmegaConfBaseException) as error:
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: must hold 'caption', 'seeds', 'train' and 'comparisons'")
    reader = _Reader(str(path), {str(key): value for key, value in content.items()})
    caption, seeds = reader.take("caption", str), _seeds(reader)
    shared = shlex.split(reader.take("train", str))
    comparisons = reader.take("comparisons", dict)
    reader.finish()
    return Grid(
        " ".join(caption.split()),
        tuple(
            _comparison(f"{path}: {name}", str(name), entries, shared, seeds)
            for name, entries in comparisons.items()
        ),
    )


def _seeds(reader: _Reader, default: list[int] | None = None) -> list[int]:
    seeds = reader.take("seeds", list, default)
    if not seeds or not all(isinstance(seed, int) and seed > 0 for seed in seeds):
        raise DataError(f"{reader.where}: 'seeds' must be whole numbers from 1, but is {seeds!r}")
    return seeds


def _comparison(where: str, name: str, entries: Any, shared: list[str], seeds: list[int]) -> Comparison:
    if not isinstance(entries, dict):
        raise DataError(f"{where}: must hold 'title', 'paper' and 'rows'")
    reader = _Reader(where, entries)
    title, paper = reader.take("title", str), reader.take("paper", str)
    own = shlex.split(reader.take("train", str, ""))
    seeds = _seeds(reader, seeds)
    curves, note = reader.take("curves", bool, False), reader.take("note", str, "")
    rows = reader.take("rows", dict)
    reader.finish()
    return Comparison(
        name,
        title,
        paper,
        tuple(
            Row(str(label), tuple(_cells(f"{where}: {label}", value, [*shared, *own], seeds)))
            for label, value in rows.items()
        ),
        curves,
        " ".join(note.split()),
    )


def _cells(where: str, value: Any, shared: list[str], seeds: list[int]) -> Iterator[Cell]:
    if isinstance(value, str):
        value = {"flags": value}
    if not isinstance(value, dict):
        raise DataError(f"{where}: must be flags, or a mapping of 'flags' and 'data', but is {value!r}")
    reader = _Reader(where, value)
    flags, data = reader.take("flags", str, ""), reader.take("data", str, "distilled")
    reader.finish()
    if data not in DATA:
        raise DataError(f"{where}: 'data' is {data!r}, must be one of {', '.join(DATA)}")
    for seed in seeds:
        yield Cell(data, (*shared, *shlex.split(flags)), seed)
