"""Which of the teacher's translations to leave out, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

TOO_LONG = "too_long_for_teacher"
UNKNOWN = "<unk>"
LONGEST_LOOP = 8  # tokens; sub-words make loops of one or two words this long


def most_repeats(tokens: Sequence[str], longest: int = LONGEST_LOOP) -> int:
    """How many times in a row the most repeated n-gram stands, for n up to `longest`.

    1 means that nothing is repeated at once, 0 that there are no tokens: "a b a b a b c" gives 3.
    """
    most = min(len(tokens), 1)
    for n in range(1, min(longest, len(tokens) // 2) + 1):
        equal = 0  # length of the current run of tokens that equal the one n places before
        for earlier, later in zip(tokens, tokens[n:], strict=False):
            equal = equal + 1 if earlier == later else 0
            most = max(most, equal // n + 1)
    return most


@dataclass(frozen=True)
class Filters:
    """Reasons to leave a translation out. Only `empty` applies unless asked for.

    Attributes:
        empty: the teacher said nothing.
        max_ratio: source and translation differ in length by more than this factor, either way.
        copies: the translation is the source, word for word.
        max_repeats: a token or n-gram stands more than this many times in a row, and more often than in the
            source ("- - -" may be right).
        unknown: the translation holds fairseq's `<unk>`.
    """

    empty: bool = True
    max_ratio: float | None = None
    copies: bool = False
    max_repeats: int | None = None
    unknown: bool = False

    def reason(self, source: Sequence[str], output: Sequence[str]) -> str | None:
        """Why this translation is to be left out: the first reason that holds, or None.

        Args:
            source: tokens of the source, without end of sentence.
            output: tokens of the teacher's translation, likewise.
        """
        if self.empty and not output:
            return "empty"
        if self.copies and list(source) == list(output):
            return "copy"
        shorter, longer = sorted((len(source), len(output)))
        if self.max_ratio is not None and longer > self.max_ratio * shorter:
            return "length_ratio"
        if self.max_repeats is not None:
            repeats = most_repeats(output)
            if repeats > self.max_repeats and repeats > most_repeats(source):
                return "looping"
        if self.unknown and UNKNOWN in output:
            return "unknown_word"
        return None
