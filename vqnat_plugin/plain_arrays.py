"""Arrays in .npz files as data: nothing is larger in memory than in the file, and nothing is an object."""

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

# Far above that of any plain array.
LONGEST_HEADER = 10_000


def read_npz(path: Path, *names: str) -> list[np.ndarray]:
    """Arrays that `numpy.savez` wrote, by their names; they cannot be written to.

    Raises:
        OSError: the file cannot be read.
        Exception: it is damaged, or was forged; of nearly any kind.
    """
    with zipfile.ZipFile(path) as archive:
        return [_read(archive, archive.getinfo(f"{name}.npy")) for name in names]


def _read(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> np.ndarray:
    if record.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{record.filename} is compressed, which savez does not do")
    with archive.open(record) as stream:
        shape, fortran, dtype = _read_header(stream)
        data = stream.read()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{record.filename} holds other values than it says")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    return readers[np.lib.format.read_magic(stream)](stream, LONGEST_HEADER)
