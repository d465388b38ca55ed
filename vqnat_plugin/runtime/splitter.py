"""Text of several sentences: cut before it is translated, joined behind it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..text.languages import between_sentences, has_blanks
from ..text.sentences import halves, has_places, sentences

if TYPE_CHECKING:
    from .translator import Translator

# Of a text, for each token that the model reads: longer ones are cut, or refused, before they cost time.
CHARACTERS = 16


@dataclass(frozen=True)
class Cut:
    """What is to be translated for a text.

    Attributes:
        rows: its sentences, see `Translator.encode`; none where it holds no text.
        blanks: what stands before the translation of each.
    """

    rows: list[list[int]]
    blanks: list[str]

    def join(self, translations: Sequence[str]) -> str:
        """The text that translations of the sentences make."""
        return "".join(blank + text for blank, text in zip(self.blanks, translations, strict=True))


def cut(
    translator: "Translator",
    splitter: "Splitter | None",
    text: str,
    number: int,
    notes: list[str] | None = None,
    most: int | None = None,
) -> Cut:
    """What is to be translated for a text; without a splitter it is one sentence. See `Splitter.cut`."""
    if splitter is not None:
        return splitter.cut(text, number, notes, most)
    row = translator.encode(text, number)
    return Cut([row], [""]) if len(row) > 1 else Cut([], [])


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
        self._translator, self._language = translator, exported.source
        self._usual, self._longest = exported.usual, exported.longest
        self._has_words = has_blanks(self._language)
        # Raises what would be raised for each line: a package that is missing, an unknown language.
        sentences("", self._language)
        self._blank = between_sentences(exported.target)

    def cut(self, text: str, number: int = 1, notes: list[str] | None = None, most: int | None = None) -> Cut:
        """The sentences of a text; line breaks between them stay.

        Args:
            text: raw text.
            number: of the text, for messages.
            notes: takes one for each sentence that is longer than nearly all of the training, and is cut.
            most: sentences; behind so many the rest of the text is left out.
        """
        found = Cut([], [])
        last = 0
        lines = enumerate(text.split("\n"))
        rows = ((place, row) for place, line in lines for row in self._rows(line, number, notes))
        for place, row in islice(rows, most):
            found.blanks.append(("\n" * (place - last) or self._blank) if found.rows else "")
            found.rows.append(row)
            last = place
        return found

    def _rows(self, line: str, number: int, notes: list[str] | None) -> Iterator[list[int]]:
        for sentence in sentences(line, self._language):
            parts = list(self._parts(sentence, number))
            if notes is not None and (len(parts) > 1 or len(parts[0]) > self._usual):
                notes.append(
                    f"line {number}: a sentence is longer than nearly all that the model was trained on "
                    f"({self._usual} tokens); translated in {len(parts)} part{'s' * (len(parts) > 1)}"
                )
            yield from (row for row in parts if len(row) > 1)

    def _parts(self, text: str, number: int) -> Iterator[list[int]]:
        """A sentence; one that is too long in parts that are not, or that are single words."""
        if len(text) <= CHARACTERS * self._longest:
            row = self._translator.numbers(text)
            whole = self._has_words and not has_places(text)
            if len(row) <= (self._longest if whole else self._usual):
                yield row
                return
        if len(text) < 2:
            yield self._translator.encode(text, number)
            return
        for half in halves(text):
            yield from self._parts(half, number)
