"""Sinusoidal vectors of positions, as fairseq has them."""

import math

import numpy as np
from numpy.typing import NDArray

# The number of the first position.
FIRST = 2


class Positions:
    """A table that grows when more is asked for; several threads may use it at once."""

    def __init__(self, dim: int) -> None:
        """`dim`: of the vectors."""
        self._table = sinusoidal_positions(256, dim)

    def __call__(self, count: int) -> NDArray[np.float32]:
        """Vectors of the first positions, (count, dim)."""
        table = self._table
        if count > len(table):
            self._table = table = sinusoidal_positions(2 * count, table.shape[1])
        return table[:count]


def sinusoidal_positions(count: int, dim: int) -> NDArray[np.float32]:
    """Vectors of the first positions, (count, dim): sines, then cosines."""
    half = dim // 2
    rates = np.exp(np.arange(half, dtype=np.float32) * np.float32(-math.log(10000.0) / max(half - 1, 1)))
    angles = np.arange(FIRST, FIRST + count, dtype=np.float32)[:, None] * rates
    table = np.zeros((count, dim), np.float32)
    table[:, :half], table[:, half : 2 * half] = np.sin(angles), np.cos(angles)
    return table
