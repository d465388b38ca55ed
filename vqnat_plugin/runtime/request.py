"""What a client asks for: a JSON object, read and checked."""

import difflib
import json
from dataclasses import dataclass
from typing import Any

from ..errors import DataError, UsageError, UserError
from ..options import flag, option_fields
from .decoding import Decoding, check_least
from .exported import Exported
from .limits import Limits
from .splitter import CHARACTERS

DECODING = {field.name: kind for field, kind in option_fields(Decoding)}
KINDS = {**DECODING, "split_sentences": bool, "details": bool, "n_best": int}
NEEDED = {bool: "true or false", int: "a whole number", float: "a number"}


class TooLarge(UserError):
    """A request asks for more than one may ask for at once."""


@dataclass(frozen=True)
class Request:
    """A request for translations.

    Attributes:
        lines: raw text.
        split_sentences: whether they may have several sentences.
        options: how they are decoded.
        details: whether scores, tokens and codes are wanted.
        n_best: candidates of each sentence in the answer; all when None.
    """

    lines: list[str]
    split_sentences: bool
    options: Decoding
    details: bool
    n_best: int | None


def parse(body: bytes, limits: Limits, model: Exported) -> Request:
    """Read a request.

    Args:
        body: JSON, in UTF-8: `text`, one or a list; `split_sentences`, `details`, `n_best`, and the options
            of `Decoding`.
        limits: of the server.
        model: what is to translate.

    Raises:
        UsageError: it is no JSON, or a field is unknown, of another type or out of its range.
        DataError: a text cannot be translated.
        TooLarge: there are too many texts.
    """
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the request is no JSON ({error})") from None
    if not isinstance(given, dict):
        raise UsageError('the request is no JSON object; needs one such as {"text": "..."}')
    for name in given:
        if name != "text" and name not in KINDS:
            near = difflib.get_close_matches(name, ("text", *KINDS), 1)
            hint = f"did you mean {near[0]}?" if near else f"there are text, {', '.join(KINDS)}"
            raise UsageError(f"unknown field '{name[:40]}'; {hint}")
    values = {name: _typed(name, given[name], kind) for name, kind in KINDS.items() if name in given}
    details, n_best = values.pop("details", False), values.pop("n_best", None)
    split = values.pop("split_sentences", model.text and not details)
    lines = _lines(given, limits, model.longest * CHARACTERS, split)
    if split and details:
        raise UsageError("split_sentences true: details are those of a sentence, leave one of them out")
    if split and not model.text:
        raise UsageError("split_sentences true: this model was trained on tokens, not on text")
    options = Decoding(**values)
    _check(options, limits, model)
    most = 1 if options.verify else options.candidates
    if n_best is not None and not (details and 1 <= n_best <= most):
        why = "since verify leaves one" if options.verify else "the candidates"
        needed = f"from 1 to {most}, {why}" if details else "details true"
        raise UsageError(f"n_best {n_best}: needs {needed}")
    return Request(lines, split, options, details, n_best)


def check_length(longest: int, options: Decoding, model: Exported) -> None:
    """Raise `UsageError` if a translation may become longer than a server lets it.

    Args:
        longest: tokens of the longest source, with EOS.
        options: how it is decoded.
        model: what translates it; what it can read, it may write.
    """
    most = max(model.longest, Decoding.max_len_b)
    if options.limit(longest) - 1 > most:
        names = ("max_len_a", "max_len_b", "min_len")
        given = ", ".join(f"{name} {getattr(options, name)}" for name in names)
        raise UsageError(f"{given}: allow {options.limit(longest) - 1} sub-words, needs at most {most}")


def _lines(given: dict[str, Any], limits: Limits, longest: int, split: bool) -> list[str]:
    if "text" not in given:
        raise UsageError("text: is missing")
    lines = given["text"] if isinstance(given["text"], list) else [given["text"]]
    for number, line in enumerate(lines, 1):
        if not isinstance(line, str):
            raise UsageError(f"text {_shown(line)}: needs a text, or a list of texts")
        # Text is cut line by line.
        characters = max(map(len, line.split("\n"))) if split else len(line)
        if characters > longest:
            where = "without a line break" if split else "in a sentence"
            raise DataError(
                f"line {number} has {characters} characters {where}, needs at most {longest}: send it in "
                "parts"
            )
        if any("\ud800" <= character <= "\udfff" for character in line):
            raise DataError(f"line {number} holds half a character (a surrogate without its other half)")
    filled = sum(bool(line.strip()) for line in lines)
    if filled > limits.max_sentences:
        raise TooLarge(f"text: {filled} sentences, needs at most {limits.max_sentences}")
    return lines


def _typed(name: str, value: Any, kind: type) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = isinstance(value, bool) if kind is bool else whole or (kind is float and isinstance(value, float))
    try:
        return kind(value) if fits else _refuse(name, value, kind)
    except OverflowError:
        return _refuse(name, value, kind)


def _refuse(name: str, value: Any, kind: type) -> Any:
    raise UsageError(f"{name} {_shown(value)}: needs {NEEDED[kind]}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:40] + "..."


def _check(options: Decoding, limits: Limits, model: Exported) -> None:
    try:
        options.check()
        if options.verify and model.teacher:
            check_least(options.min_len, model.teacher_longest)
    except UsageError as error:
        message = str(error)
        for name in DECODING:
            message = message.replace(flag(name), name)
        raise UsageError(message) from None
    if options.candidates > limits.max_candidates:
        raise UsageError(f"candidates {options.candidates}: needs at most {limits.max_candidates}")
    for name in ("rescore", "verify"):
        if getattr(options, name) and not model.teacher:
            raise UsageError(f"{name} true: this model was exported without a teacher")
