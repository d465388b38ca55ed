"""Lines in, lines out: what `vqnat translate` writes for a block of lines."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from ..errors import DataError
from ..line_filter import Answer
from .decoding import Decoding
from .hypotheses import Hypothesis
from .splitter import Cut, Splitter, cut
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
        self._decoding, self._n_best = decoding, n_best
        self._splitter = Splitter(self._translator) if split_sentences else None
        may_split = self._translator.pipeline is not None and n_best is None and not split_sentences
        self._way = " (--split-sentences)" if may_split else ""

    def answer(self, lines: Sequence[str], before: int) -> Answer:
        """Translate lines, up to the first that is too long.

        Args:
            lines: raw text.
            before: how many lines came before these.
        """
        cuts: list[Cut] = []
        notes: list[str] = []
        error = None
        for number, line in enumerate(lines, before + 1):
            try:
                cuts.append(self._cut(line, number, notes))
            except DataError as problem:
                error = problem
                break
        flat = [row for each in cuts for row in each.rows]
        found = iter(self._translator.decode(flat, self._decoding, self._n_best is not None))
        texts = [
            text
            for number, each in enumerate(cuts, before + 1)
            for text in self._texts(number, each, [next(found) for _ in each.rows])
        ]
        return Answer(texts, len(cuts), notes, error)

    def _cut(self, line: str, number: int, notes: list[str]) -> Cut:
        try:
            found = cut(self._translator, self._splitter, line, number, notes)
        except DataError as error:
            raise DataError(f"{error}{self._way}") from None
        tokens, usual = max(map(len, found.rows), default=0), self._translator.exported.usual
        if self._splitter is None and tokens > usual:
            notes.append(
                f"line {number}: has {tokens} tokens, nearly all that the model was trained on have at most "
                f"{usual}; some of it may be missing{self._way}"
            )
        return found

    def _texts(self, number: int, text: Cut, found: Sequence[Sequence[Hypothesis]]) -> list[str]:
        """The lines that are written for a line."""
        if self._n_best is None:
            return [text.join([self._translator.text(each[0].tokens) for each in found])]
        if not found:
            return [f"{number}\t1\t{0:.4f}\t"]
        distinct = self._translator.distinct(found[0])
        return [
            f"{number}\t{rank}\t{each.score:.4f}\t{text}"
            for rank, (text, each) in enumerate(islice(distinct.items(), self._n_best), 1)
        ]
