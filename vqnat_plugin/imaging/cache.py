"""Files that several processes need and one of them makes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..files import lock


@contextmanager
def one_at_a_time(folder: Path, name: str) -> Iterator[None]:
    """Let one process of this machine into the block; the others wait until it is through, or has ended.

    Args:
        folder: of the lock file; made if needed.
        name: of what is locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f".{name}.lock"
    with file.open("ab") as handle:
        # Without a lock all do the work, each in a temporary file of its own.
        lock(handle)
        try:
            yield
        finally:
            # Those who wait hold the same file, newcomers make another: both look first what is there.
            file.unlink(missing_ok=True)


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
