"""Files that several processes need and one of them makes."""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_at_a_time(folder: Path, name: str) -> Iterator[None]:
    """Let one process of this machine into the block; the others wait until it is through, or has ended.

    Args:
        folder: of the lock file; made if needed.
        name: of what is locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / f".{name}.lock"
    with lock.open("ab") as handle:
        # A file system without locks: then all do the work, each in a temporary file of its own.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Those who wait hold the same file, newcomers make another: both look first what is there.
            lock.unlink(missing_ok=True)


def make_once(file: Path, make: Callable[[Path], object]) -> None:
    """Let `make` write a file, unless it is there already or another process writes it meanwhile.

    Args:
        file: what is needed.
        make: writes to the path that it is given, in one step.
    """
    if file.is_file():
        return
    with one_at_a_time(file.parent, file.name):
        if not file.is_file():
            make(file)
