"""What is done to all text before it is cut: one form of Unicode, single blanks, no control characters."""

import re
import unicodedata
from typing import Literal

from .moses import APART, JOINED

# By the names that --normalization takes.
FORMS: dict[str, Literal["NFC", "NFKC"] | None] = {"nfc": "NFC", "nfkc": "NFKC", "none": None}
# Control characters would end up as tokens of their own, or split a line in two.
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
# These two mean something in segmented text. Half-width square, lower block.
RESERVED = str.maketrans({JOINED: "■", APART: "_"})


def clean(line: str, form: str) -> str:
    """One line without control characters and reserved characters, in a form of Unicode.

    Args:
        line: any text.
        form: `nfc`, `nfkc` or `none`.
    """
    line = CONTROL.sub(" ", line)
    if (name := FORMS[form]) is not None:
        line = unicodedata.normalize(name, line)
    return line.translate(RESERVED)


def single_blanks(line: str) -> str:
    """White space of any kind becomes one blank, and none at the ends."""
    return " ".join(line.split())
