"""What is done to all text before it is cut: one form of Unicode, single blanks, nothing that nobody sees."""

import re
import unicodedata
from typing import Literal

from .moses import APART, JOINED

# By the names that --normalization takes.
FORMS: dict[str, Literal["NFC", "NFKC"] | None] = {"nfc": "NFC", "nfkc": "NFKC", "none": None}
# Control characters would end up as tokens of their own, or split a line in two.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# Nobody sees them, and a model knows no word with one of them: soft hyphens, blanks without width, marks of
# direction and byte order, comments on characters. Not the joiners, which change how letters look.
INVISIBLE = re.compile(r"[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
# These two mean something in segmented text. Half-width square, lower block.
RESERVED = str.maketrans({JOINED: "■", APART: "_"})


def clean(line: str, form: str) -> str:
    """One line in a form of Unicode, without characters that are controls, invisible or reserved.

    Args:
        line: any text.
        form: `nfc`, `nfkc` or `none`.
    """
    line = INVISIBLE.sub("", CONTROL.sub(" ", line))
    if (name := FORMS[form]) is not None:
        line = unicodedata.normalize(name, line)
    return line.translate(RESERVED)


def single_blanks(line: str) -> str:
    """White space of any kind becomes one blank, and none at the ends."""
    return " ".join(line.split())
