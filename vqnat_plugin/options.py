"""An option is declared once, as a field of a dataclass: default, help, and what it may be.

The commands' parsers, their checks, fairseq's flags for models and tasks, and the reference of all options
are made from the same fields. Nothing heavy is imported here.
"""

import argparse
import dataclasses
import difflib
import functools
import math
import os
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from .errors import UsageError
from .files import is_stream

Options = TypeVar("Options")
# No whole number may be larger, or smaller by that: others overflow where they are used.
LARGEST_INTEGER = 2**63 - 1
# Ends of ranges that many options share, far above what anybody wants: what lies beyond was mistyped, and
# would end in hours of work or in a lack of memory.
MOST_BEAM = 1000  # hypotheses of a sentence
MOST_TOKENS = 100_000  # of a sentence
MOST_PROCESSES = 1024  # on a machine, or threads
MOST_WIDTH = 1 << 16  # of layers, in pixels, of what is drawn at a time
MOST_LAYERS = 1000
MOST_CODES = 1 << 24
MOST_SEED = 2**32 - 1  # numpy takes no larger one
MOST_ROUNDS = 1_000_000  # of anything that is done one after the other
# Of a folder of images.
IMAGE_SPLITS = ("train", "valid", "test")
# Values of `exists`.
FILE, FOLDER, PATH = "file", "folder", "file or folder"


def option(
    default: Any,
    help: str,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    choices: Sequence[str] = (),
    exists: str = "",
    writes: str = "",
    metavar: str | tuple[str, str] | None = None,
    short: str | None = None,
    repeat: bool = False,
    positional: bool = False,
    rest: bool | str = False,
    group: str = "",
) -> Any:
    """A field of a dataclass of options; `...` as the default makes it required.

    Args:
        default: value when it is not given; its help shows it.
        help: what it means, in one phrase.
        least, most, above, below: the range of a number: `least` with or without an upper end, or `above`.
            Infinite and undefined ones, and whole ones of more than 64 bits, are never in it.
        choices: the values that a text may have.
        exists: `FILE`, `FOLDER` or `PATH`: what has to be there at that path.
        writes: `FILE` or `FOLDER`: what is written at that path, which has to be possible.
        metavar: stands for the value in the help; for several values, the first and the others.
        short: a second name of one letter, such as "-s".
        repeat: the option may be given several times; its type is a tuple of whatever it takes.
        positional: given by its place, without a name.
        rest: takes everything that is not known, as it is; "--": what stands behind that, and nothing else.
        group: heading in the help; what follows ": " in it explains the group.
    """
    checks = {"least": least, "most": most, "above": above, "below": below, "allowed": tuple(choices)}
    marks = {
        "exists": exists,
        "writes": writes,
        "short": short,
        "repeat": repeat,
        "positional": positional,
        "rest": rest,
    }
    metadata = {"help": help, "group": group, "placeholder": metavar, **checks, **marks}
    return dataclasses.field(default=dataclasses.MISSING if default is ... else default, metadata=metadata)


def flag(name: str) -> str:
    """How an option is typed: `code_dim` as `--code-dim`."""
    return "--" + name.replace("_", "-")


def check(options: Any) -> None:
    """Raise `UsageError` for the first option of a dataclass that is out of its range."""
    for field in dataclasses.fields(options):
        given = getattr(options, field.name)
        for value in given if isinstance(given, tuple | list) else (given,):
            if needed := _needed(field.metadata, value):
                name = field.name if field.metadata.get("positional") else flag(field.name)
                raise UsageError(f"{name} {value}: {needed}")


@dataclasses.dataclass(kw_only=True)
class PluginOptions:
    """For commands that read checkpoints."""

    user_dir: Path | None = option(
        None, "fairseq plugin of yours that the model comes from", exists=FOLDER, metavar="DIR"
    )


def require(options: Any, name: str, holds: bool, needed: str) -> None:
    """Raise `UsageError` unless an option is as others ask for."""
    if not holds:
        raise UsageError(f"{flag(name)} {getattr(options, name)}: needs {needed}")


def _needed(marks: Mapping[str, Any], value: Any) -> str:
    """What a value would have to be; empty when it is that."""
    # fairseq's own options have no marks.
    if value is None or isinstance(value, bool) or "rest" not in marks:
        return ""
    if isinstance(value, int | float):
        return out_of_range(value, *(marks[name] for name in ("least", "most", "above", "below")))
    if marks["allowed"] and value not in marks["allowed"]:
        return f"needs one of {', '.join(marks['allowed'])}"
    path = value if isinstance(value, Path) else Path(str(value))
    try:
        return _missing(marks["exists"], path) or _unwritable(marks["writes"], path)
    except OSError as error:
        return f"is no name of a file ({error.strerror})"


def out_of_range(
    value: float,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> str:
    """What a number would have to be to lie in a range, see `option`; empty where it does."""
    # Infinite and undefined numbers are neither above nor below the infinite ends.
    large = isinstance(value, int) and abs(value) > LARGEST_INTEGER
    if not large and least <= value <= most and above < value < below:
        return ""
    if math.isfinite(above):
        return f"needs a value above {above}" + (f" and below {below}" if math.isfinite(below) else "")
    if math.isfinite(below):
        return f"needs a value from {least} to below {below}"
    if math.isfinite(most) and not value < least:
        return f"needs a value from {least} to {most}"
    if large and value > 0:
        return f"needs at most {LARGEST_INTEGER}"
    return f"needs at least {least}" if math.isfinite(least) else "needs a number"


def _missing(kind: str, path: Path) -> str:
    if not kind or {FILE: path.is_file, FOLDER: path.is_dir, PATH: path.exists}[kind]():
        return ""
    return f"no such {kind}" if not path.exists() else f"is no {kind}"


def _unwritable(kind: str, path: Path) -> str:
    if not kind:
        return ""
    there = path.exists()
    if there and path.is_dir() != (kind == FOLDER):
        return f"is a {FILE if kind == FOLDER else FOLDER}, needs a {kind}"
    if is_stream(path):
        return ""
    # A file is replaced in its folder.
    path = path if kind == FOLDER else path.absolute().parent
    place = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not place.is_dir():
        return f"needs a folder where {place} is"
    return "" if os.access(place, os.W_OK | os.X_OK) else f"nothing can be written in {place}"


class Parser(argparse.ArgumentParser):
    """argparse, with mistakes in one line."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)\n")


# Descriptions as they are written.
_HELP = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=28, width=100)


def build_parser(kind: type, program: str, description: str, epilog: str = "") -> Parser:
    """The parser of a command whose options are the fields of a dataclass."""
    parser = Parser(
        prog=program, description=description, epilog=epilog, formatter_class=_HELP, allow_abbrev=False
    )
    groups: dict[str, Any] = {"": parser}
    for field, annotation in option_fields(kind):
        title = field.metadata["group"]
        if title not in groups:
            heading, _, text = title.partition(": ")
            groups[title] = parser.add_argument_group(heading, textwrap.fill(text, 96) or None)
        if not field.metadata["rest"]:
            _add(groups[title], field, annotation)
    for field, _ in option_fields(kind):
        if rest := field.metadata["rest"]:
            usage = parser.format_usage().removeprefix("usage: ").rstrip()
            indent = " " * len(f"usage: {program} ")
            parser.usage = f"{usage}\n{indent}[{'-- ' if rest == '--' else ''}{field.name.upper()} ...]"
    return parser


def option_fields(kind: type) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    """The fields of a dataclass that are options, with their types."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if "rest" in field.metadata:
            yield field, hints[field.name]


def _add(parser: Any, field: dataclasses.Field[Any], annotation: Any) -> None:
    marks, default = field.metadata, field.default
    kind, several = _kind(annotation, marks["repeat"])
    text = marks["help"].replace("%", "%%")
    if kind is bool:
        parser.add_argument(flag(field.name), action="store_true", help=text)
        return
    required = default is dataclasses.MISSING
    if not required and default is not None and default not in ((), ""):
        text += f" (default: {' '.join(map(str, default)) if isinstance(default, tuple) else default})"
    placeholder = {int: "N", float: "X", Path: "PATH"}.get(kind, field.name.upper())
    allowed = "{" + ",".join(marks["allowed"]) + "}" if marks["allowed"] else None
    more: dict[str, Any] = {
        "help": text,
        "type": _converter(kind),
        "metavar": allowed or marks["placeholder"] or placeholder,
    }
    if several:
        more["nargs"] = "+"
    elif marks["positional"] and not required:
        more["nargs"] = "?"
    if marks["repeat"]:
        more["action"] = "append"
    if marks["positional"]:
        parser.add_argument(field.name, **more)
    else:
        names = [*filter(None, [marks["short"]]), flag(field.name)]
        parser.add_argument(*names, dest=field.name, required=required, **more)


def _kind(annotation: Any, repeat: bool) -> tuple[type, bool]:
    """The type of one value, and whether the option takes several of them each time."""
    if isinstance(annotation, types.UnionType):
        annotation = next(each for each in typing.get_args(annotation) if each is not type(None))
    if typing.get_origin(annotation) is not tuple:
        return annotation, False
    if not repeat:
        return typing.get_args(annotation)[0], True
    return _kind(typing.get_args(annotation)[0], False)


def _path(text: str) -> Path:
    if not text:
        # pathlib would take the folder that one is in.
        raise argparse.ArgumentTypeError("needs a path, but nothing is there")
    return Path(text)


def _converter(kind: type) -> Any:
    if kind not in (int, float):
        return _path if kind is Path else kind

    def convert(text: str) -> Any:
        try:
            return kind(text)
        except (ValueError, OverflowError):
            needed = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"'{text:.60}': needs {needed}") from None

    return convert


def parse(kind: type[Options], parser: Parser, arguments: Sequence[str]) -> Options:
    """The options of a command line, checked; a mistake ends the program with one line."""
    rests = {field.name: field.metadata["rest"] for field, _ in option_fields(kind) if field.metadata["rest"]}
    words, others = list(arguments), []
    if "--" in rests.values() and "--" in words:
        end = words.index("--")
        words, others = words[:end], words[end + 1 :]
    known = {name for action in parser._actions for name in action.option_strings}
    strict = True not in rests.values()
    if strict:
        # Before argparse looks: it would name what is missing, not what was mistyped.
        for word in words:
            if word.startswith("--") and word.partition("=")[0] not in known | {"--"}:
                parser.error(_unknown(known, word))
    found, unknown = parser.parse_known_args(words)
    if unknown and strict:
        parser.error(_unknown(known, unknown[0]))
    values = {name: _frozen(value) for name, value in vars(found).items() if value is not None}
    options = kind(**values, **dict.fromkeys(rests, (*unknown, *others)))
    try:
        check(options)
        if own := getattr(options, "check", None):
            own()
    except UsageError as error:
        parser.error(str(error))
    return options


def words(options: Any) -> list[str]:
    """The words of a command line that give these options; those that have their default are left out."""
    found: list[str] = []
    behind: list[str] = []
    for field, _ in option_fields(type(options)):
        value, marks = getattr(options, field.name), field.metadata
        if marks["rest"]:
            behind += ["--", *value] if marks["rest"] == "--" and value else value
        elif marks["positional"]:
            # In front, or the options before would take them.
            found[:0] = map(str, value if isinstance(value, tuple) else () if value is None else (value,))
        elif value != field.default:
            found += _given(flag(field.name), value, marks["repeat"])
    return found + behind


def _given(name: str, value: Any, repeat: bool) -> list[str]:
    if value is True:
        return [name]
    if repeat:
        return [word for each in value for word in _given(name, each, False)]
    if isinstance(value, tuple):
        return [name, *map(str, value)]
    # What begins with a dash would be taken for an option.
    return [f"{name}={value}"] if str(value).startswith("-") else [name, str(value)]


def named_files(name: str, texts: Sequence[str], missing: bool = False) -> dict[str, Path]:
    """The files of an option of the form NAME=FILE, by name; `missing`: they need not be there.

    Raises:
        UsageError: a text has another form, a name stands twice, or a file is not there.
    """
    files: dict[str, Path] = {}
    for text in texts:
        key, _, path = text.partition("=")
        if not key or not path:
            raise UsageError(f"{flag(name)} {text}: needs the form NAME=FILE")
        if key in files:
            raise UsageError(f"{flag(name)} {text}: a second file of '{key}'")
        files[key] = Path(path)
        if not missing and (needed := _missing(FILE, files[key])):
            raise UsageError(f"{flag(name)} {text}: {needed}")
    return files


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _unknown(known: set[str], word: str) -> str:
    if not word.startswith("-"):
        return f"'{word}': is one argument too many"
    near = difflib.get_close_matches(word.partition("=")[0], sorted(known), 1)
    return f"unknown option '{word}'" + (f"; did you mean {near[0]}?" if near else "")
