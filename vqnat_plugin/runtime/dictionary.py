"""A dictionary of fairseq: symbols and their numbers."""

from collections.abc import Iterable
from pathlib import Path

from ..data.dictionaries import OVERWRITE, read_dictionary
from .exported import BOS, EOS, UNK

FIRST = ("<s>", "<pad>", "</s>", "<unk>")


class Dictionary:
    """Symbols in order; the first four are fairseq's own."""

    def __init__(self, path: Path) -> None:
        """Read a file; `DataError` if it is none."""
        self.symbols = list(FIRST)
        for line in read_dictionary(path, FIRST).removesuffix("\n").split("\n"):
            self.symbols.append(line.rstrip().removesuffix(" " + OVERWRITE).rpartition(" ")[0])
        self._numbers = {symbol: number for number, symbol in enumerate(self.symbols)}

    def encode(self, text: str) -> list[int]:
        """Numbers of the symbols of a line, and the end of the sentence."""
        return [*(self._numbers.get(symbol, UNK) for symbol in text.split()), EOS]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Symbols; beginning and end of a sentence are left out."""
        return [self.symbols[number] for number in numbers if number not in (BOS, EOS)]
