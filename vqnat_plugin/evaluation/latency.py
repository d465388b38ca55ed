"""Latency of several systems side by side, in one process, batch by batch in turn.

What is timed is what a user waits for: from source tokens on the host to the best hypothesis on the host,
with the GPU synchronised at both ends. All systems decode the same batch before the next one comes, in
rotating order, so that whatever else happens on the machine hits them alike. The stock generator of fairseq
keeps keys and values, so a fairseq Transformer with beam 1 is a fair baseline; CTranslate2 is the strongest.

A sentence alone takes a few milliseconds, and twice as many where the systems before have left nothing of the
weights in the processor's caches. Whoever decodes with one system finds them there: such a sentence is
translated twice in a row, and the second time counts.

Other programs, and other guests of the host, come and go. A batch that they have disturbed is timed again.
"""

import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from .ratios import ratio_of_medians
from .steadiness import BUSY, FixedWork
from .subset_translator import SubsetTranslator
from .systems import System

# Large batches come rarely in a few sentences; a median needs this many at least.
MIN_BATCHES = 10
# As often is a batch timed at most, to find the machine idle.
ATTEMPTS = 3


def choose_batches(lengths: Sequence[int], batch_size: int, sentences: int, seed: int) -> list[list[int]]:
    """Full batches of a random sample of the test set.

    Args:
        lengths: source tokens of each sentence of the test set.
        batch_size: sentences a batch.
        sentences: how many to translate, at least; `MIN_BATCHES` are made even if that is more. A small
            test set is used again as often as it takes.
        seed: of the sample and of the order of the batches.

    Returns:
        Sentence numbers of each batch. As in fairseq, a batch holds sentences of similar length.
    """
    count = max(MIN_BATCHES, -(-sentences // batch_size))
    rng = random.Random(seed)
    pool: list[int] = []
    while len(pool) < count * batch_size:
        pool += rng.sample(range(len(lengths)), len(lengths))
    chosen = sorted(pool[: count * batch_size], key=lambda number: lengths[number])
    batches = [chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size)]
    rng.shuffle(batches)
    return batches


@dataclass(frozen=True)
class Timing:
    """Seconds of each batch, and of all of them the tokens that came out and the teacher's passes.

    Attributes:
        passes: how often a teacher has read a translation to check it, on average; None where none does.
    """

    seconds: list[float]
    tokens: int
    passes: float | None = None

    def milliseconds(self) -> dict[str, float]:
        """Median and 90th percentile, in milliseconds a batch."""
        median, p90 = np.percentile(np.array(self.seconds) * 1000, [50, 90])
        return {"median": round(float(median), 3), "p90": round(float(p90), 3)}


@dataclass(frozen=True)
class Measured:
    """Timings by name of the system, and how steady the machine was.

    Attributes:
        work: seconds of each time of the fixed piece of work, beside those timings.
        again: how many times a batch was timed again because the machine was busy.
    """

    timings: dict[str, Timing]
    work: list[float]
    again: int


def measure(
    systems: Sequence[SubsetTranslator],
    batches: Sequence[Sequence[int]],
    warmup: int = 3,
    title: str = "",
    work: FixedWork | None = None,
) -> Measured:
    """Translate every batch with every system, in turn.

    Args:
        systems: at least one, with different names.
        batches: sentence numbers of each batch.
        warmup: batches that every system translates first, untimed.
        title: of the progress bar.
        work: is done before every translation. Where it shows that the machine was busy, the batch is timed
            again by all systems, `ATTEMPTS` times in all at most; the times beside the fastest work count.
    """
    for sentences in batches[:warmup]:
        for system in systems:
            system.translate(system.prepare(sentences))
    for system in systems:
        system.passes.clear()

    def time_batch(number: int) -> _Times:
        first = number % len(systems)
        return _time_batch((*systems[first:], *systems[:first]), batches[number], work)

    def slowdown(times: _Times) -> float:
        return work.slowdown(times.work) if work else 1.0

    found = [time_batch(number) for number in tqdm(range(len(batches)), desc=title, mininterval=1)]
    again = 0
    for _ in range(ATTEMPTS - 1):
        busy = [number for number, times in enumerate(found) if slowdown(times) >= BUSY]
        again += len(busy)
        for number in tqdm(busy, desc=f"{title}, again", mininterval=1, disable=not busy):
            found[number] = min(found[number], time_batch(number), key=slowdown)
    timings = {system.name: _timing([times.systems[system.name] for times in found]) for system in systems}
    return Measured(timings, [seconds for times in found for seconds in times.work], again)


@dataclass(frozen=True)
class _Times:
    """Of one batch: by system, the seconds, the tokens and the passes of each sentence; those of the work."""

    systems: dict[str, tuple[float, int, list[int]]]
    work: list[float]


def _time_batch(
    systems: Sequence[SubsetTranslator], sentences: Sequence[int], work: FixedWork | None
) -> _Times:
    found = _Times({}, [])
    for system in systems:
        batch = system.prepare(sentences)
        if work:
            found.work.append(work.sample())
        if len(sentences) == 1:
            system.translate(batch)
        before = len(system.passes)
        system.synchronize()
        start = time.perf_counter()
        translations = system.translate(batch)
        system.synchronize()
        seconds = time.perf_counter() - start
        tokens = sum(map(len, system.tokens(translations)))
        found.systems[system.name] = seconds, tokens, system.passes[before:]
    return found


def _timing(batches: Sequence[tuple[float, int, list[int]]]) -> Timing:
    seconds, tokens, passes = zip(*batches, strict=True)
    counts = [count for each in passes for count in each]
    return Timing(list(seconds), sum(tokens), statistics.mean(counts) if counts else None)


def beam_baseline(systems: Sequence[System], baseline: str) -> str | None:
    """The system that is the baseline's model with the largest beam above 1, if there is one."""
    greedy = next(system for system in systems if system.name == baseline)
    wider = [each for each in systems if each.checkpoints == greedy.checkpoints and each.beam > greedy.beam]
    return max(wider, key=lambda system: system.beam).name if wider else None


def summarize(
    systems: Sequence[System],
    timings: Mapping[int, Mapping[str, Timing]],
    baselines: Sequence[str],
    seed: int = 1,
) -> dict[str, dict[str, Any]]:
    """Latencies and speed-ups of each system.

    Args:
        systems: as declared.
        timings: by batch size, then by name.
        baselines: names of the systems to compare with; the first is the main one, a greedy teacher.
        seed: of the intervals.

    Returns:
        For each system `latency_ms` (`batch_1: {median, p90}`, ... in milliseconds a batch), `speedup` (the
        same keys; `vs_greedy` and, where known, `vs_beam`), `speedup_vs_greedy` and `speedup_vs_beam` (those
        of the first batch size), `ratios` (the same keys; by baseline, see `ratio_of_medians`; a single one
        is joined by that of the beam), and, of the first batch size, `mean_output_tokens`, EOS included, and
        `passes` where a teacher checks.
    """
    beam = beam_baseline(systems, baselines[0])
    named = {"vs_greedy": baselines[0]} | ({"vs_beam": beam} if beam else {})
    compared = baselines if len(baselines) > 1 else named.values()
    first = next(iter(timings))
    figures: dict[str, dict[str, Any]] = {}
    for name in (system.name for system in systems):
        latencies, ratios, speedups = {}, {}, {}
        for size, rows in timings.items():
            key, own = f"batch_{size}", rows[name]
            latencies[key] = own.milliseconds()
            found = {
                other: ratio_of_medians(rows[other].seconds, own.seconds, seed)
                for other in {*compared, *named.values()}
            }
            ratios[key] = {other: found[other] for other in compared}
            speedups[key] = {what: found[other]["ratio"] for what, other in named.items()}
        timing = timings[first][name]
        figures[name] = {
            "latency_ms": latencies,
            "ratios": ratios,
            "speedup": speedups,
            **{f"speedup_{what}": value for what, value in speedups[f"batch_{first}"].items()},
            "mean_output_tokens": round(timing.tokens / (first * len(timing.seconds)), 2),
            **({} if timing.passes is None else {"passes": round(timing.passes, 2)}),
        }
    return figures
