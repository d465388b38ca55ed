"""What commands have in common that read lines and write lines, from and to files or pipes."""

import errno
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from .errors import DataError, UsageError, UserError
from .files import is_standard_output, is_stream, open_stream, remove_parts, write_lines
from .reading import blocks_and_error

STANDARD_INPUT = "-"
# Bytes of text that are sorted by length and translated together.
BLOCK = 1 << 14


@dataclass(frozen=True)
class Answer:
    """What comes of a block of lines.

    Attributes:
        lines: what is to be written.
        read: lines of the input that it answers.
        notes: what is to be said of them on standard error.
        error: what ends the work behind these lines.
    """

    lines: Sequence[str]
    read: int
    notes: Sequence[str] = ()
    error: UserError | None = None


# Answers a block, given how many lines came before it.
AnswerBlock = Callable[[Sequence[str], int], Answer]


class Input:
    """The lines of a file or of standard input, in blocks: at a time those that have arrived."""

    def __init__(self, name: str, size: int = BLOCK) -> None:
        """
        Args:
            name: of a file, or `-` for standard input.
            size: most bytes that are read at a time. A file is always cut into the same blocks.

        Raises:
            OSError: the file cannot be opened.
        """
        self.path = None if name == STANDARD_INPUT else Path(name)
        self._size = size
        self._stream: BinaryIO = sys.stdin.buffer if self.path is None else self.path.open("rb")

    def __iter__(self) -> Iterator[tuple[list[str], DataError | None]]:
        """The blocks, the last one with what is wrong behind it, if anything is; see `read_blocks`."""
        name = "standard input" if self.path is None else str(self.path)
        return blocks_and_error(self._stream, name, self._size)

    def fileno(self) -> int | None:
        """The descriptor on which the next block arrives; None where none has to be waited for."""
        try:
            return self._stream.fileno()
        except OSError:
            return None

    def count(self) -> int | None:
        """How many lines there are, if that can be known beforehand."""
        if self.path is None or not self.path.is_file():
            return None
        with self.path.open("rb") as stream:
            return sum(1 for _ in stream)


def check_files(input: str, output: Path | None) -> None:
    """Raise `UsageError` for what cannot be read or written; devices and named pipes are files too."""
    if input == STANDARD_INPUT:
        if sys.stdin is None:
            raise UsageError("--input -: standard input is closed")
    elif not Path(input).exists():
        raise UsageError(f"--input {input}: no such file")
    elif Path(input).is_dir():
        raise UsageError(f"--input {input}: is a folder, needs a file")
    if output is not None and output.is_dir():
        raise UsageError(f"--output {output}: is a folder, needs a file")
    if sys.stdout is None and (output is None or is_standard_output(output)):
        raise UsageError("standard output is closed; --output FILE writes to a file")


def in_turn(answer: AnswerBlock) -> Callable[[Input], Iterator[Answer]]:
    """Answer one block of an input after the other, in this process."""

    def answers(source: Input) -> Iterator[Answer]:
        before = 0
        for block, error in source:
            yield answer(block, before)
            before += len(block)
            if error is not None:
                raise error

    return answers


def run_filter(
    program: str,
    source: Input,
    output: Path | None,
    answers: Callable[[Input], Iterable[Answer]],
    unit: str = "sentence",
) -> None:
    """Write what comes of an input, in UTF-8 whatever the terminal's encoding.

    A file appears when everything is in it. Standard output, a device or a named pipe gets each block at
    once, so that what came before an error is there.

    Args:
        program: what a line on standard error begins with.
        source: the input.
        output: a file; None for standard output.
        answers: the answers for an input, in order.
        unit: what progress counts.

    Raises:
        UserError: of an answer, or of the input.
    """
    typed = source.path is None and _seen(sys.stdin)
    # Nothing on a terminal that shows what is typed, or translations.
    shown = output is not None or (_seen(sys.stderr) and not _seen(sys.stdout) and not typed)
    blocks = _with_progress(program, unit, answers(source), source.count() if shown else None, shown)
    if output is None:
        _write(sys.stdout.buffer, blocks)
    elif is_stream(output):
        with open_stream(output) as stream:
            _write(stream, blocks)
    else:
        remove_parts(output.parent)
        write_lines(output, (line for lines in blocks for line in lines))


def _seen(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _write(stream: BinaryIO, blocks: Iterable[Sequence[str]]) -> None:
    for lines in blocks:
        rest = memoryview("".join(f"{line}\n" for line in lines).encode())
        while rest:
            # Under PYTHONUNBUFFERED standard output may take a part, or nothing where it would have to wait.
            written = stream.write(rest)
            if written is None:
                raise BlockingIOError(errno.EAGAIN, "standard output takes no more; let it block")
            rest = rest[written:]
        stream.flush()


def _with_progress(
    program: str, unit: str, answers: Iterable[Answer], total: int | None, shown: bool
) -> Iterator[Sequence[str]]:
    """What is to be written for each answer; beside it, how far that is, and at the end how fast it was."""
    from tqdm import tqdm

    started, read = time.monotonic(), 0
    # A terminal shows one state over the other; a log keeps them all.
    pause = 1 if _seen(sys.stderr) else 60
    often = {"delay": pause, "mininterval": pause, "maxinterval": pause}
    with tqdm(total=total, unit=unit, leave=False, disable=not shown, **often) as bar:
        for answer in answers:
            yield answer.lines
            for note in answer.notes:
                tqdm.write(f"{program}: {note}", sys.stderr)
            if answer.error is not None:
                raise answer.error
            read += answer.read
            bar.update(answer.read)
    if shown:
        seconds = time.monotonic() - started
        rate = f"{read / seconds:.1f} {unit}s/s" if seconds else "at once"
        print(f"{program}: {read} {unit}s in {seconds:.1f} s ({rate})", file=sys.stderr)
