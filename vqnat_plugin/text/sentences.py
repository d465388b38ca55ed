"""Text cut into sentences."""

from .languages import base_language


def sentences(line: str, language: str) -> list[str]:
    """The sentences of a line, without the blanks between them; none of an empty line.

    Args:
        line: raw text.
        language: its code; the rules are those of some 300 languages.

    Raises:
        UsageError: see `base_language`.
    """
    import sentencex

    found = (each.strip() for each in sentencex.segment(base_language(language), line))
    return [each for each in found if each]


def halves(text: str) -> tuple[str, str]:
    """Text of at least two characters in two: at the blank nearest to its middle, or there if it has none."""
    middle = len(text) // 2
    blanks = [place for place in (text.rfind(" ", 0, middle + 1), text.find(" ", middle)) if place > 0]
    place = min(blanks, key=lambda each: abs(each - middle), default=middle)
    return text[:place].strip(), text[place:].strip()
