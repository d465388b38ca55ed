"""fairseq's binarised sentences, looked through before they are read: its readers fail far from the cause."""

import functools
import struct
from collections.abc import Callable, Iterator, Sized
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError

MAGIC = b"MMIDIDX\x00\x00"
# Behind it: the version, the kind of numbers, and how many sentences there are.
HEADER = struct.Struct("<QBQ")
KINDS = {1: "u1", 2: "i1", 3: "i2", 4: "i4", 5: "i8", 8: "u2", 9: "u4", 10: "u8"}
# What other kinds of indices begin with, which fairseq reads too.
OTHERS = (b"TNTIDX\x00\x00", b"HUFFIDX\x00")
AGAIN = "binarise the data again"
# Sentences, or tokens, that are looked at at a time.
BLOCK = 1 << 20


def require_sound(prefix: Path, symbols: int | None = None) -> None:
    """Look through `PREFIX.idx` and `PREFIX.bin`, if they are of fairseq's memory-mapped kind.

    Args:
        prefix: path without ending.
        symbols: of the dictionary, if it is known.

    Raises:
        DataError: the two do not fit each other, or hold token ids that the dictionary does not have.
    """
    index, binary = (prefix.with_name(prefix.name + ending) for ending in (".idx", ".bin"))
    start = len(MAGIC) + HEADER.size
    with index.open("rb") as file:
        head = file.read(start)
    if not head.startswith(MAGIC[:8]):
        if not head.startswith(OTHERS):
            raise DataError(f"{index}: is no index of fairseq-preprocess; {AGAIN}")
        return
    version, kind, count = HEADER.unpack(head[len(MAGIC) :]) if len(head) == start else (0, 0, 0)
    known = head.startswith(MAGIC) and version == 1 and kind in KINDS
    if not known or index.stat().st_size != start + 12 * count:
        raise DataError(f"{index}: damaged or cut off; {AGAIN}")
    if not count:
        return
    sizes = np.memmap(index, "<i4", "r", start, (count,))
    places = np.memmap(index, "<i8", "r", start + 4 * count, (count,))
    width = np.dtype(KINDS[kind]).itemsize
    length = binary.stat().st_size
    if not all(_inside(*block, width, length) for block in zip(_blocks(sizes), _blocks(places), strict=True)):
        raise DataError(f"{binary}: damaged or cut off, it has {length} bytes; {AGAIN}")
    if symbols is not None and length >= width:
        tokens = np.memmap(binary, f"<{KINDS[kind]}", "r", shape=(length // width,))
        found = [(int(block.min()), int(block.max())) for block in _blocks(tokens)]
        smallest, largest = min(low for low, _ in found), max(high for _, high in found)
        if largest >= symbols or smallest < 0:
            raise DataError(
                f"{binary}: has token {largest}, but the dictionary has {symbols} symbols; {AGAIN}, with "
                "this dictionary"
            )


def _blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    return (values[start : start + BLOCK] for start in range(0, len(values), BLOCK))


def _inside(sizes: np.ndarray, places: np.ndarray, width: int, length: int) -> bool:
    """Whether sentences of so many tokens, of `width` bytes, at these places are inside `length` bytes."""
    if min(sizes.min(), places.min()) < 0 or places.max() > length:
        return False
    return bool((places + sizes.astype(np.int64) * width).max() <= length)


def checked(load: Callable[..., Any]) -> Callable[..., Any]:
    """fairseq's `load_indexed_dataset`, which looks through the files first."""

    @functools.wraps(load)
    def load_checked(
        path: str, dictionary: Sized | None = None, dataset_impl: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        if dataset_impl in (None, "mmap") and all(Path(path + end).is_file() for end in (".idx", ".bin")):
            require_sound(Path(path), None if dictionary is None else len(dictionary))
        return load(path, dictionary, dataset_impl, *args, **kwargs)

    return load_checked
