"""Reading with clear errors, and writing so that no half-written file is ever taken for a whole one."""

import contextlib
import hashlib
import json
import os
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from .errors import DataError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it there; makes the folder if needed.

    The temporary name cannot be foreseen, and the file is created exclusively: several hosts may write to one
    folder, and nobody's link is followed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: matplotlib goes by it. 40 characters fit in a name, whatever their bytes.
    # The name is known before the file is there, so that no interruption leaves it behind.
    part = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(8)}.part{path.suffix}")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        write(part)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def replace_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write into a temporary folder beside `path`, then move it there, in place of one before.

    Temporary folders of calls that were killed are deleted.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix, suffix = f".{path.name[:40]}.", ".part"
    for other in path.parent.iterdir():
        if other.name.startswith(prefix) and other.name.endswith(suffix):
            _delete_abandoned(other)
    with (
        tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix, suffix=suffix) as parts,
        Path(parts, "new.lock").open("w") as held,
    ):
        lock(held)
        # Others find it when it is held.
        os.rename(held.name, Path(parts, "lock"))
        new, old = Path(parts, "new"), Path(parts, "old")
        new.mkdir()
        fill(new)
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(new, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise


def _delete_abandoned(parts: Path) -> None:
    """Delete a temporary folder whose lock nobody holds; where there are no locks, it stays."""
    with contextlib.suppress(OSError), (parts / "lock").open() as held:
        if lock(held, wait=False):
            shutil.rmtree(parts)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file in one step."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file in one step."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines, each ended by a line feed, in one step; they need not all be in memory."""

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(f"{line}\n" for line in lines)

    write_atomically(path, write)


def open_no_link(path: str, flags: int) -> int:
    """For `open`: refuses a link in place of the file."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def lock(file: IO[Any], wait: bool = True) -> bool:
    """Take the lock on an open file, given up when it is closed; False where there are no locks.

    Args:
        file: open.
        wait: for others that have it; otherwise False is returned then, too.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):
        return False
    return True


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
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


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


def count_lines(path: Path) -> int:
    """How many lines a file has, as `read_blocks` has them."""
    lines, last = 0, b"\n"
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            lines, last = lines + block.count(b"\n"), block[-1:]
    return lines + (last != b"\n")


def read_blocks(stream: BinaryIO, name: str = "standard input", size: int = 1 << 16) -> Iterator[list[str]]:
    r"""The lines of a stream, as `read_lines` has them: at a time those that have arrived, if any.

    Args:
        stream: with `read1`.
        name: of the stream, for errors.
        size: most bytes at a time.

    Raises:
        DataError: a line is not UTF-8, or carriage returns are the only line ends; after the lines before.
    """
    number = 0
    for lines, ended in _arriving(stream, size):
        block: list[str] = []
        for line in lines:
            number += 1
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\r")
            except UnicodeDecodeError as error:
                yield block
                raise DataError(f"{name}: line {number}: not UTF-8 ({error.reason})") from None
            if ended and number == 1 and "\r" in text:
                raise _without_line_feeds(name)
            block.append(text)
        yield block


def _arriving(stream: BinaryIO, size: int) -> Iterator[tuple[list[bytes], bool]]:
    """Lines that are whole by now; at the end, if there is one, that without a line feed, and True."""
    start: list[bytes] = []
    while found := stream.read1(size):  # type: ignore[attr-defined]
        first, *others = found.split(b"\n")
        start.append(first)
        lines = []
        if others:
            lines = [b"".join(start), *others[:-1]]
            start = [others[-1]]
        yield lines, False
    if rest := b"".join(start):
        yield [rest], True


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
