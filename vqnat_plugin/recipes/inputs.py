"""Whether the text that a stage has read is still what it was."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..reading import sha256

# A file: bytes, time of its last change in nanoseconds, digest of its contents.
Known = list[int | str]
# What reads raw text, and how names of text begin in a folder of it.
READER = ["vqnat", "prepare"]
SUBSETS = ("train", "val", "dev", "test")


def snapshot(command: Sequence[str], path: Path) -> dict[str, Known]:
    """What is known of the text that a command reads, a file or some of a folder, by their names."""
    if list(command[:2]) != READER:
        return {}
    inside = path.iterdir() if path.is_dir() else ()
    found: dict[str, Known] = {}
    for file in [path] if path.is_file() else [each for each in inside if each.name.startswith(SUBSETS)]:
        try:
            stat = file.stat()
            # Names need not be UTF-8; what keeps them is.
            name = os.fsencode(file.name).decode("utf-8", "backslashreplace")
            found[name] = [stat.st_size, stat.st_mtime_ns, sha256(file)]
        except OSError:
            # A folder, or what the command will complain about.
            continue
    return dict(sorted(found.items()))


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
