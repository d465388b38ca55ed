"""fairseq's dictionaries: a symbol and its count on each line, numbered by their order."""

import functools
import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..reading import read_text

# At the end of a line that may repeat a symbol.
OVERWRITE = "#fairseq:overwrite"


def read_dictionary(path: Path, known: Collection[str] = ()) -> str:
    r"""The text of a dictionary, every line of it checked; each ends in `\n`.

    Args:
        path: its file.
        known: symbols that are there before those of the file, such as `<unk>`.

    Raises:
        DataError: the file is missing, not UTF-8 or without symbols, or a line is of another form or repeats
            a symbol.
    """
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise DataError(f"{path}: empty, needs a symbol and its count on each line; binarise the data again")
    seen: dict[str, int] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        symbol, blank, count = line.rstrip().rpartition(" ")
        if overwrite := count == OVERWRITE:
            symbol, blank, count = symbol.rpartition(" ")
        if not blank or " " in symbol or not count.removeprefix("-").isdecimal():
            raise DataError(
                f"{path}: line {number}: needs a symbol, a blank and a count, but is '{line[:40]}'; binarise "
                "the data again, or take the dictionary from where it was made"
            )
        if not overwrite and (symbol in known or symbol in seen):
            where = f"on line {seen[symbol]}" if symbol in seen else "among those that fairseq adds itself"
            raise DataError(
                f"{path}: line {number}: duplicate of '{symbol}', which is {where}; delete the line, and "
                "binarise again what was binarised with it"
            )
        seen[symbol] = number
    return text


def checked(add_from_file: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """fairseq's `Dictionary.add_from_file`, which all dictionaries are read with, with errors as above."""

    @functools.wraps(add_from_file)
    def add_checked(self: Any, file: Any) -> None:
        from fairseq.file_io import PathManager

        if isinstance(file, str):
            file = io.StringIO(read_dictionary(Path(PathManager.get_local_path(file)), self.indices))
        add_from_file(self, file)

    return add_checked
