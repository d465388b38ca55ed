"""Moses tokens that can be put together again, exactly.

Moses (Koehn et al., 2007) cuts text into words and guesses, on the way back, where blanks were. Where a guess
would be wrong, a mark stands between the tokens: `JOINED`, or `APART`. A line whose guesses are all right has
none and is cut as Moses always did; in another, web and mail addresses stay whole.
"""

import contextlib
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .languages import base_language

JOINED, APART = "￭", "▁"
MARKS = frozenset((JOINED, APART))
HYPHEN = "@-@"
# Web and mail addresses, without the punctuation behind them.
ADDRESSES = [
    r"(?:(?:https?|ftp|rsync)://|www\.)\S*[^\s.,;:!?@()\[\]'\"]",
    r"[\w\-\.]+\@(?:[\w\-]+\.)+[a-zA-Z]{2,}",
]
# What Moses leaves apart and no writer does: 7:45, geht's.
TOGETHER = re.compile(r"(?<=\d) (:) (?=\d)|(?<=[^\W\d_]) (&apos;) (?=s\.?(?: |$))")
# "slow"-Schild
SUFFIX = re.compile(r"-\w")
ESCAPED = {"&#124;": "|", "&lt;": "<", "&gt;": ">", "&apos;": "'", "&quot;": '"', "&#91;": "[", "&#93;": "]"}


@dataclass(frozen=True)
class _Rules:
    """sacremoses for one language."""

    normalizer: Any
    tokenizer: Any
    detokenizer: Any


@functools.cache
def _rules(language: str) -> _Rules:
    from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer

    code = base_language(language)
    # It would write 10.000 or 10,000 for digits with a no-break space between, which may be another number.
    normalizer = MosesPunctNormalizer(lang=code, norm_numbers=False)
    return _Rules(normalizer, MosesTokenizer(lang=code), MosesDetokenizer(lang=code))


def normalize_punctuation(line: str, language: str) -> str:
    """One kind of quotes, dashes and blanks, as Moses has it."""
    return _rules(language).normalizer.normalize(line)


def tokenize(line: str, language: str) -> list[str]:
    """Tokens of a normalised line: single blanks, none at its ends, no mark in it."""
    tokenizer = _rules(language).tokenizer
    tokens = _marked(line, tokenizer.tokenize(line, aggressive_dash_splits=True), language)
    if tokens is None or not MARKS.isdisjoint(tokens):
        # sacremoses has no name for more than a thousand addresses.
        with contextlib.suppress(ValueError):
            whole = tokenizer.tokenize(line, aggressive_dash_splits=True, protected_patterns=ADDRESSES)
            tokens = _marked(line, whole, language)
    if tokens is None:
        # Moses has changed a character.
        tokens = _marked(line, tokenizer.escape_xml(line.replace("@", " @ ")).split(), language)
    assert tokens is not None
    return tokens


def _marked(line: str, tokens: Sequence[str], language: str) -> list[str] | None:
    """Tokens with the marks that they need; None if the line is not made of these tokens."""
    gaps, marked = _gaps(line, tokens), []
    if gaps is None:
        return None
    for token, gap, guess in zip(tokens, gaps, _guesses(tokens, language), strict=True):
        if gap != guess:
            marked.append(APART if gap else JOINED)
        marked.append(token)
    return marked


def detokenize(tokens: Sequence[str], language: str) -> str:
    """The line that `tokenize` cut, and for any other tokens what Moses would make of them."""
    plain: list[str] = []
    said: dict[int, bool] = {}
    for token in tokens:
        if token in MARKS:
            said[len(plain)] = token == APART
        else:
            plain.append(token)
    gaps = [said.get(i, guess) for i, guess in enumerate(_guesses(plain, language))]
    return "".join(" " * gap + _surface(token) for token, gap in zip(plain, gaps, strict=True)).strip()


def without_marks(tokens: Iterable[str]) -> list[str]:
    """Tokens for a model that has not learnt the marks."""
    return [token for token in tokens if token not in MARKS]


def _surface(token: str) -> str:
    """A token as it stands in text."""
    if token == HYPHEN:
        return "-"
    for escaped, plain in ESCAPED.items():
        token = token.replace(escaped, plain)
    return token.replace("&amp;", "&")


def _gaps(line: str, tokens: Sequence[str]) -> list[bool] | None:
    """Whether a blank stands before each token in a line; None if the line is not made of these tokens."""
    gaps, place = [], 0
    for token in map(_surface, tokens):
        gap = line.startswith(" ", place)
        place += gap
        if not line.startswith(token, place):
            return None
        gaps.append(gap)
        place += len(token)
    return gaps if place == len(line) else None


def _guesses(tokens: Sequence[str], language: str) -> list[bool]:
    """Where Moses sets blanks, with some of its mistakes mended."""
    if not tokens:
        return []
    together = TOGETHER.sub(lambda found: found[1] or found[2], " ".join(tokens))
    line = _rules(language).detokenizer.detokenize(together.split(" "))
    gaps = _gaps(line, tokens)
    if gaps is None:
        return [number > 0 for number in range(len(tokens))]
    for number in range(1, len(tokens)):
        if tokens[number - 1] == "&quot;" and SUFFIX.match(tokens[number]):
            gaps[number] = False
    return gaps
