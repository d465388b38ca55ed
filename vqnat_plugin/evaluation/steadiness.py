"""Whether a machine was idle while something was timed: a fixed piece of work, timed again and again.

Another program, or another guest of the same host, slows down systems that are timed side by side, and not
all of them alike: one lives on what the processor's caches hold, another computes. So ratios are off as well.
"""

import math
import statistics
import time
from collections.abc import Mapping, Sequence

import numpy as np

# Of the fixed piece of work: steps of the interpreter, and passes through bytes that fit a core's own cache.
# What lies in the caches that cores share depends on the system that ran before.
STEPS, PASSES, BYTES = 10_000, 16, 256 << 10
# From this many times the shortest time on, the machine was busy.
BUSY = 1.15


class FixedWork:
    """A piece of work that takes a fraction of a millisecond on an idle machine.

    Attributes:
        shortest: seconds of the fastest time so far.
    """

    def __init__(self) -> None:
        self.shortest = math.inf
        self._numbers = np.zeros(BYTES // 4, dtype=np.int32)

    def sample(self) -> float:
        """Does the work twice; the seconds of the second time, which finds its numbers in the cache."""
        self._work()
        start = time.perf_counter()
        self._work()
        seconds = time.perf_counter() - start
        self.shortest = min(self.shortest, seconds)
        return seconds

    def _work(self) -> None:
        total = 0
        for step in range(STEPS):
            total += step
        for _ in range(PASSES):
            self._numbers += 1

    def slowdown(self, seconds: Sequence[float]) -> float:
        """Median of some of the times, as a multiple of the shortest of all."""
        return statistics.median(seconds) / self.shortest


def steadiness(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 90th percentile of the times of the same work, as multiples of the shortest of them."""
    median, p90 = np.percentile(np.array(seconds) / min(seconds), [50, 90])
    return {"median": round(float(median), 2), "p90": round(float(p90), 2)}


def as_words(found: Mapping[str, float]) -> str:
    """`steadiness` as a part of a sentence."""
    return f"a fixed piece of work before each translation took {found['median']:g} times its shortest time"


def is_busy(found: Mapping[str, float]) -> bool:
    """Whether times that were taken meanwhile are not to be relied on; see `steadiness`."""
    return found["median"] >= BUSY
