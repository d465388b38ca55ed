"""What a client gets: a candidate with its score, and which code wrote which words of it."""

import math
from collections.abc import Sequence
from typing import Any

from .exported import EOS
from .hypotheses import Hypothesis
from .translator import Translator

NOTHING: dict[str, Any] = {"text": "", "score": 0.0, "tokens": [], "codes": [], "groups": []}


def describe(translator: Translator, found: Hypothesis) -> dict[str, Any]:
    """A candidate.

    Returns:
        `text`; `score`, see `Translation`, None where it is no number; `tokens`; `codes`; `groups`, for each
        code `code`, the `tokens` that it wrote and their `text`. The texts of the groups make the text.
    """
    tokens = [token for token in found.tokens if token != EOS]
    block = 1 << translator.exported.sizes["compress_steps"]
    written = [tokens[i * block : (i + 1) * block] for i in range(len(found.codes))]
    text = translator.text(tokens)
    parts = _parts(text, [translator.text(part) for part in written])
    return {
        "text": text,
        "score": found.score if math.isfinite(found.score) else None,
        "tokens": translator.target.decode(tokens),
        "codes": found.codes,
        "groups": [
            {"code": code, "tokens": translator.target.decode(part), "text": shown}
            for code, part, shown in zip(found.codes, written, parts, strict=True)
        ],
    }


def _parts(text: str, pieces: Sequence[str]) -> list[str]:
    """Cut a text where pieces of it end: whatever their blanks are, the other characters are the same."""
    places = [place for place, character in enumerate(text) if not character.isspace()]
    parts, start, seen = [], 0, 0
    for number, piece in enumerate(pieces, 1):
        seen += sum(not character.isspace() for character in piece)
        end = places[seen] if number < len(pieces) and seen < len(places) else len(text)
        parts.append(text[start:end])
        start = end
    return parts
