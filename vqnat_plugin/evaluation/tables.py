"""Markdown that nothing inside it can break: tables, names in running text, code."""

import re
import statistics
from collections.abc import Iterable, Sequence

# What means something inside a line of Markdown. `_` between letters does not; `<` and `&` become entities,
# since not every reader of Markdown knows them behind a backslash.
_SPECIAL = re.compile(r"[\\`*|\[\]~]|(?<![^\W_])_|_(?![^\W_])")
_HTML = {"<": "&lt;", "&": "&amp;"}
# At the start of a line: headings, lists, quotations.
_LEADING = re.compile(r"(\d{1,9}(?=[.)](?:\s|$)))|(?=#{1,6}(?:\s|$)|[-+](?:\s|$)|>|=+$|-+$)")


def escape(text: str) -> str:
    """A text that stands in one line of Markdown, in a table's cell too, as it is: no markup, no HTML."""
    line = " ".join(text.split())
    line = re.sub(r"<|&(?=#?\w+;)", lambda found: _HTML[found[0]], line)
    line = _SPECIAL.sub(lambda found: "\\" + found[0], line)
    found = _LEADING.match(line)
    return f"{found[0]}\\{line[found.end() :]}" if found else line


def code(text: str) -> str:
    """A text as code inside a line."""
    line = " ".join(text.split())
    fence = _fence(line, 1)
    pad = " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def code_block(lines: Iterable[str], language: str = "") -> str:
    """Lines as a block of code; none of them ends it."""
    text = "\n".join(lines)
    fence = _fence(text, 3)
    return f"{fence}{language}\n{text}\n{fence}"


def _fence(text: str, least: int) -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, padded so that it reads well in a terminal too. The first column is flush left.

    Cells are plain text: what is special in Markdown or HTML is escaped.
    """
    cells = [[escape(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *others = (
            text.rjust(width) if column else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        return "| " + " | ".join([first, *others]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def summary(values: Sequence[float | None], spec: str) -> str:
    """The mean in the format `spec`, and behind it ± half the range when several values are known."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = format(statistics.mean(known), spec)
    return mean if len(known) == 1 else f"{mean} ± {format((max(known) - min(known)) / 2, spec)}"
