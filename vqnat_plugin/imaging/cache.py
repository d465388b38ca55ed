"""Arrays that several processes need and one of them makes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import alone


def open_array(file: Path) -> np.ndarray | None:
    """The array in a file of numpy's format, memory-mapped; None where there is none, or a damaged one."""
    try:
        return np.lib.format.open_memmap(file, mode="r")
    except Exception:
        # A damaged header makes numpy raise nearly everything; the array is made anew.
        return None


def make_once(file: Path, make: Callable[[Path], object]) -> np.ndarray:
    """The array in a file; made unless it is there or another process makes it meanwhile.

    Args:
        file: what is needed; its name says all that the array depends on.
        make: writes to the path that it is given, in one step.

    Raises:
        DataError: it cannot be read although it was just made.
    """
    if (array := open_array(file)) is None:
        with alone(file, beside=True, wait=True):
            if (array := open_array(file)) is None:
                make(file)
                array = open_array(file)
    if array is None:
        raise DataError(f"{file}: cannot be read although it was just written; is there room on the disk?")
    return array
