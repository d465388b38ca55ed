"""Reading parallel text: two files with one sentence a line, a table with tabs, or JSON lines."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from ..reading import read_lines
from ..text.languages import base_language

VALID_NAMES = ("valid", "val", "dev")
# One pair in so many is held out for each of valid and test where a corpus is not split, and at most so many.
HELD_OUT_SHARE, HELD_OUT_MOST = 20, 2000

# What may be the code of a language, as 'en', 'deu' or 'pt_BR'.
LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Split:
    """Where the text of a subset is.

    Attributes:
        subset: its name in the binarised data.
        files: one file a side, or one file with both.
        languages: codes of source and target.
    """

    subset: str
    files: tuple[Path, ...]
    languages: tuple[str, str]

    @property
    def target(self) -> Path:
        """The file of the target."""
        return self.files[-1]

    @property
    def name(self) -> str:
        """What its files are called."""
        return self.files[0].stem


def find_splits(data: Path, source: str, target: str) -> list[Split]:
    """Find `train`, `valid` (or `val`, `dev`) and every `test*` in a folder.

    Each is a pair of files that end in the languages, or one that ends in `.tsv` or `.jsonl`.

    Raises:
        DataError: a split or one side of it is missing.
    """
    if not data.is_dir():
        raise DataError(f"--data {data}: no such folder")
    languages = (source, target)

    def pair(subset: str, *names: str) -> Split:
        for name in names:
            if files := _files(data, name, languages):
                return Split(subset, files, languages)
        endings = [*_endings(source), *_endings(target), *READERS]
        packed = (f"{name}{end}.gz" for name in names for end in endings)
        found = next((name for name in packed if (data / name).is_file()), None)
        way = f"; {found} is compressed: gunzip it first" if found else ""
        raise DataError(f"--data {data}: needs {names[0]}.{source} and {names[0]}.{target}{way}")

    splits = [pair("train", "train"), pair("valid", *VALID_NAMES)]
    endings = [*_endings(source), *READERS]
    found = {file.name.removesuffix(ending) for ending in endings for file in data.glob(f"test*{ending}")}
    # Without any, `pair` says what is missing.
    names = sorted(found, key=_by_number) or ["test"]
    return splits + [pair(f"test{i or ''}", name) for i, name in enumerate(names)]


def _by_number(name: str) -> list[tuple[int, str]]:
    """What puts test2 before test10."""
    return [(int(digits or 0), letters) for letters, digits in re.findall(r"(\D*)(\d*)", name)]


def _endings(language: str) -> list[str]:
    """What the name of a file in a language ends in: `.en-US`, or `.en`."""
    return [f".{name}" for name in _names(language)]


def _names(language: str) -> list[str]:
    """What a language may be called: `en-US`, or `en`."""
    return [language, base_language(language)]


def _files(data: Path, name: str, languages: tuple[str, str]) -> tuple[Path, ...]:
    """The files of one split; none where one is missing."""
    sides = [
        next((path for end in _endings(each) if (path := data / f"{name}{end}").is_file()), None)
        for each in languages
    ]
    if None not in sides:
        _require_two(languages, sides, "file")
        return tuple(path for path in sides if path is not None)
    table = next((path for end in READERS if (path := data / f"{name}{end}").is_file()), None)
    return () if table is None else (table,)


def _require_two(languages: Sequence[str], found: Sequence[object], what: str) -> None:
    """Raise `DataError` where both languages would be read from the same place."""
    if found[0] == found[1]:
        raise DataError(f"{' and '.join(languages)}: both would be read from the {what} '{found[0]}'")


def read_pairs(split: Split) -> list[Pair]:
    """The sentence pairs of a split.

    Raises:
        DataError: a file is empty, not UTF-8 or of another form, or two files differ in length.
    """
    if len(split.files) == 1:
        file = split.files[0]
        pairs = list(READERS[file.suffix](file, split.languages))
    else:
        source, target = map(read_lines, split.files)
        if len(source) != len(target):
            raise DataError(f"{split.files[0]} has {len(source)} lines but {split.target} has {len(target)}")
        pairs = list(zip(source, target, strict=True))
    if not pairs:
        raise DataError(f"{split.files[0]}: empty")
    return pairs


def _table(path: Path, languages: tuple[str, str]) -> Iterator[Pair]:
    """Two columns, source and target; or columns under a first line that names the languages."""
    # Blank lines separate nothing here, and are left out.
    rows = [(number, line.split("\t")) for number, line in enumerate(read_lines(path), 1) if line.strip(" ")]
    names = [cell.strip() for cell in rows[0][1]] if rows else []
    columns = [_place(names, each) for each in languages]
    if None not in columns:
        _require_two(languages, [names[place or 0] for place in columns], "column")
        del rows[0]
        width = len(names)
    elif columns != [None, None] and all(map(LANGUAGE.fullmatch, names)):
        missing = languages[columns.index(None)]
        raise DataError(f"{path}: line {rows[0][0]} names {', '.join(names)}, but no '{missing}'")
    else:
        columns, width = [0, 1], 2
    for number, row in rows:
        if len(row) != width:
            raise DataError(f"{path}: line {number} has {len(row)} columns, needs {width}, with tabs between")
        yield row[columns[0] or 0], row[columns[1] or 0]


def _place(names: Sequence[str], language: str) -> int | None:
    """Where a language stands in the first line of a table: by its name, else by what it is."""
    wanted = [name.casefold() for name in _names(language)]
    known = {name.casefold(): place for place, name in reversed(list(enumerate(names)))}
    if found := next((name for name in wanted if name in known), None):
        return known[found]
    return next((place for place, name in enumerate(names) if _is_language(name, language)), None)


def _is_language(name: str, language: str) -> bool:
    """Whether a name, as `deu` or `DE`, is that of a language."""
    try:
        return bool(LANGUAGE.fullmatch(name)) and base_language(name) == base_language(language)
    except UsageError:
        return False


def _objects(path: Path, languages: tuple[str, str]) -> Iterator[Pair]:
    """One object a line, with the languages as keys, by itself or under `translation`."""
    source, target = languages
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(f"{path}: line {number}: not JSON") from None
        found = content.get("translation", content) if isinstance(content, dict) else None
        texts: list[Any] = []
        if isinstance(found, dict):
            keys = [next((name for name in _names(each) if name in found), each) for each in languages]
            _require_two(languages, keys, "key")
            texts = [found.get(key) for key in keys]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise DataError(
                f'{path}: line {number}: needs an object {{"{source}": "...", "{target}": "..."}}'
            )
        yield _one_line(texts[0]), _one_line(texts[1])


def _one_line(text: Any) -> str:
    # JSON alone can write line feeds and lone halves of characters.
    return re.sub(r"[\r\n]+", " ", str(text)).encode("utf-8", "replace").decode()


READERS: dict[str, Callable[[Path, tuple[str, str]], Iterator[Pair]]] = {".tsv": _table, ".jsonl": _objects}


def read_corpus(files: Sequence[Path], source: str, target: str) -> list[Pair]:
    """The sentence pairs of a corpus that is not split: two files, or one of both languages.

    Raises:
        DataError: see `read_pairs`.
        UsageError: one file of another kind.
    """
    if len(files) == 1 and files[0].suffix not in READERS:
        raise UsageError(
            f"--data {files[0]}: needs a folder, a file that ends in {' or '.join(READERS)}, or two files"
        )
    if len(files) == 2:
        _check_two(files, source, target)
    return read_pairs(Split("train", tuple(files), (source, target)))


def _check_two(files: Sequence[Path], source: str, target: str) -> None:
    """Raise `UsageError` unless two files are the text of a source and its target."""
    shown = f"--data {' '.join(map(str, files))}"
    for file in files:
        if file.suffix in READERS:
            raise UsageError(f"{shown}: {file.name} alone holds both languages; name one file, or a folder")
    if files[0].samefile(files[1]):
        raise UsageError(f"{shown}: are the same file")
    sides = [file.suffix.removeprefix(".") for file in files]
    if _is_language(sides[0], target) and _is_language(sides[1], source):
        raise UsageError(f"{shown}: needs the source ({source}) first, then the target ({target})")


def hold_out(
    pairs: Sequence[Pair],
    count: int | None,
    usable: Callable[[Pair], bool] = all,
    normal: Callable[[str], str] = str.strip,
) -> dict[str, list[Pair]]:
    """Split a corpus: pairs at equal distances become valid and test, what shares no source with them train.

    A source that has several translations would otherwise be tested on after it was learnt.

    Args:
        pairs: the corpus.
        count: of valid, and of test; see `HELD_OUT_SHARE` for None.
        usable: whether a pair, stripped of blanks around, may be held out.
        normal: the form of a source in which it is compared.

    Raises:
        UsageError: more are wanted than leave as many for train.
    """
    sources = [normal(source) for source, _ in pairs]
    first: dict[str, int] = {}
    for place, (source, target) in enumerate(pairs):
        if usable((source.strip(), target.strip())):
            first.setdefault(sources[place], place)
    places = list(first.values())
    wanted = min(len(places) // HELD_OUT_SHARE, HELD_OUT_MOST) if count is None else count
    if wanted < 1 or 3 * wanted > len(places):
        if count is None:
            raise UsageError(
                f"--data: {len(places)} usable pairs with different sources are too few to hold out one of "
                f"{HELD_OUT_SHARE} for valid and for test; name a folder with train, valid and test, or say "
                "--held-out N"
            )
        raise UsageError(
            f"--held-out {wanted}: of {len(places)} usable pairs with different sources so many cannot be "
            "held out for valid and as many for test"
        )
    chosen = [places[number * len(places) // (2 * wanted)] for number in range(2 * wanted)]
    held_out = {sources[place] for place in chosen}
    train = [pair for pair, source in zip(pairs, sources, strict=True) if source not in held_out]
    return {
        "train": train,
        "valid": [pairs[place] for place in chosen[::2]],
        "test": [pairs[place] for place in chosen[1::2]],
    }


def numbered_references(target: Path) -> dict[int, Path]:
    """Further references beside `test.de`, by their number: `test.de.1`, `test.de.2`, ..."""
    found = {}
    for file in target.parent.iterdir():
        number = file.name.removeprefix(f"{target.name}.")
        if file.name != number and re.fullmatch(r"[1-9][0-9]*", number) and file.is_file():
            found[int(number)] = file
    return dict(sorted(found.items()))
