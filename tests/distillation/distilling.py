"""Running the command, and looking at binarised data from outside, without the package under test."""

import json
import shutil
from pathlib import Path
from typing import Any

from fairseq.data import Dictionary, indexed_dataset

from vqnat_plugin.commands.main import main
from vqnat_plugin.distillation.settings import DistillOptions


def vqnat_distill(*arguments: str) -> int:
    """The exit status of the command, run in this process."""
    try:
        return main(["distill", *arguments])
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        return ended.code


def options(**some: Any) -> DistillOptions:
    """Options of which the required ones name nothing unless told otherwise."""
    return DistillOptions(**{"data": Path("d"), "teacher": "t", "out": Path("o"), **some})


def ids(folder: Path, language: str, split: str = "train") -> list[list[int]]:
    """The sentences of a binarised split."""
    dataset = indexed_dataset.make_dataset(str(folder / f"{split}.en-de.{language}"), impl="mmap")
    return [dataset[i].tolist() for i in range(len(dataset))]


def words(folder: Path, language: str) -> list[str]:
    """The training sentences of a language as text."""
    dictionary = Dictionary.load(str(folder / f"dict.{language}.txt"))
    return [dictionary.string(sentence) for sentence in ids(folder, language)]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of finished data, but for the manifest, which has times in it."""
    return {
        file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and file.suffix != ".json"
    }


def manifest(out: Path) -> dict[str, Any]:
    """`manifest.json` of finished data."""
    return dict(json.loads((out / "manifest.json").read_text()))


def chunk_times(out: Path) -> dict[str, int]:
    """When each finished chunk was written."""
    return {file.name: file.stat().st_mtime_ns for file in out.glob(".distill/chunks-*/[0-9]*.npz")}


def copy_of(data: Path, to: Path) -> Path:
    """A copy of a data folder, to spoil."""
    return Path(shutil.copytree(data, to))


def binarize(folder: Path, source: list[str], target: list[str], dictionaries: Path) -> Path:
    """A data folder of the given training text, binarised as fairseq-preprocess does it."""
    folder.mkdir()
    for language, lines in (("en", source), ("de", target)):
        shutil.copyfile(dictionaries / f"dict.{language}.txt", folder / f"dict.{language}.txt")
        dictionary = Dictionary.load(str(folder / f"dict.{language}.txt"))
        prefix = str(folder / f"train.en-de.{language}")
        builder = indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=len(dictionary))
        for line in lines:
            builder.add_item(dictionary.encode_line(line, add_if_not_exist=False))
        builder.finalize(f"{prefix}.idx")
    return folder
