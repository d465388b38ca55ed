"""Text in, text out: translation with an exported model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, UsageError
from ..options import flag
from ..text.pipeline import TextPipeline
from .decoding import Decoding, check_least
from .dictionary import Dictionary
from .exported import DICTIONARIES, EOS, UNK, Exported
from .graphs import Graphs
from .hypotheses import Hypothesis, hypotheses
from .latents import search
from .splitter import Splitter, cut
from .teacher import Teacher

# Source tokens of a batch, with padding, for all candidates; larger ones leave the caches of a processor.
BATCH_TOKENS = 500


@dataclass(frozen=True)
class Translation:
    """A translation of a sentence.

    Attributes:
        text: as one reads it.
        score: joint log-probability of latents and words, or the teacher's of the words, by the number of
            sub-words, nats.
        tokens: its sub-words.
        codes: its latents; none where a teacher has checked the words.
        passes: how often it has read them.
    """

    text: str
    score: float
    tokens: list[str]
    codes: list[int]
    passes: int = 0


NOTHING = Translation("", 0.0, [], [])


class Translator:
    """An exported model, ready to translate; several threads may use it at once."""

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        """Load a folder that `vqnat export` wrote.

        Args:
            folder: the folder.
            threads: how many a computation may use.

        Raises:
            DataError: it is not there, holds something else, is of a later version, or is damaged.
        """
        self.exported, self._threads = Exported.read(Path(folder)), threads
        paths = [self.exported.path(DICTIONARIES[side]) for side in ("source", "target")]
        self.source, self.target = map(Dictionary, paths)
        self.pipeline = TextPipeline.find(self.exported.folder) if self.exported.text else None
        self._start()

    def _start(self) -> None:
        """Load the graphs, and translate something: all parts have to be of one model."""
        symbols = self.exported.sizes["target_symbols"]
        odd = f"{len(self.target.symbols)} symbols where {symbols} are needed"
        try:
            self.graphs = Graphs(self.exported, self._threads)
            self._batch([[UNK, EOS]], Decoding(min_len=4, max_len_b=8), False)
            if len(self.target.symbols) == symbols:
                return
        except (DataError, MemoryError):
            raise
        except Exception as error:  # ONNX Runtime's own, which have no common class
            odd = str(error).partition("\n")[0]
        folder = self.exported.folder
        raise DataError(f"{folder}: its parts do not fit each other ({odd}); export the model again")

    @cached_property
    def teacher(self) -> Teacher:
        """What ranks candidates and checks drafts, loaded when it is first asked for; see `check`."""
        return Teacher(self.exported, self._threads)

    def check(self, options: Decoding) -> None:
        """Raise `UsageError` for options that are out of their range or that this model cannot serve."""
        options.check()
        for name in ("rescore", "verify"):
            if getattr(options, name) and not self.exported.teacher:
                raise UsageError(
                    f"{flag(name)}: {self.exported.folder} has no teacher; export it again with "
                    "--with-teacher CHECKPOINT"
                )
        if options.verify:
            check_least(options.min_len, self.exported.teacher_longest)

    def translate(self, lines: Sequence[str], split_sentences: bool = False, **decoding: Any) -> list[str]:
        """The best translation of each line; an empty one for an empty line.

        Args:
            lines: raw text, a sentence each; where the data had no text pipeline, sub-words.
            split_sentences: whether a line may have several sentences; they are translated one by one.
            decoding: see `Decoding`.

        Raises:
            UsageError: an option is out of its range, or see `Splitter`.
            DataError: a line is longer than the model reads.
        """
        options = Decoding(**decoding)
        self.check(options)
        _require_lines(lines)
        splitter = Splitter(self) if split_sentences else None
        cuts = [cut(self, splitter, line, number) for number, line in enumerate(lines, 1)]
        found = self.decode([row for each in cuts for row in each.rows], options, False)
        texts = (self.text(each[0].tokens) for each in found)
        return [each.join([next(texts) for _ in each.rows]) for each in cuts]

    def candidates(
        self, lines: Sequence[str], candidates: int = 4, n_best: int | None = None, **decoding: Any
    ) -> list[list[Translation]]:
        """Several translations of each line with their scores, best first.

        There may be fewer than asked for, where the model knows no more, and since different codes often
        write the same: see `distinct`. An empty line has one.

        Args:
            lines: as in `translate`.
            candidates: how many are found.
            n_best: how many of them are returned; all by default.
            decoding: see `Decoding`.

        Raises:
            UsageError, DataError: see `translate`.
        """
        options = Decoding(candidates=candidates, **decoding)
        self.check(options)
        if n_best is not None and n_best < 1:
            raise UsageError(f"n_best {n_best}: needs at least 1")
        _require_lines(lines)
        encoded = [self.encode(line, number) for number, line in enumerate(lines, 1)]
        found = iter(self.decode([row for row in encoded if len(row) > 1], options))
        return [self._shown(next(found), n_best) if len(row) > 1 else [NOTHING] for row in encoded]

    def decode(
        self, rows: Sequence[Sequence[int]], options: Decoding, scores: bool = True
    ) -> list[list[Hypothesis]]:
        """Translate numbers of the source dictionary to such of the target, candidates best first.

        Args:
            rows: sentences, each ended by EOS.
            options: how, see `check`.
            scores: whether they are needed where there is nothing to choose from.
        """
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        found: list[list[Hypothesis]] = [[] for _ in rows]
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and _fits(len(rows[order[end]]), end + 1 - start, options):
                end += 1
            numbers = order[start:end]
            batch = [rows[number] for number in numbers]
            made = self._batch(batch, options, scores)
            if options.rescore:
                made = self.teacher.rank(batch, made, options.lenpen, scores)
            if options.verify:
                drafts = [every[0] for every in made]
                made = [[each] for each in self.teacher.verify(batch, drafts, options)]
            for number, each in zip(numbers, made, strict=True):
                found[number] = each
            start = end
        return found

    def _batch(
        self, rows: Sequence[Sequence[int]], options: Decoding, scores: bool
    ) -> list[list[Hypothesis]]:
        memory = self.graphs.encode(rows)
        limits = [options.limit(len(row)) for row in rows]
        block = 1 << self.graphs.steps
        most = [-(-limit // block) for limit in limits]
        # What a teacher is to rank needs no other scores.
        scores = ((scores and not options.verify) or options.candidates > 1) and not options.rescore
        latents = search(
            self.graphs, memory, options.candidates, most, -(-(options.min_len + 1) // block), scores
        )
        longest = latents.codes.shape[-1]
        codes, real = latents.codes.reshape(-1, longest), latents.mask.reshape(-1, longest)
        words = self.graphs.write(memory, codes, real, max(limits), options, scores)
        return hypotheses(latents, words, np.array(limits), block, options.lenpen)

    def encode(self, line: str, number: int = 1) -> list[int]:
        """Numbers of the source dictionary for a line of raw text, EOS at the end; EOS alone for no text.

        Raises:
            DataError: it is longer than the model reads; `number` of the line is in the message.
        """
        row = self.numbers(line)
        if len(row) > self.exported.longest:
            raise DataError(
                f"line {number} has {len(row)} tokens, the model reads {self.exported.longest} at most: "
                "split it into sentences"
            )
        return row

    def numbers(self, line: str) -> list[int]:
        """The same of a line of any length."""
        if not line.strip():
            return [EOS]
        if self.pipeline is not None:
            line = self.pipeline.encode(line, self.exported.source)
        return self.source.encode(line)

    def text(self, tokens: Sequence[int]) -> str:
        """The line that numbers of the target dictionary make."""
        text = " ".join(self.target.decode(tokens))
        return text if self.pipeline is None else self.pipeline.decode(text, self.exported.target)

    def distinct(self, candidates: Sequence[Hypothesis]) -> dict[str, Hypothesis]:
        """The first of all candidates that read the same, by their texts, in order."""
        found: dict[str, Hypothesis] = {}
        for each in candidates:
            found.setdefault(self.text(each.tokens), each)
        return found

    def _shown(self, found: Sequence[Hypothesis], n_best: int | None) -> list[Translation]:
        return [
            Translation(text, each.score, self.target.decode(each.tokens), each.codes, each.passes)
            for text, each in islice(self.distinct(found).items(), n_best)
        ]


def _require_lines(lines: Sequence[str]) -> None:
    if isinstance(lines, str):
        # Its characters would be lines.
        raise UsageError(f"lines {lines[:40]!r}: needs a list of lines")


def _fits(longest: int, sentences: int, options: Decoding) -> bool:
    return max(longest, options.min_len) * sentences * options.candidates <= BATCH_TOKENS
