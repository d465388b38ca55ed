"""How many times faster, with what confidence: ratios of medians, and their bootstrap intervals."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 95


def ratio_of_medians(slow: Sequence[float], fast: Sequence[float], seed: int = 1) -> dict[str, float]:
    """The median of one system's times by that of another's.

    The interval is that of the percentile bootstrap: batches are drawn with replacement, the same for both
    systems, since both translated the same batches, in turn.

    Args:
        slow: times of the one that is compared with, batch by batch.
        fast: times of the other, of the same batches.
        seed: of the draws.

    Returns:
        `ratio`, and the ends of its 95 % interval, `low` and `high`.
    """
    times = np.array([slow, fast])
    drawn = np.random.default_rng(seed).integers(times.shape[1], size=(RESAMPLES, times.shape[1]))
    medians = np.median(times[:, drawn], axis=-1)
    low, high = np.percentile(medians[0] / medians[1], [50 - CONFIDENCE / 2, 50 + CONFIDENCE / 2])
    slow_median, fast_median = np.median(times, axis=-1)
    found = {"ratio": slow_median / fast_median, "low": low, "high": high}
    return {name: round(float(value), 3) for name, value in found.items()}
