import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqnat_plugin.evaluation.ratios import ratio_of_medians

TIMES = st.lists(st.tuples(st.floats(0.5, 2.0), st.floats(0.5, 2.0)), min_size=1, max_size=30)


def test_the_interval_is_that_of_all_resamples() -> None:
    slow, fast = [4.0, 5.0, 9.0, 6.5], [1.0, 2.5, 2.0, 4.0]
    ratios = [
        np.median([slow[i] for i in drawn]) / np.median([fast[i] for i in drawn])
        for drawn in itertools.product(range(4), repeat=4)
    ]
    found = ratio_of_medians(slow, fast)
    assert found["ratio"] == round(float(np.median(slow) / np.median(fast)), 3)
    # One in forty of the draws lies beyond each end; that share itself is known to 1.5 %.
    for end, share in ((found["low"], 0.025), (found["high"], 0.975)):
        below, up_to = np.mean(np.array(ratios) < end - 1e-3), np.mean(np.array(ratios) <= end + 1e-3)
        assert below - 0.015 <= share <= up_to + 0.015


def test_the_interval_of_a_median_is_that_of_the_binomial_distribution() -> None:
    # The median of n draws is at most the k-th value as often as k or more of n fall there: for 25 values,
    # an interval of 95 % or a little more goes from the 8th to the 18th.
    slow = [float(value) for value in range(1, 26)]
    found = ratio_of_medians(slow, [1.0] * 25)
    assert found["ratio"] == 13
    assert found["low"] == pytest.approx(8.5, abs=1) and found["high"] == pytest.approx(17.5, abs=1)


@given(TIMES)
def test_what_slows_both_alike_is_no_uncertainty(times: list[tuple[float, float]]) -> None:
    both = [one for one, _ in times]
    assert ratio_of_medians([3 * each for each in both], both) == {"ratio": 3, "low": 3, "high": 3}


@given(TIMES)
def test_the_interval_has_the_ratio_in_it_and_is_the_same_each_time(
    times: list[tuple[float, float]],
) -> None:
    slow, fast = map(list, zip(*times, strict=True))
    found = ratio_of_medians(slow, fast)
    assert found == ratio_of_medians(slow, fast)
    assert min(slow) / max(fast) - 1e-3 <= found["low"] <= found["high"] <= max(slow) / min(fast) + 1e-3
