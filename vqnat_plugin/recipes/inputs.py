"""Whether what a stage has read is still what it was."""

import os
from collections.abc import Mapping
from pathlib import Path

from ..reading import sha256

# A file: bytes, time of its last change in nanoseconds, digest of its contents.
Known = list[int | str]
# Folders of more, such as of images, are not looked into.
MOST_FILES = 100


def snapshot(path: Path) -> dict[str, Known]:
    """What is known of a file, or of the files of a folder, by their names; nothing of folders inside."""
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    files = [each for each in files if each.is_file()]
    if len(files) > MOST_FILES:
        return {}
    # Names need not be UTF-8, what keeps them is.
    return {os.fsencode(each.name).decode("utf-8", "backslashreplace"): _known(each) for each in files}


def changed(path: Path, before: Mapping[str, Known]) -> list[str]:
    """The names of those files that have other contents now; one that is gone, or new, is none of them."""
    found = []
    for name, (size, time, digest) in before.items():
        now = path if path.is_file() else path / name
        try:
            stat = now.stat()
            same = stat.st_size == size and (stat.st_mtime_ns == time or sha256(now) == digest)
        except OSError:
            continue
        if not same:
            found.append(name)
    return found


def is_known(value: object) -> bool:
    """Whether a value is what `snapshot` says of a file."""
    return isinstance(value, list) and [type(each) for each in value] == [int, int, str]


def _known(path: Path) -> Known:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, sha256(path)]
