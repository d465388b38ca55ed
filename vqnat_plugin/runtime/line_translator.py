"""Lines in, lines out: what `vqnat translate` writes for a block of lines."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DataError, UsageError
from ..line_filter import Answer
from ..text.languages import between_sentences
from ..text.sentences import halves, sentences
from .decoding import Decoding
from .hypotheses import Hypothesis
from .translator import Translator


class LineTranslator:
    """A translator for blocks of lines."""

    def __init__(
        self,
        model: Path,
        threads: int,
        decoding: Decoding,
        n_best: int | None = None,
        split_sentences: bool = False,
    ) -> None:
        """Load the model.

        Args:
            model: folder that `vqnat export` wrote.
            threads: how many a computation may use.
            decoding: how sentences are translated.
            n_best: so many candidates of a line are written, each with number of the line, rank and score.
            split_sentences: whether a line may have several sentences.

        Raises:
            DataError: see `Translator`.
            UsageError: the model cannot do what is asked for.
        """
        self._translator = Translator(model, threads)
        self._translator.check(decoding)
        self._decoding, self._n_best, self._split = decoding, n_best, split_sentences
        exported = self._translator.exported
        self._language, self._blank = exported.source, " "
        if split_sentences:
            if self._translator.pipeline is None:
                raise UsageError(
                    f"--split-sentences: {model} has no text pipeline (text.json): lines are tokens, not text"
                )
            # Raises what would be raised for each line: a package that is missing, an unknown language.
            sentences("", self._language)
            self._blank = between_sentences(exported.target)

    def answer(self, lines: Sequence[str], before: int) -> Answer:
        """Translate lines, up to the first that is too long.

        Args:
            lines: raw text.
            before: how many lines came before these.
        """
        rows: list[list[list[int]]] = []
        notes: list[str] = []
        error = None
        for number, line in enumerate(lines, before + 1):
            try:
                rows.append(self._rows(line, number, notes))
            except DataError as problem:
                error = problem
                break
        flat = [row for each in rows for row in each]
        found = iter(self._translator.decode(flat, self._decoding, self._n_best is not None))
        texts = [
            text
            for number, each in enumerate(rows, before + 1)
            for text in self._texts(number, [next(found) for _ in each])
        ]
        return Answer(texts, len(rows), notes, error)

    def _rows(self, line: str, number: int, notes: list[str]) -> list[list[int]]:
        """What is to be translated for a line: nothing if it holds no text."""
        if not self._split:
            try:
                row = self._translator.encode(line, number)
            except DataError as error:
                raise DataError(f"{error} (--split-sentences)") from None
            return [row] if len(row) > 1 else []
        rows: list[list[int]] = []
        for sentence in sentences(line, self._language):
            parts = list(self._parts(sentence, number))
            if len(parts) > 1:
                longest = self._translator.exported.longest
                notes.append(
                    f"line {number}: a sentence is longer than the {longest} tokens that the model reads; "
                    f"translated in {len(parts)} parts"
                )
            rows += (row for row in parts if len(row) > 1)
        return rows

    def _parts(self, text: str, number: int) -> Iterator[list[int]]:
        """A sentence; one that is too long in parts that are not."""
        try:
            yield self._translator.encode(text, number)
            return
        except DataError:
            if len(text) < 2:
                raise
        for half in halves(text):
            yield from self._parts(half, number)

    def _texts(self, number: int, found: Sequence[Sequence[Hypothesis]]) -> list[str]:
        """The lines that are written for a line."""
        if self._n_best is None:
            return [self._blank.join(self._translator.text(each[0].tokens) for each in found)]
        if not found:
            return [f"{number}\t1\t{0:.4f}\t"]
        return [
            f"{number}\t{rank}\t{each.score:.4f}\t{self._translator.text(each.tokens)}"
            for rank, each in enumerate(found[0][: self._n_best], 1)
        ]
