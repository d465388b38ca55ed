"""Translate raw text with an exported model, a line for a line; needs neither torch nor fairseq.

Text is treated as the training text was. Lines that are there at the same time are sorted by length and
translated in batches; translations come in the order of the lines, and an empty line stays empty.

  vqnat export runs/student --out exported
  vqnat translate exported --input text.en --output text.de
  echo 'A man sleeps.' | vqnat translate exported
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ..errors import UsageError
from ..files import read_blocks, read_lines, write_lines
from ..options import FOLDER, option
from ..runtime.decoding import Decoding

# Lines of a file that are sorted by length and translated together.
BLOCK = 1000


@dataclass(kw_only=True)
class Options(Decoding):
    """Options of `vqnat translate`."""

    model: Path = option(..., "folder that vqnat export wrote", positional=True, exists=FOLDER, metavar="DIR")
    input: str = option("-", "raw text, a sentence a line; - for standard input", metavar="FILE")
    output: Path | None = option(None, "where the translations go (default: standard output)", metavar="FILE")
    threads: int = option(1, "threads a computation may use", least=1)

    def check(self) -> None:
        """Raise `UsageError` for a file that is not there, or for options of decoding."""
        super().check()
        if self.input != "-" and not Path(self.input).is_file():
            raise UsageError(f"--input {self.input}: no such file")


def run(options: Options) -> None:
    """Translate."""
    from ..runtime.translator import Translator

    lines = None if options.input == "-" else read_lines(Path(options.input))
    translator = Translator(options.model, options.threads)
    found = translator.stream(read_blocks(sys.stdin.buffer) if lines is None else _blocks(lines), options)
    if options.output is None:
        for texts in found:
            # Text is UTF-8 in and out, whatever the terminal's encoding.
            sys.stdout.buffer.write("".join(f"{text}\n" for text in texts).encode())
            sys.stdout.buffer.flush()
        return
    from tqdm import tqdm

    total = None if lines is None else len(lines)
    every = chain.from_iterable(found)
    write_lines(options.output, tqdm(every, total=total, unit="sentence", mininterval=1))


def _blocks(lines: Sequence[str]) -> Iterator[Sequence[str]]:
    return (lines[start : start + BLOCK] for start in range(0, len(lines), BLOCK))
