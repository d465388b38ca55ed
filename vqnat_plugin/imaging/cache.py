"""Arrays that several processes need and one of them makes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import alone


def open_array(
    file: Path, shape: tuple[int | None, ...], kind: type[np.generic], below: int | None = None
) -> np.ndarray | None:
    """The array in a file, memory-mapped; None where there is none, or a damaged one, or one of another form.

    Args:
        file: in numpy's format.
        shape: that it has to have; None stands for any number of rows but 0.
        kind: of its numbers.
        below: what they all have to be, and none negative; None for no such limit.
    """
    try:
        array = np.lib.format.open_memmap(file, mode="r")
        whole = array.offset + array.nbytes == file.stat().st_size
    except Exception:
        # A damaged header makes numpy raise nearly everything; the array is made anew.
        return None
    fits = array.ndim == len(shape) and all(
        n > 0 if wanted is None else n == wanted for n, wanted in zip(array.shape, shape, strict=True)
    )
    if not whole or not fits or array.dtype != kind or not array.flags.c_contiguous:
        return None
    return array if below is None or (array.min() >= 0 and array.max() < below) else None


def make_once(
    file: Path,
    shape: tuple[int | None, ...],
    kind: type[np.generic],
    make: Callable[[Path], object],
    below: int | None = None,
) -> np.ndarray:
    """The array in a file, see `open_array`; made unless it is there or another process makes it meanwhile.

    Args:
        file: what is needed.
        shape: of the array.
        kind: of its numbers.
        make: writes to the path that it is given, in one step.
        below: see `open_array`.

    Raises:
        DataError: it cannot be read although it was just made.
    """
    if (array := open_array(file, shape, kind, below)) is None:
        with alone(file, beside=True, wait=True):
            if (array := open_array(file, shape, kind, below)) is None:
                make(file)
                array = open_array(file, shape, kind, below)
    if array is None:
        raise DataError(f"{file}: cannot be read although it was just written; is there room on the disk?")
    return array
