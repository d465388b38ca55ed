"""Binarised parallel text: finding, reading and writing it."""

import itertools
import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.data import ConcatDataset, Dictionary, indexed_dataset

from ..data.binarised import require_sound
from ..data.publishing import BINARISED
from ..errors import DataError
from ..text.pipeline import FILE_NAME

ENDINGS = (".bin", ".idx")
# Sentences whose numbers are computed with at a time.
BLOCK = 1 << 14


@dataclass(frozen=True)
class ParallelData:
    """A folder that fairseq-preprocess wrote, seen from source to target language.

    Attributes:
        folder: where the files are.
        source_lang, target_lang: the direction.
        pair: the pair as the file names have it, which may be the other way round: `train.de-en.en`.
    """

    folder: Path
    source_lang: str
    target_lang: str
    pair: str

    def prefixes(self, split: str, language: str) -> list[Path]:
        """Files without ending of `split`, `split1`, `split2`, ..., which fairseq-train reads as one."""
        numbered = (self.folder / f"{split}{k or ''}.{self.pair}.{language}" for k in itertools.count())
        return list(itertools.takewhile(_exists, numbered))

    def files(self, split: str) -> list[Path]:
        """Every file of `split`, `split1`, ..., in a fixed order."""
        languages = (self.source_lang, self.target_lang)
        prefixes = [prefix for language in languages for prefix in self.prefixes(split, language)]
        return [prefix.with_name(prefix.name + ending) for prefix in prefixes for ending in ENDINGS]

    def dictionary_files(self) -> list[Path]:
        """`dict.LANG.txt` of the source and of the target language."""
        return [self.folder / f"dict.{language}.txt" for language in (self.source_lang, self.target_lang)]

    def text_pipeline(self) -> list[Path]:
        """The file that says how the text was treated, where there is one."""
        file = self.folder / FILE_NAME
        return [file] if file.is_file() else []

    def other_splits(self) -> list[Path]:
        """Every file of the validation and test sets."""
        files = (file for file in self.folder.iterdir() if file.is_file())
        return sorted(file for file in files if file.name.startswith(("valid", "test")))

    def read(self) -> "Sentences":
        """The training sentences of both languages."""
        dictionaries = [Dictionary.load(str(file)) for file in self.dictionary_files()]
        languages = (self.source_lang, self.target_lang)
        sides = [
            _read(self.prefixes("train", language), len(dictionary))
            for language, dictionary in zip(languages, dictionaries, strict=True)
        ]
        if len(sides[0]) != len(sides[1]):
            raise DataError(
                f"--data {self.folder}: {len(sides[0])} training sentences in {self.source_lang}, but "
                f"{len(sides[1])} in {self.target_lang}; run fairseq-preprocess again"
            )
        if not len(sides[0]):
            raise DataError(f"--data {self.folder}: the training set is empty")
        return Sentences(*sides, *dictionaries)


@dataclass(frozen=True)
class Sentences:
    """Training sentences as int64 token ids, each ending in EOS, with the dictionaries that spell them."""

    source: Any
    target: Any
    source_dictionary: Dictionary
    target_dictionary: Dictionary

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def source_lengths(self) -> np.ndarray:
        """Tokens of every source sentence, EOS included: int32 (sentences,)."""
        # A copy: fairseq takes the file away with the data set, whoever looks into it.
        return np.array(self.source.sizes, dtype=np.int32)

    def source_words(self, index: int) -> list[int]:
        """Token ids of a source sentence, without special symbols; `<unk>` is a word."""
        dictionary = self.source_dictionary
        special = {dictionary.bos(), dictionary.pad(), dictionary.eos()}
        return [token for token in self.source[index].tolist() if token not in special]


def _exists(prefix: Path) -> bool:
    return all(prefix.with_name(prefix.name + ending).is_file() for ending in ENDINGS)


def _read(prefixes: list[Path], symbols: int) -> Any:
    parts = []
    for prefix in prefixes:
        require_sound(prefix, symbols)
        kind = indexed_dataset.infer_dataset_impl(str(prefix))
        # The cached kind has to be told beforehand which sentences will be asked for.
        kind = "lazy" if kind == "cached" else kind
        parts.append(indexed_dataset.make_dataset(str(prefix), impl=kind, fix_lua_indexing=True))
    return parts[0] if len(parts) == 1 else ConcatDataset(parts)


def open_data(folder: Path, source_lang: str | None = None, target_lang: str | None = None) -> ParallelData:
    """Find the training set and its dictionaries in `folder`.

    Args:
        source_lang, target_lang: the direction to read; both, or none where the file names tell.

    Raises:
        DataError: something is missing, or the language pair is not there or not clear.
    """
    pairs = sorted({file.name.split(".")[1] for file in folder.glob("train.*-*.*.idx")})
    if not pairs:
        # As `vqnat prepare` writes it.
        inside = folder / BINARISED
        there = any(inside.glob("train.*.idx"))
        guess = f"did you mean {inside}?" if there else "is it fairseq-preprocess's --destdir?"
        raise DataError(f"--data {folder}: no train.SRC-TGT.SRC.idx there; {guess}")
    if source_lang is None or target_lang is None:
        if len(pairs) > 1 or pairs[0].count("-") != 1:
            raise DataError(
                f"--data {folder}: holds {', '.join(pairs)}; choose with --source-lang, --target-lang"
            )
        source_lang, target_lang = pairs[0].split("-")
    for pair in (f"{source_lang}-{target_lang}", f"{target_lang}-{source_lang}"):
        data = ParallelData(folder, source_lang, target_lang, pair)
        if pair in pairs:
            break
    else:
        raise DataError(
            f"--source-lang {source_lang} --target-lang {target_lang}: {folder} holds {', '.join(pairs)}"
        )
    for language in (source_lang, target_lang):
        if not data.prefixes("train", language):
            raise DataError(f"--data {folder}: train.{data.pair}.{language}.bin or .idx is missing")
    for file in data.dictionary_files():
        if not file.is_file():
            raise DataError(f"--data {folder}: {file.name} is missing")
    return data


def write_sentences(prefix: Path, sentences: Iterable[torch.Tensor], vocabulary: int) -> None:
    """Write `prefix.bin` and `prefix.idx` in fairseq's memory-mapped format.

    Args:
        prefix: path without ending.
        sentences: int64 token ids of one sentence each, EOS included.
        vocabulary: size of the dictionary; it decides the width of a token, as in fairseq-preprocess.
    """
    # fairseq's own writer keeps Python numbers, about 70 bytes for each sentence.
    dtype = indexed_dataset.best_fitting_int_dtype(vocabulary)
    binary, index = (prefix.with_name(prefix.name + ending) for ending in ENDINGS)
    sizes = array("i")
    with binary.open("wb") as file:
        for sentence in sentences:
            file.write(sentence.numpy().astype(dtype).tobytes())
            sizes.append(len(sentence))
    with indexed_dataset.MMapIndexedDataset.Index.writer(str(index), dtype):
        pass  # It writes what the file begins with.
    with index.open("ab") as file:
        file.write(struct.pack("<Q", len(sizes)))
        sizes.tofile(file)
        start = 0
        for first in range(0, len(sizes), BLOCK):
            lengths = np.dtype(dtype).itemsize * np.array(sizes[first : first + BLOCK], np.int64)
            ends = start + lengths.cumsum()
            (ends - lengths).tofile(file)
            start = int(ends[-1])
