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
    ends = [len("".join(translator.text(tokens[: i * block]).split())) for i in range(1, len(written))]
    parts = _parts(text, [*ends, len(text)] if written else [])
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


def _parts(text: str, ends: Sequence[int]) -> list[str]:
    """Cut a text behind so many characters that are no blanks: those of what is written up to there.

    Blanks may be others, and pieces of a character have none of their own.
    """
    places = [place for place, character in enumerate(text) if not character.isspace()]
    parts, start = [], 0
    for seen in ends:
        # What is written up to there may have had more, where more words made fewer of it.
        end = max(start, places[seen] if seen < len(places) else len(text))
        parts.append(text[start:end])
        start = end
    return parts
