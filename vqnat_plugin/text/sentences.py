"""Text cut into sentences."""

import re

from .languages import base_language

# Where a clause ends: with a blank behind, where the script has blanks.
PAUSE = re.compile(r"[,;:](?= )|[،؛](?= )|[，；：、]")


def sentences(line: str, language: str) -> list[str]:
    """The sentences of a line, without the blanks between them; none of an empty line.

    Args:
        line: raw text. Every blank in it counts as a plain one.
        language: its code; the rules are those of some 300 languages.

    Raises:
        UsageError: see `base_language`.
    """
    import sentencex

    found: list[str] = []
    # Behind a capital letter, blanks beyond ASCII make sentencex 1.0 fail.
    for each in map(str.strip, sentencex.segment(base_language(language), re.sub(r"\s", " ", line))):
        if found and each and not any(map(str.isalpha, found[-1])):
            # The number of a list is no sentence of its own.
            found[-1] += f" {each}"
        elif each:
            found.append(each)
    return found


def has_places(text: str) -> bool:
    """Whether a text, without blanks around, can be cut elsewhere than inside a word."""
    return " " in text or bool(_pauses(text))


def _pauses(text: str) -> list[int]:
    return [each.end() for each in PAUSE.finditer(text) if each.end() < len(text)]


def halves(text: str) -> tuple[str, str]:
    """Text of at least two characters in two, near its middle.

    Behind a comma or the like, if one is in the middle half; else at a blank, or behind any comma; else
    between two characters.
    """
    middle, pauses = len(text) // 2, _pauses(text)
    places = [each for each in pauses if abs(each - middle) <= len(text) // 4]
    if not places:
        blanks = [at for at in (text.rfind(" ", 0, middle + 1), text.find(" ", middle)) if at > 0]
        places = blanks or pauses
    place = min(places, key=lambda each: abs(each - middle), default=middle)
    return text[:place].strip(), text[place:].strip()
