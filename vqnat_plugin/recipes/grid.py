"""The grid: which trainings, what they share, and which of them are compared."""

import hashlib
import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..launch import PLUGIN, option_value
from ..options import MOST_SEED
from .plain_yaml import read_yaml

# By what is measured: what a row may be trained on, the default last.
DATA = {"translation": ("raw", "distilled"), "images": ("images",)}
# What a row may not set, and what to do instead.
GIVEN = {"--seed": "say 'seeds'", "--save-dir": "say where to write with --out"}
# A comparison's name becomes that of files.
NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Cell:
    """One training with its measurement.

    Attributes:
        data: what it is trained on, see `DATA`.
        flags: what `vqnat train` is given, all of it but data, seed and folders.
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

    def plugin(self) -> tuple[str, ...]:
        """What the command that measures the training needs to know its model, where that is a plugin's."""
        folder = option_value(list(self.flags), "--user-dir")
        return () if folder is None or Path(folder).name == Path(PLUGIN).name else ("--user-dir", folder)


@dataclass(frozen=True)
class Row:
    """A line of a comparison's table: the same training with several seeds."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """Rows that are compared.

    Attributes:
        name: short, for file names.
        title: heading.
        paper: what the paper says; may be empty.
        rows: what is compared.
        curves: whether the course of the trainings is drawn too.
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
        measure: `translation` or `images`.
        title: of the report.
        notes: lines under the tables.
    """

    caption: str
    comparisons: tuple[Comparison, ...]
    measure: str = "translation"
    title: str = "Ablations"
    notes: tuple[str, ...] = ()

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
    """Takes entries out of one mapping of the file; as a context, complains about what is left at the end."""

    where: str
    entries: dict[Any, Any]
    known: set[str] = field(default_factory=set)

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        unknown = sorted(map(str, set(self.entries) - self.known))
        if unknown and kind is None:
            raise DataError(f"{self.where}: unknown entry '{unknown[0]}' (known: {sorted(self.known)})")

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        self.known.add(key)
        value = self.entries.get(key, default)
        if value is None or not isinstance(value, kind):
            raise DataError(f"{self.where}: '{key}' must be given, as {kind.__name__}, but is {value!r}")
        return value

    def line(self, key: str, default: str | None = None) -> str:
        """A text without its line breaks."""
        return " ".join(self.take(key, str, default).split())

    def words(self, key: str, default: str | None = None) -> list[str]:
        """Flags, quoted as for a shell."""
        text = self.take(key, str, default)
        if "\0" in text:
            raise DataError(f"{self.where}: '{key}' holds a character that no command line can have")
        try:
            return shlex.split(text)
        except ValueError as error:
            raise DataError(f"{self.where}: '{key}' is no command line ({error}): {text!r}") from None

    def choice(self, key: str, allowed: Iterable[str], default: str) -> str:
        value: str = self.take(key, str, default)
        if value not in allowed:
            raise DataError(f"{self.where}: '{key}' is {value!r}, must be one of {', '.join(allowed)}")
        return value

    def named(self, key: str) -> dict[Any, Any]:
        """A mapping of at least one entry."""
        found: dict[Any, Any] = self.take(key, dict)
        if not found:
            raise DataError(f"{self.where}: '{key}' needs at least one entry")
        return found

    def seeds(self, default: list[int] | None = None) -> list[int]:
        seeds: list[int] = self.take("seeds", list, default)
        sound = all(type(seed) is int and 0 < seed <= MOST_SEED for seed in seeds)
        if not seeds or not sound or len(set(seeds)) < len(seeds):
            raise DataError(
                f"{self.where}: 'seeds' must be whole numbers from 1, each another, but is {seeds!r}"
            )
        return seeds


def read_grid(path: Path) -> Grid:
    """Read a grid file (YAML).

    It has `caption`, `seeds` (a list), `train` (flags that all trainings share) and `comparisons`: by name,
    `title`, `rows`, and if wanted `paper`, `note`, `curves: true`, `train` and `seeds` of its own (flags are
    put behind the shared ones, so that they win). Each row, by name, is the flags by which it differs, or a
    mapping of `flags` and `data`: for a translation, `raw` or `distilled`, the default. If wanted there are
    also `measure` (`translation`, the default, or `images`), `title` and `notes` (a list).

    Raises:
        DataError: the file cannot be read or has another form; the message says where.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: must hold 'caption', 'seeds', 'train' and 'comparisons'")
    with _Reader(str(path), content) as reader:
        measure = reader.choice("measure", DATA, Grid.measure)
        notes = reader.take("notes", list, [])
        if not all(isinstance(note, str) for note in notes):
            raise DataError(f"{path}: 'notes' must be texts, but is {notes!r}")
        caption, title = reader.line("caption"), reader.line("title", Grid.title)
        seeds, flags = reader.seeds(), reader.words("train")
        comparisons = tuple(
            _comparison(f"{path}: {name}", str(name), entries, DATA[measure], flags, seeds)
            for name, entries in reader.named("comparisons").items()
        )
        titles = [each.title for each in comparisons]
        if twice := [each for each in titles if titles.count(each) > 1]:
            raise DataError(f"{path}: two comparisons have the title '{twice[0]}'; a report needs others")
    return Grid(caption, comparisons, measure, title, tuple(" ".join(note.split()) for note in notes))


def _comparison(
    where: str, name: str, entries: Any, data: tuple[str, ...], shared: list[str], seeds: list[int]
) -> Comparison:
    if not NAME.fullmatch(name):
        raise DataError(f"{where}: a comparison's name becomes that of files: letters, digits, '_' and '-'")
    if not isinstance(entries, dict):
        raise DataError(f"{where}: must hold 'title' and 'rows'")
    with _Reader(where, entries) as reader:
        flags, seeds = [*shared, *reader.words("train", "")], reader.seeds(seeds)
        return Comparison(
            name,
            title=reader.line("title"),
            paper=reader.line("paper", ""),
            rows=tuple(
                _row(f"{where}: {label}", str(label), value, data, flags, seeds)
                for label, value in reader.named("rows").items()
            ),
            curves=reader.take("curves", bool, False),
            note=reader.line("note", ""),
        )


def _row(
    where: str, name: str, value: Any, data: tuple[str, ...], shared: list[str], seeds: list[int]
) -> Row:
    if isinstance(value, str):
        value = {"flags": value}
    if not isinstance(value, dict):
        raise DataError(f"{where}: must be flags, or a mapping of 'flags' and 'data', but is {value!r}")
    with _Reader(where, value) as reader:
        flags = (*shared, *reader.words("flags", ""))
        for flag, way in GIVEN.items():
            if option_value(list(flags), flag) is not None:
                raise DataError(f"{where}: {flag} is set for each training; {way}")
        trained_on = reader.choice("data", data, data[-1])
    return Row(name, tuple(Cell(trained_on, flags, seed) for seed in seeds))
