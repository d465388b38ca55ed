"""Reading text, lines and JSON, with clear errors."""

import contextlib
import hashlib
import io
import json
import os
import select
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import DataError

# How files begin that are of use once they are converted.
CONVERTED = {
    b"\x1f\x8b": "; it is compressed: gunzip it first",
    b"\xff\xfe": "; it is UTF-16: convert it with iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "; it is UTF-16: convert it with iconv -f UTF-16 -t UTF-8",
}


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark; carriage returns stay what they are.

    Raises:
        DataError: the file is missing or not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        convert = f"convert it with iconv -f LATIN1 -t UTF-8 {shlex.quote(str(path))} > NEW"
        other = f", in line {line}; if it is Latin-1, {convert}"
        way = next((way for start, way in CONVERTED.items() if error.object.startswith(start)), other)
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}){way}") from None


def read_lines(path: Path) -> list[str]:
    r"""The lines of a UTF-8 file. Only \n, or \r\n, ends a line: other separators occur inside sentences.

    Raises:
        DataError: see `read_text`; or carriage returns are its only line ends.
    """
    text = read_text(path)
    # Some programs add a last line feed to any file.
    lines = text.removesuffix("\n").removesuffix("\r")
    if "\n" not in lines and "\r" in lines:
        raise _without_line_feeds(str(path))
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _without_line_feeds(name: str) -> DataError:
    return DataError(
        f"{name}: its only line ends are carriage returns (CR), where line feeds are needed; convert it: "
        f"tr '\\r' '\\n' < {shlex.quote(name)} > NEW"
    )


def read_blocks(stream: BinaryIO, name: str = "standard input", size: int = 1 << 16) -> Iterator[list[str]]:
    r"""The lines of a stream, as `read_lines` has them: at a time those that have arrived, if any.

    Args:
        stream: with `read1`.
        name: of the stream, for errors.
        size: most bytes at a time.

    Raises:
        DataError: a line is not UTF-8, or carriage returns are the only line ends; after the lines before.
    """
    for lines, error in blocks_and_error(stream, name, size):
        yield lines
        if error is not None:
            raise error


def blocks_and_error(stream: BinaryIO, name: str, size: int) -> Iterator[tuple[list[str], DataError | None]]:
    """As `read_blocks`, but the last block comes together with what is wrong behind it."""
    number = 0
    # The first line, while it may be all there is, and many lines in truth.
    held: list[str] = []
    for lines in _arriving(stream, size):
        block: list[str] = []
        for line in lines:
            number += 1
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\r")
            except UnicodeDecodeError as error:
                yield [*held, *block], DataError(f"{name}: line {number}: not UTF-8 ({error.reason})")
                return
            if number == 1 and "\r" in text:
                held = [text]
            else:
                block += [*held, text]
                held = []
        yield block, None
    if held:
        yield [], _without_line_feeds(name)


def _read(stream: BinaryIO, size: int) -> bytes:
    """What has arrived; nothing at the end alone."""
    found: bytes = stream.read1(size)  # type: ignore[attr-defined]
    raw = getattr(stream, "raw", None)
    if not found and isinstance(raw, io.FileIO) and not os.get_blocking(raw.fileno()):
        # There `read1` gives nothing as well when there is nothing yet.
        arrivals = select.poll()
        arrivals.register(raw)
        while (later := raw.read(size)) is None:
            arrivals.poll()
        return later
    return found


def _arriving(stream: BinaryIO, size: int) -> Iterator[list[bytes]]:
    """Lines that are whole by now; at the end, if there is one, that without a line feed."""
    start: list[bytes] = []
    while found := _read(stream, size):
        first, *others = found.split(b"\n")
        start.append(first)
        lines = []
        if others:
            lines = [b"".join(start), *others[:-1]]
            start = [others[-1]]
        yield lines
    if rest := b"".join(start):
        yield [rest]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DataError: the file is missing, not JSON, or holds something else than an object.
    """
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    except RecursionError:
        raise DataError(f"{path}: not JSON that can be read (nested too deeply)") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def read_json_if_there(path: Path) -> dict[str, Any] | None:
    """As `read_json`; None where there is no such file."""
    with contextlib.suppress(FileNotFoundError):
        path.stat()
        return read_json(path)
    return None


def sha256(*paths: Path) -> str:
    """Digest of the contents of files, in this order, in hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
