"""Systems of a comparison: what they are declared as, and what they are asked to do."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from ..errors import DataError, UsageError
from ..options import MOST_BEAM, option_fields
from ..reading import sha256
from ..text.pipeline import FILE_NAME

Options = TypeVar("Options")

# Options whose value is a path, or several joined by ':'.
TEACHERS = ("rescore_with", "verify_with")
TYPES = {int: "a whole number", float: "a number", bool: "True or False", str: "a word"}
# Longest name of a file, with room for what goes before and behind it.
LONGEST_NAME = 200


@dataclass(frozen=True)
class System:
    """One row of a comparison: what decodes, and how. Which kind it is of is seen in `kinds`.

    Attributes:
        name: of the row.
        checkpoints: one path, of a checkpoint of fairseq or of a model's folder; several checkpoints for an
            ensemble.
        options: of its kind; of fairseq's generation, `beam` (1 unless it is given) or `lenpen` for example,
            and of the checkpoint's own task or model, such as `rescore_with`.
    """

    name: str
    checkpoints: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=lambda: {"beam": 1})

    @property
    def beam(self) -> int:
        """How many hypotheses it keeps; exported models call them candidates as well."""
        return int(self.options.get("candidates", self.options["beam"]))

    @property
    def file_name(self) -> str:
        """The name as that of a file, different for different names."""
        return quote(self.name, safe=" ", errors="surrogateescape")

    def as_dict(self) -> dict[str, Any]:
        """What a report says of the system."""
        hidden = {"beam"} if "candidates" in self.options else set()
        shown = {name: value for name, value in self.options.items() if name not in hidden}
        return {"checkpoints": list(self.checkpoints), **shown}

    def files(self) -> list[tuple[str, Path]]:
        """All files that the system is made of, with the option that names each; "" for its checkpoints."""
        named = {"": self.checkpoints} | {
            name: split_paths(self.options.get(name) or "") for name in TEACHERS
        }
        return [(name, Path(path)) for name, paths in named.items() for path in paths]

    def identity(self) -> dict[str, Any]:
        """What the output depends on: the contents of the files, wherever they are, and the options.

        Raises:
            DataError: one of the files is missing.
        """
        self.require_files()
        digests: dict[str, list[str]] = {}
        for name, path in self.files():
            digests.setdefault(name, []).append(sha256(*_files(path)))
        checkpoints = digests.pop("")
        return {"checkpoints": checkpoints, "options": {**self.options, **digests}}

    def require_files(self) -> None:
        """Raise `DataError` unless all files are there."""
        for _, path in self.files():
            if not path.exists():
                raise DataError(f"system {self.name}: no checkpoint {path}")

    def typed(self, kind: type[Options], what: str, **options: Any) -> Options:
        """Options as a dataclass of `option` fields.

        Args:
            kind: the dataclass; it has a method `check`.
            what: has these options, for the message.
            options: those of the system, under the names of the fields.

        Raises:
            UsageError: an option is not known, of another type, or out of its range.
        """
        types = {field.name: annotation for field, annotation in option_fields(kind)}
        for name, value in options.items():
            if name not in types:
                known = ", ".join(sorted({"beam", *types}))
                raise UsageError(f"system {self.name}: {what} does not know '{name}', but {known}")
            wanted = (int, float) if types[name] is float else (types[name],)
            if type(value) not in wanted:
                raise UsageError(f"system {self.name}: {name}={value}: needs {TYPES[types[name]]}")
        found = kind(**options)
        try:
            found.check()  # type: ignore[attr-defined]
        except UsageError as error:
            raise UsageError(f"system {self.name}: {error}") from None
        return found


def _files(path: Path) -> list[Path]:
    """The path, or all files in a folder."""
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


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

    def identity(self) -> dict[str, Any]:
        """What outputs depend on, the contents of the data included."""
        starts = (f"{self.subset}.", "dict.", FILE_NAME)
        files = [path for path in sorted(self.data.iterdir()) if path.name.startswith(starts)]
        return {
            "data": sha256(*files),
            "subset": self.subset,
            "source_lang": self.source_lang,
            "target_lang": self.target_lang,
            "precision": self.precision,
            "seed": self.seed,
        }


def parse_system(words: Sequence[str], shared: Mapping[str, Any] | None = None) -> System:
    """Read NAME PATH[:PATH...] [OPTION=VALUE ...]; without `beam` it is 1.

    Args:
        words: the declaration.
        shared: options of systems that do not say otherwise.

    Raises:
        UsageError: the declaration has another form.
    """
    shown = f"--system {' '.join(words)}"
    if len(words) < 2 or not words[0].strip() or not words[1]:
        raise UsageError(f"{shown}: needs the form NAME PATH [OPTION=VALUE ...]")
    own: dict[str, Any] = {}
    for setting in words[2:]:
        name, equals, value = setting.partition("=")
        name = name.strip().replace("-", "_")
        if not name or not equals:
            raise UsageError(f"{shown}: '{setting}' needs the form OPTION=VALUE")
        if name in own:
            raise UsageError(f"{shown}: {name} is given twice")
        if {name, *own} >= {"beam", "candidates"}:
            raise UsageError(f"{shown}: beam and candidates are the same; give one of them")
        own[name] = value if name in TEACHERS else _value(value.strip())
    system = System(words[0], split_paths(words[1]), {"beam": 1, **(shared or {}), **own})
    if type(system.options["beam"]) is not int or not 1 <= system.options["beam"] <= MOST_BEAM:
        raise UsageError(f"{shown}: beam must be a whole number from 1 to {MOST_BEAM}")
    if len(system.file_name) > LONGEST_NAME:
        raise UsageError(f"{shown}: needs a shorter name")
    return system


def _value(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return value if value is None or isinstance(value, bool | int | float | str) else text


def split_paths(text: str) -> tuple[str, ...]:
    """Paths joined by ':'; what is there with that in its name is one path."""
    return (text,) if text and Path(text).exists() else tuple(filter(None, text.split(":")))
