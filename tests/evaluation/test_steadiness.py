import time

import pytest

from vqnat_plugin.evaluation.steadiness import BUSY, FixedWork, is_busy, steadiness


def test_times_are_multiples_of_the_shortest() -> None:
    assert steadiness([0.002, 0.001, 0.003]) == {"median": 2.0, "p90": 2.8}
    assert steadiness([0.5]) == {"median": 1.0, "p90": 1.0}


def test_a_machine_is_busy_when_most_times_are_longer() -> None:
    # One interruption says nothing.
    assert not is_busy(steadiness([1.0] * 9 + [5.0]))
    assert is_busy(steadiness([1.0] * 4 + [2.0] * 6))
    assert is_busy({"median": BUSY, "p90": 2.0}) and not is_busy({"median": BUSY - 0.01, "p90": 2.0})


def test_a_sample_is_the_time_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 1.5, 7.0, 9.0, 10.0, 10.25])
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    work = FixedWork()
    assert [work.sample() for _ in range(3)] == [0.5, 2.0, 0.25]
    # Of all times, not of those alone.
    assert work.shortest == 0.25 and work.slowdown([0.5, 2.0, 1.0]) == 4.0


def test_what_was_in_the_caches_before_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    work = FixedWork()
    monkeypatch.setattr(work, "_work", lambda: done.append("work"))
    monkeypatch.setattr(time, "perf_counter", lambda: done.append("clock") or float(len(done)))
    work.sample()
    assert done == ["work", "clock", "work", "clock"]
