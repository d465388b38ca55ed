"""What lies below a folder: the one list by which images are found and changes are noticed."""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .image_file import is_image, shown

# Of each kind of file that is left out, so many are named.
NAMED = 3
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """The files below a folder, links followed.

    Attributes:
        folder: where they lie.
        files: in the order of their names, without the hidden ones.
        hidden: how many files and folders have a name that begins with a dot; nobody looks into such folders.
        loops: links back to a folder that holds them, which are not followed.
        digest: changes whenever a file comes, goes or is replaced.
    """

    folder: Path
    files: list[Path]
    hidden: int
    loops: list[Path]
    digest: bytes


def state(real: str, stat: os.stat_result) -> bytes:
    """What no other file has in the place of this one.

    A file that replaces another can have its size and its time, but not the time at which that was set; if
    both were written within one tick of the clock, and their folders change places, they differ in number.
    """
    marks = (real, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return os.fsencode("\0".join(map(str, marks)) + "\0")


def list_files(folder: Path, cache: Path | None = None) -> Listing:
    """Look through a folder, and through what its links lead to.

    Args:
        folder: to look through.
        cache: folder of arrays, wherever it lies: they, and what is hidden beside them, do not count.

    Raises:
        DataError: a link leads nowhere, or a folder cannot be read.
    """
    root = os.path.realpath(folder)
    own = None if cache is None else os.path.realpath(cache)
    found: list[tuple[Path, bytes]] = []
    loops, hidden = [], 0
    # Each folder with the real paths of those above it and of itself.
    ahead: list[tuple[Path, tuple[str, ...]]] = [(folder, (root,))]
    while ahead:
        place, trail = ahead.pop()
        for entry in _entries(place):
            path, dotted = Path(entry.path), entry.name.startswith(".")
            if trail[-1] == own and (dotted or entry.name.endswith(".npy")):
                continue
            if dotted:
                hidden += 1
                continue
            try:
                stat = entry.stat()
            except OSError as error:
                raise DataError(_unreachable(path, error)) from None
            real = os.path.realpath(path) if entry.is_symlink() else os.path.join(trail[-1], entry.name)
            if not entry.is_dir():
                # Below the folder itself the place counts relative to it: it may be moved.
                found.append((path, state(real.removeprefix(root), stat)))
            elif real in trail:
                loops.append(path)
            else:
                ahead.append((path, (*trail, real)))
    found.sort()
    digest = hashlib.sha256()
    for path, mark in found:
        digest.update(os.fsencode(path.relative_to(folder)) + b"\0" + mark)
    return Listing(folder, [path for path, _ in found], hidden, sorted(loops), digest.digest())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"{shown(folder)}: cannot be read ({error.strerror})") from None


def _unreachable(path: Path, error: OSError) -> str:
    if path.is_symlink():
        return f"{shown(path)}: a link to {shown(os.readlink(path))}, which leads nowhere; remove or mend it"
    return f"{shown(path)}: cannot be read ({error.strerror})"


def some(paths: list[Path], folder: Path, kind: str) -> str:
    """How many files of a kind there are, and the names of the first."""
    names = [shown(path.relative_to(folder)) for path in paths[:NAMED]] + ["..."] * (len(paths) > NAMED)
    return f"{len(paths)} {kind}{'s' * (len(paths) != 1)} ({', '.join(names)})"


def find_images(folder: Path, cache: Path | None = None) -> list[Path]:
    """All images below a folder, in the order of their names; one line of the log says what is left out.

    Args:
        folder: see `list_files`.
        cache: see `list_files`.

    Raises:
        DataError: there are none; see also `list_files`.
    """
    listing = list_files(folder, cache)
    images: list[Path] = []
    others: list[Path] = []
    for path in listing.files:
        # What is neither a file nor a folder may wait for ever.
        (images if path.is_file() and is_image(path) else others).append(path)
    left_out = []
    if listing.hidden:
        left_out.append(f"{listing.hidden} hidden")
    if others:
        left_out.append(some(others, folder, "other file"))
    if listing.loops:
        left_out.append(some(listing.loops, folder, "link") + " to a folder above")
    notes = f"left out: {', '.join(left_out)}"
    if not images:
        raise DataError(f"{shown(folder)}: holds no images" + (f" ({notes})" if left_out else ""))
    if left_out:
        logger.warning("%s: %s", shown(folder), notes)
    return images
