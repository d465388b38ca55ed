"""A system that is a folder of CTranslate2, decoded by it on the CPU."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2

from ..errors import DataError, UsageError
from ..options import MOST_BEAM, MOST_TOKENS, option
from ..options import check as check_ranges
from ..reading import read_text
from .subset_translator import Engines, SubsetTranslator, plain_task, require_symbols
from .systems import Conditions, System

# CTranslate2's names of precisions where this project has others.
PRECISIONS = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "int8_float32": "int8",
}
# CTranslate2's name of padding.
BLANK = "<blank>"
ENGINES = Engines()


@dataclass(kw_only=True)
class Search:
    """How CTranslate2 searches, with fairseq's names, defaults and meanings.

    Scores are divided as in fairseq: by the number of tokens, EOS included, to the power of `lenpen`. Two
    small differences: at the length limit a hypothesis ends without EOS, where fairseq adds it and its score;
    and EOS that `min_len` forbids takes no part in the softmax, where fairseq takes it out behind.
    """

    beam: int = option(1, "hypotheses a sentence; 1 is greedy", least=1, most=MOST_BEAM)
    max_len_a: float = option(
        0.0, "with --max-len-b: at most a * longest source of the batch + b tokens", least=0, most=MOST_TOKENS
    )
    max_len_b: int = option(200, "b of --max-len-a", least=0, most=MOST_TOKENS)
    min_len: int = option(1, "at least so many tokens", least=0, most=MOST_TOKENS)
    lenpen: float = option(1.0, "exponent of the length by which scores are divided")

    def check(self) -> None:
        """Raise `UsageError` for an option that is out of its range, or for two that do not go together."""
        check_ranges(self)
        if self.max_len_a == 0 and self.min_len > self.max_len_b:
            raise UsageError(f"min_len={self.min_len}: needs a max_len_b of as much, or more")

    def limit(self, longest: int) -> int:
        """Most tokens of a translation, without EOS, for a batch with such a longest source."""
        return max(int(self.max_len_a * longest + self.max_len_b), self.min_len, 1)


def check(
    systems: Sequence[System], data: Path, languages: tuple[str | None, str | None]
) -> tuple[str | None, str | None]:
    """See `kinds`; loads each folder once."""
    task = plain_task(data, languages)
    known: set[str] = set()
    for system in systems:
        _search(system)
        [folder] = system.checkpoints
        if folder not in known:
            _engine(system, threads=0)
            for side, dictionary in (("source", task.source_dictionary), ("target", task.target_dictionary)):
                require_symbols(system, side, _symbols(system, side), dictionary)
        known.add(folder)
    return task.cfg.source_lang, task.cfg.target_lang


def _search(system: System) -> Search:
    return system.typed(Search, "a model of CTranslate2", **system.options)


def _engine(system: System, threads: int) -> Any:
    [folder] = system.checkpoints
    try:
        return ctranslate2.Translator(folder, device="cpu", inter_threads=1, intra_threads=threads)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"system {system.name}: {folder}: CTranslate2 cannot read it ({error})") from None


def _symbols(system: System, side: str) -> list[str]:
    """Symbols of a folder, under fairseq's names."""
    folder = Path(system.checkpoints[0])
    paths = [folder / f"{name}_vocabulary.json" for name in (side, "shared")]
    for path in paths:
        if path.is_file():
            try:
                return ["<pad>" if symbol == BLANK else symbol for symbol in json.loads(read_text(path))]
            except (TypeError, ValueError):
                raise DataError(f"system {system.name}: {path}: no list of symbols; convert again") from None
    raise DataError(
        f"system {system.name}: {folder}: has neither {' nor '.join(path.name for path in paths)}; convert "
        "the checkpoint again"
    )


@dataclass
class Batch:
    """Sources as symbols, without EOS, which CTranslate2 adds; and the most tokens of a translation."""

    sources: list[list[str]]
    limit: int


class CTranslate2Translator(SubsetTranslator):
    """A folder of CTranslate2 that is loaded."""

    def __init__(self, system: System, conditions: Conditions, threads: int) -> None:
        """Load the model and the subset.

        Args:
            system: whose folder has been checked.
            conditions: with the languages.
            threads: how many CTranslate2 may use, 0 for all.

        Raises:
            DataError: see `SubsetTranslator`; or CTranslate2 cannot read the folder.
        """
        self.search = _search(system)
        self.engine = ENGINES.get((system.checkpoints, threads), lambda: _engine(system, threads))
        task = plain_task(conditions.data, (conditions.source_lang, conditions.target_lang))
        precision = self.engine.compute_type
        super().__init__(system, conditions, task, PRECISIONS.get(precision, precision))

    def prepare(self, sentences: Sequence[int]) -> Batch:
        """Symbols of the sources."""
        rows = [self.source(number) for number in sentences]
        symbols = self.task.source_dictionary.symbols
        sources = [[symbols[token] for token in row[:-1]] for row in rows]
        return Batch(sources, self.search.limit(max(map(len, rows))))

    def translate(self, batch: Batch) -> list[list[str]]:
        """Symbols of the best translations, without EOS, in order.

        Raises:
            DataError: a sentence is longer than the model reads or writes.
        """
        try:
            found = self.engine.translate_batch(
                batch.sources,
                beam_size=self.search.beam,
                length_penalty=self.search.lenpen,
                min_decoding_length=self.search.min_len,
                max_decoding_length=batch.limit,
                # Nothing is cut off, nor cut into other batches.
                max_input_length=0,
                max_batch_size=0,
            )
        except RuntimeError as error:
            raise DataError(
                f"system {self.name}: CTranslate2 cannot translate a batch ({error}); is a sentence too "
                "long, or max_len_b too high for the model?"
            ) from None
        return [each.hypotheses[0] for each in found]

    def tokens(self, translations: list[list[str]]) -> list[list[int]]:
        """Token ids, each sentence ended by EOS."""
        dictionary = self.task.target_dictionary
        names = {BLANK: dictionary.pad_word}
        return [
            [*(dictionary.index(names.get(symbol, symbol)) for symbol in row), dictionary.eos()]
            for row in translations
        ]


load = CTranslate2Translator
