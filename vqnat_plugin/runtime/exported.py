"""The folder of an exported model: what is in it, and whether it is whole."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import write_json
from ..reading import read_json, sha256
from ..text.pipeline import FILE_NAME as TEXT

# Raised when a folder cannot be read by older versions any more.
FORMAT = 4
CONFIG = "config.json"
KIND = "vqnat translation model"
GRAPHS = ("encoder", "step", "writer")
TEACHER_GRAPHS = ("teacher_encoder", "teacher_scorer")
DICTIONARIES = {"source": "dict.source.txt", "target": "dict.target.txt"}
# Symbols at the start of every dictionary of fairseq.
BOS, PAD, EOS, UNK = range(4)
SPECIALS = 4
# What is known of the model beside its graphs, and the least that it can be. Memory is taken by it: what is
# larger than the most was forged.
SIZES = {
    "embed_dim": 1,
    "attention_heads": 1,
    "predictor_layers": 1,
    "codebook_size": 1,
    "compress_steps": 0,
    "target_symbols": SPECIALS,
}
# The same of a teacher: most tokens of a translation, its end included.
LONGEST = "max_target_positions"
# Tokens of a source, its end included, that hardly any of the training exceeds. It may be missing.
USUAL = "usual_source_tokens"
MOST_SYMBOLS, MOST_WIDTH = 1 << 24, 1 << 16
MOST = {"compress_steps": 6, "codebook_size": MOST_SYMBOLS, "target_symbols": MOST_SYMBOLS}


@dataclass(frozen=True)
class Exported:
    """An exported model whose files are all there and as they were written.

    Attributes:
        folder: where it is.
        precision: `fp32` or `int8`.
        source, target: codes of the languages.
        longest: most tokens of a source sentence, its end included.
        usual: the same of those of the training, but for one in a thousand; `longest` where that is unknown.
        text: whether a text pipeline is there.
        teacher: whether an autoregressive model is there that ranks candidates and checks drafts.
        teacher_longest: most tokens that it writes, its end included; 0 without one.
        sizes: of the model, see `SIZES`.
    """

    folder: Path
    precision: str
    source: str
    target: str
    longest: int
    usual: int
    text: bool
    teacher: bool
    teacher_longest: int
    sizes: dict[str, int]

    def path(self, name: str) -> Path:
        """A file in the folder."""
        return self.folder / name

    @classmethod
    def read(cls, folder: Path) -> "Exported":
        """Read and check a folder.

        Raises:
            DataError: it is not there, holds something else, is of a later version, or is damaged.
        """
        config = read_config(folder)
        files, teacher = config["files"], config["teacher"]
        found = cls(
            folder,
            precision=config["precision"],
            source=config["source_lang"],
            target=config["target_lang"],
            longest=config["max_source_positions"],
            usual=min(config.get(USUAL) or MOST_WIDTH, config["max_source_positions"]),
            text=TEXT in files,
            teacher=teacher is not None,
            teacher_longest=0 if teacher is None else teacher[LONGEST],
            sizes=config["sizes"],
        )
        for name in file_names(found.text, found.teacher):
            path = folder / name
            if not path.is_file():
                raise DataError(f"{path}: missing; export the model again")
            try:
                same = sha256(path) == files.get(name)
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror})") from None
            if not same:
                raise DataError(f"{path}: is not the file that was exported; export the model again")
        return found


def file_names(text: bool, teacher: bool) -> list[str]:
    """The files of a folder beside `config.json`, with those of a text pipeline and of a teacher or not."""
    graphs = (*GRAPHS, *TEACHER_GRAPHS) if teacher else GRAPHS
    return [*(f"{name}.onnx" for name in graphs), *DICTIONARIES.values(), *([TEXT] if text else [])]


def read_config(folder: Path) -> dict[str, Any]:
    """What `config.json` says.

    Raises:
        DataError: the folder is none, holds something else, is of a later version, or the file was changed.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    foreign = DataError(f"{folder}: is no exported model; 'vqnat export' makes one of a checkpoint")
    if not (folder / CONFIG).is_file():
        raise foreign
    config = read_json(folder / CONFIG)
    if config.get("kind") != KIND:
        raise foreign
    if config.get("format") != FORMAT:
        raise DataError(
            f"{folder}: exported model of format {config.get('format')!r}, needs {FORMAT}; was it written by "
            "another version?"
        )
    if config.pop("digest", None) != _digest(config):
        raise DataError(f"{folder / CONFIG}: is not what was exported; export the model again")
    if odd := _odd(config):
        raise DataError(f"{folder / CONFIG}: {odd}; export the model again")
    return config


def _odd(config: dict[str, Any]) -> str:
    """What is wrong with the values that are read; empty where nothing is."""
    kinds: dict[str, Any] = {"files": dict, "max_source_positions": int, "precision": str, "sizes": dict}
    kinds |= {"source_lang": str, "target_lang": str, "teacher": dict | None}
    for name, kind in kinds.items():
        value = config.get(name, ...)
        if not isinstance(value, kind) or value is True:
            return f"'{name}' is missing" if value is ... else f"'{name}' cannot be {value!r}"
    smallest = {**SIZES, "max_source_positions": 1}
    values = {**config["sizes"], "max_source_positions": config["max_source_positions"]}
    if config.get(USUAL) is not None:
        smallest[USUAL], values[USUAL] = 1, config[USUAL]
    if config["teacher"] is not None:
        smallest[LONGEST], values[LONGEST] = 1, config["teacher"].get(LONGEST)
    for name, least in smallest.items():
        value = values.get(name)
        if type(value) is not int or value < least:
            return f"'{name}' has to be a whole number of at least {least}, not {value!r}"
        if value > (most := MOST.get(name, MOST_WIDTH)):
            return f"'{name}' has to be at most {most:,}, not {value:,}"
    return ""


def write_config(folder: Path, content: dict[str, Any]) -> None:
    """Write `config.json`, with a digest of what it says."""
    content = {"kind": KIND, "format": FORMAT, **content}
    write_json(folder / CONFIG, {**content, "digest": _digest(content)})


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
