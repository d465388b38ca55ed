"""Reading what torch.save wrote as data: no code is run, and no memory is taken that the file cannot fill.

torch's own loader for files of strangers makes whatever a file asks for, such as terabytes of memory that
nobody has written to. fairseq's checkpoints need little of it: dictionaries, numbers, options, tensors.
"""

import contextlib
import io
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import IO, Any

import torch
from torch import Tensor

from .plain_pickle import STORAGES, Global, Storage, read_pickle

# What the file of `torch.save(..., _use_new_zipfile_serialization=False)` begins with, and its version.
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
BLOCK = 1 << 24
OTHER_ORDER = "was written on a machine of another byte order"

_WITH_WEIGHTS = ContextVar("_WITH_WEIGHTS", default=True)


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Within, tensors have their shapes and kinds, but hold nothing (torch's device `meta`)."""
    token = _WITH_WEIGHTS.set(False)
    try:
        yield
    finally:
        _WITH_WEIGHTS.reset(token)


def load(file: IO[bytes]) -> Any:
    """What torch.save wrote to a file that is open for reading, on the CPU.

    Raises:
        ForeignName: the file needs something that is not data.
        Exception: it is damaged, or was forged; of nearly any kind.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    is_archive = file.read(4) == b"PK\3\4"
    file.seek(0)
    return _load_archive(file, size) if is_archive else _load_stream(file, size)


class _Storages:
    """The storages of a file, each of them once."""

    def __init__(self, size: int, fill: Callable[[str, Tensor], object]) -> None:
        """
        Args:
            size: of the file.
            fill: is given the key of a storage and its bytes, to be filled; not without weights.
        """
        self.room = size
        self.fill = fill
        self.bytes: dict[str, Tensor] = {}

    def find(self, reference: Any) -> Storage:
        """The storage that a pickle refers to."""
        match reference:
            case ("storage", Global(name), str(key), str(), int(count), *more) if (
                name in STORAGES and count >= 0 and more in ([], [None])
            ):
                kind = STORAGES[name]
            case _:
                raise pickle.UnpicklingError("refers to a storage that is none")
        size = count * kind.itemsize
        if key not in self.bytes:
            self.room -= size
            if self.room < 0:
                raise pickle.UnpicklingError("its tensors are larger than the file")
            weights = _WITH_WEIGHTS.get()
            self.bytes[key] = torch.empty(size, dtype=torch.uint8, device="cpu" if weights else "meta")
            if weights:
                self.fill(key, self.bytes[key])
        if self.bytes[key].numel() != size:
            raise pickle.UnpicklingError(f"storage {key!r} has two sizes")
        return Storage(self.bytes[key].view(kind))


def _read_into(values: Tensor, stream: IO[bytes]) -> None:
    """Fill bytes from a stream."""
    view, at = values.numpy().data, 0
    while at < len(view):
        block = stream.read(min(BLOCK, len(view) - at))
        if not block:
            raise EOFError("ends inside a tensor")
        view[at : at + len(block)] = block
        at += len(block)


def _load_archive(file: IO[bytes], size: int) -> Any:
    """torch's format since 1.6: a zip archive with a pickle, and a record for each storage."""
    with zipfile.ZipFile(file) as archive:
        records = {record.filename: record for record in archive.infolist()}
        plain = all(record.compress_type == zipfile.ZIP_STORED for record in records.values())
        # torch never compresses: a few kilobytes may stand for gigabytes.
        if not plain or sum(record.file_size for record in records.values()) > size:
            raise pickle.UnpicklingError("its records are compressed, or larger than the file")
        [folder] = [name.removesuffix("data.pkl") for name in records if name.endswith("/data.pkl")]
        order = f"{folder}byteorder"
        if order in records and archive.read(order).decode() != sys.byteorder:
            raise pickle.UnpicklingError(OTHER_ORDER)

        def fill(key: str, values: Tensor) -> None:
            record = records[f"{folder}data/{key}"]
            if record.file_size != values.numel():
                raise pickle.UnpicklingError(f"storage {key!r} is of another size than its record")
            with archive.open(record) as stream:
                _read_into(values, stream)

        pickled = io.BytesIO(archive.read(f"{folder}data.pkl"))
        return read_pickle(pickled, _Storages(size, fill).find)


class _Limited:
    """A file of which nobody reads, or makes room for, more than it holds."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.readline, self.tell = file.readline, file.tell
        self._file, self._size = file, size

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._size))


def _load_stream(file: IO[bytes], size: int) -> Any:
    """torch's format before 1.6: five pickles, then the storages in the order of the last pickle."""
    limited: Any = _Limited(file, size)
    if read_pickle(limited) != MAGIC or read_pickle(limited) != VERSION:
        raise pickle.UnpicklingError("not a file of torch.save")
    if read_pickle(limited)["little_endian"] is not (sys.byteorder == "little"):
        raise pickle.UnpicklingError(OTHER_ORDER)
    storages = _Storages(size, lambda _key, _values: None)
    content = read_pickle(limited, storages.find)
    keys = read_pickle(limited)
    if type(keys) is not list or sorted(keys) != sorted(storages.bytes):
        raise pickle.UnpicklingError("its storages are others than those of its tensors")
    for key in keys if _WITH_WEIGHTS.get() else ():
        values = storages.bytes[key]
        # How many numbers follow: what the pickle says of them counts, and has been compared with the file.
        struct.unpack("<q", file.read(8))
        _read_into(values, file)
    return content
