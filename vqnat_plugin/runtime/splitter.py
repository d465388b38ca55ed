"""Text of several sentences: cut before it is translated, joined behind it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import DataError, UsageError
from ..text.languages import between_sentences
from ..text.sentences import halves, sentences

if TYPE_CHECKING:
    from .translator import Translator


class Splitter:
    """Sentences of raw text, for a translator: it knows single sentences only."""

    def __init__(self, translator: "Translator") -> None:
        """
        Raises:
            UsageError: the model has no text pipeline, or nobody has rules for its languages.
        """
        exported = translator.exported
        if translator.pipeline is None:
            raise UsageError(
                f"--split-sentences: {exported.folder} has no text pipeline (text.json): lines are tokens, "
                "not text"
            )
        self._translator, self._language, self._longest = translator, exported.source, exported.longest
        # Raises what would be raised for each line: a package that is missing, an unknown language.
        sentences("", self._language)
        self._blank = between_sentences(exported.target)

    def rows(self, line: str, number: int = 1, notes: list[str] | None = None) -> list[list[int]]:
        """What is to be translated for a line, see `Translator.encode`: nothing if it holds no text.

        Args:
            line: raw text.
            number: of the line, for messages.
            notes: takes one for each sentence that is too long for the model, and is cut as well.
        """
        rows: list[list[int]] = []
        for sentence in sentences(line, self._language):
            parts = list(self._parts(sentence, number))
            if len(parts) > 1 and notes is not None:
                notes.append(
                    f"line {number}: a sentence is longer than the {self._longest} tokens that the model "
                    f"reads; translated in {len(parts)} parts"
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

    def join(self, translations: Sequence[str]) -> str:
        """The text that translations of its sentences make."""
        return self._blank.join(translations)
