"""Writing so that no half-written file is ever taken for a whole one, and nobody writes beside another."""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from .errors import BusyError, DataError

# How `write_atomically` names what is not whole yet.
PART = re.compile(r"\..{0,40}\.[0-9a-f]{16}\.part.*", re.DOTALL)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Of the process, not of a file.
NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
# Names of what is open, here or in another process.
DESCRIPTOR = re.compile(r"/(?:dev|proc/(?:self|\d+))/fd/(\d+)")
# Open files whose lock `alone` has.
_held: set[int] = set()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it there; makes the folder if needed.

    The temporary name cannot be foreseen, and the file is created exclusively: several hosts may write to one
    folder, and nobody's link is followed. What a killed process leaves of it is for `remove_parts`.

    A device or a pipe is written to, once all of it is there, see `is_stream`.

    Raises:
        DataError: it cannot be written, for want of room for example; then `path` is as it was before.
    """
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / f"whole{path.suffix}"
            write(whole)
            with _writing(path), whole.open("rb") as written, open_stream(path) as stream:
                shutil.copyfileobj(written, stream)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: matplotlib goes by it. 40 characters fit in a name, whatever their bytes.
    # The name is known before the file is there, so that no interruption leaves it behind.
    part = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(8)}.part{path.suffix}")
    with _writing(path, part), contextlib.ExitStack() as undo:
        undo.callback(part.unlink, missing_ok=True)
        undo.callback(os.close, _open_locked(part, os.O_EXCL))
        write(part)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)


def is_stream(path: Path) -> bool:
    """Whether a path is no place for a file: a device, a pipe, or a name of what is open, as /dev/stdout."""
    return path.exists() and not path.is_dir() and (_opened(path) is not None or not path.is_file())


def is_standard_output(path: Path) -> bool:
    """Whether a path is a name of standard output, as /dev/stdout."""
    opened = _opened(path)
    return opened is not None and _is_own(opened) and opened[1] == "1"


def _is_own(opened: re.Match[str]) -> bool:
    return opened[0].split("/")[2] in ("fd", "self", str(os.getpid()))


def _opened(path: Path) -> re.Match[str] | None:
    """The name of something open, if a path is one or points to one, as /dev/stdout does."""
    names = (str(path), os.readlink(path)) if path.is_symlink() else ()
    return next(filter(None, map(DESCRIPTOR.fullmatch, names)), None)


def open_stream(path: Path) -> BinaryIO:
    """Open what `is_stream` to write to it; nothing that is there already is lost.

    The name of something open, as /dev/stdout, stands for just that: opened by its name once more, a file
    would be emptied, and written over by whoever has it open.
    """
    opened = _opened(path)
    if opened is None or not _is_own(opened):
        return path.open("ab")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    return os.fdopen(os.dup(int(opened[1])), "wb")


@contextlib.contextmanager
def _writing(path: Path, part: Path | None = None) -> Iterator[None]:
    """Within, an error of the system that names no file, or `part`, is one of writing to `path`."""
    try:
        yield
    except OSError as error:
        # Others give errors of their own the same class, and numpy leaves the number out.
        of_system = error.errno is not None or re.search(r" requested and \d+ written", str(error))
        elsewhere = isinstance(error, ConnectionError) or error.filename not in (None, part, str(part))
        if elsewhere or not of_system or error.errno in NO_RESOURCES:
            raise
        way_out = "; make room and run the same command again" if error.errno in NO_ROOM else ""
        raise DataError(f"{path}: cannot be written ({error.strerror or error}){way_out}") from None


def remove_parts(folder: Path) -> None:
    """Delete what killed calls of `write_atomically` have left in a folder and in those right below it.

    What somebody still writes stays, and where there are no locks, everything.
    """
    for pattern in (".*.part*", "*/.*.part*"):
        for part in filter(lambda path: PART.fullmatch(path.name), folder.glob(pattern)):
            with contextlib.suppress(OSError), open(part, "rb+", opener=open_no_link) as file:
                if lock(file, wait=False):
                    part.unlink()


def _short(name: str) -> str:
    """A name of at most 40 characters, another one for each name."""
    if len(name) <= 40:
        return name
    return f"{name[:31]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def open_no_link(path: str, flags: int) -> int:
    """For `open`: refuses a link in place of the file."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


@contextlib.contextmanager
def alone(path: Path, beside: bool = False, wait: bool = False) -> Iterator[Callable[[], None]]:
    """Let no other process of ours write to a folder or a file meanwhile.

    The lock ends with this process, however that ends, and holds for all hosts if the file system has such
    locks; if not, several may be at work. What killed processes have left half-written is deleted.

    Args:
        path: what is written to: a folder, which is made if needed.
        beside: whether the lock lies beside it instead of in it, as for a file or a folder that is replaced.
        wait: for others, instead of refusing.

    Yields:
        What raises `DataError` if the folder of the lock was deleted meanwhile. At the end it is called.

    Raises:
        BusyError: another process writes there.
    """
    file = path.with_name(f".{_short(path.name)}.lock") if beside else path / ".lock"
    new_folders = [each for each in file.parents if not each.exists()]
    held, attempts = None, 100
    while held is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            held = _open_locked(file, 0, wait)
        except BlockingIOError:
            raise BusyError(
                f"{path}: another process is writing there; wait for its end, or end it"
            ) from None
        except FileNotFoundError:
            # Another process, of whose work nothing came, has deleted the folder just now.
            attempts -= 1
            if not attempts:
                raise

    def check() -> None:
        if not _lies_at(held, file):
            raise DataError(f"{file.parent}: was deleted meanwhile; run the same command again")

    _held.add(held)
    try:
        remove_parts(file.parent)
        with _writing(file.parent):
            yield check
        check()
    finally:
        # Without locks it may be another's as well.
        if _lies_at(held, file) and lock(held, wait=False):
            file.unlink(missing_ok=True)
        _held.discard(held)
        os.close(held)
        for each in new_folders:
            # Nothing came of it.
            with contextlib.suppress(OSError):
                each.rmdir()


def _let_go() -> None:
    """In a process that was forked: it may outlive the one that has the locks."""
    for held in _held:
        os.close(held)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


def _open_locked(file: Path, flags: int, wait: bool = True) -> int:
    """Open a file, made if needed, whose lock this process then has, as far as there are locks.

    Raises:
        BlockingIOError: another process has it.
    """
    while True:
        with contextlib.ExitStack() as undo:
            found = os.open(file, flags | os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            undo.callback(os.close, found)
            lock(found, wait)
            # Who had it before may have deleted the file.
            if _lies_at(found, file):
                undo.pop_all()
                return found


def _lies_at(opened: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), file.stat(follow_symlinks=False))
    except OSError:
        return False


def replace_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write into a temporary folder beside `path`, then move it there, in place of one before.

    What a killed process left of that is put right first. Without locks, see `alone`, one process at a time
    may do this.

    Raises:
        BusyError: another process is at it.
        DataError: `path` can be written to, but not replaced.
    """
    path = path.resolve()
    if os.path.ismount(path):
        raise DataError(f"{path}: is a mount point, which cannot be replaced; name a new folder inside it")
    place = next(each for each in path.parents if each.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        raise DataError(f"{place}: nothing can be written there, where {path} would be replaced")
    new, old = (path.with_name(f".{_short(path.name)}.{name}.part") for name in ("new", "old"))

    def clear() -> None:
        if old.exists() and not path.exists():
            os.replace(old, path)
        for each in (new, old):
            shutil.rmtree(each, ignore_errors=True)

    with alone(path, beside=True), contextlib.ExitStack() as undo:
        clear()
        undo.callback(clear)
        new.mkdir()
        fill(new)
        if path.exists():
            os.replace(path, old)
        os.replace(new, path)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file in one step; what UTF-8 has no bytes for, in names of files, as JSON escapes it."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8", errors="backslashreplace"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file in one step."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines, each ended by a line feed, in one step; they need not all be in memory."""

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(f"{line}\n" for line in lines)

    write_atomically(path, write)


def lock(file: IO[Any] | int, wait: bool = True) -> bool:
    """Take the lock on an open file, given up when it is closed; False where there are no locks.

    Args:
        file: open.
        wait: for others that have it.

    Raises:
        BlockingIOError: others have it, and are not waited for.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except (ImportError, OSError):
        return False
    return True
