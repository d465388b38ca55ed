"""Which of the teacher's translations to leave out, and why."""

from collections.abc import Sequence
from typing import Any

from .settings import DistillOptions

EMPTY_SOURCE = "empty_source"
UNKNOWN_SOURCE = "unknown_source"
TOO_LONG = "too_long_for_teacher"
REASONS = (
    EMPTY_SOURCE,
    UNKNOWN_SOURCE,
    TOO_LONG,
    "empty",
    "copy",
    "length_ratio",
    "looping",
    "unknown_word",
)
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


def reason_against(
    options: DistillOptions, source: Sequence[str], output: Sequence[str] | None
) -> str | None:
    """Why this translation is to be left out: the first of `REASONS` that holds, or None.

    Args:
        options: the filters among them decide.
        source: tokens of the source, without special symbols.
        output: tokens of the teacher's translation, likewise; None where the teacher was not asked.
    """
    if not source:
        return EMPTY_SOURCE
    # Whatever the teacher says, it has made up.
    if set(source) == {UNKNOWN}:
        return UNKNOWN_SOURCE
    if output is None:
        return TOO_LONG
    if not output and not options.keep_empty:
        return "empty"
    if options.filter_copies and list(source) == list(output):
        return "copy"
    shorter, longer = sorted((len(source), len(output)))
    if options.filter_ratio is not None and longer > options.filter_ratio * shorter:
        return "length_ratio"
    if options.filter_repeats is not None:
        repeats = most_repeats(output)
        # "- - -" may be right.
        if repeats > options.filter_repeats and repeats > most_repeats(source):
            return "looping"
    if options.filter_unk and UNKNOWN in output:
        return "unknown_word"
    return None


def as_recorded(options: DistillOptions) -> dict[str, Any]:
    """The filters as manifests have them."""
    return {
        "empty": not options.keep_empty,
        "max_ratio": options.filter_ratio,
        "copies": options.filter_copies,
        "max_repeats": options.filter_repeats,
        "unknown": options.filter_unk,
    }
