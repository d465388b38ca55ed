"""The comparison that a report shows: systems, batch sizes, and how many times faster than what."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import DataError
from ..machine import describe_machine
from .latency import FairseqTranslator, SystemSpec, Timing, choose_batches, measure


def benchmark(
    specs: Sequence[SystemSpec],
    data: Path,
    baseline: str | None = None,
    subset: str = "test",
    batch_sizes: Sequence[int] = (1, 32),
    sentences: int = 100,
    warmup: int = 3,
    threads: int = 1,
    seed: int = 1,
    cpu: bool = False,
    half: bool = False,
) -> dict[str, Any]:
    """Load all systems and time them side by side.

    Args:
        specs: the systems.
        data: binarised data.
        baseline: name of the greedy teacher, which every speed-up is relative to; the first one by default.
        subset: split of `data`.
        batch_sizes: sentences a batch; the speed-ups are those at the first one.
        sentences: to be translated at each batch size, at least (see `choose_batches`).
        warmup: batches before the clock starts.
        threads: of torch on the CPU.
        seed: of the sample of sentences.
        cpu: do not use the GPU.
        half: half precision.

    Returns:
        The content of a latency file: `systems` (see `summarize`), and how it was measured.

    Raises:
        DataError: see `FairseqTranslator`; or names clash, or the systems' test sets differ.
    """
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise DataError(f"--system: each needs a name of its own, found {', '.join(names)}")
    baseline = baseline or names[0]
    if baseline not in names:
        raise DataError(f"--baseline {baseline}: not among the systems ({', '.join(names)})")
    torch.set_num_threads(threads)
    cuda = torch.cuda.is_available() and not cpu
    systems = [FairseqTranslator(spec, data, subset, cuda, half) for spec in specs]
    sizes = {system.name: len(system.dataset) for system in systems}
    if len(set(sizes.values())) > 1:
        raise DataError(f"--subset {subset}: the systems see different numbers of sentences: {sizes}")
    lengths = [len(item["source"]) for item in systems[0].dataset]
    timings = {
        size: measure(
            systems, choose_batches(lengths, size, sentences, seed), warmup, title=f"batches of {size}"
        )
        for size in batch_sizes
    }
    return {
        "systems": summarize(specs, timings, baseline),
        "baseline": baseline,
        "beam_baseline": beam_baseline(specs, baseline),
        "sentences": sentences,
        "subset": subset,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "precision": "fp16" if half else "fp32",
        "threads": threads,
        "seed": seed,
        "machine": describe_machine(),
    }


def beam_baseline(specs: Sequence[SystemSpec], baseline: str) -> str | None:
    """The system that is the baseline's model with the largest beam above 1, if there is one."""
    greedy = next(spec for spec in specs if spec.name == baseline)
    wider = [spec for spec in specs if spec.checkpoints == greedy.checkpoints and spec.beam > greedy.beam]
    return max(wider, key=lambda spec: spec.beam).name if wider else None


def summarize(
    specs: Sequence[SystemSpec], timings: dict[int, dict[str, Timing]], baseline: str
) -> dict[str, dict[str, Any]]:
    """Latencies and speed-ups of each system.

    Args:
        specs: the systems.
        timings: by batch size, then by name.
        baseline: name of the greedy teacher.

    Returns:
        For each system `latency_ms` (`batch_1: {median, p90}`, ... in milliseconds a batch), `speedup` (the
        same keys; `vs_greedy` and, where known, `vs_beam`: the ratio of the medians), `speedup_vs_greedy`
        and `speedup_vs_beam` (those of the first batch size), `mean_output_tokens` and `options`.
    """
    beam = beam_baseline(specs, baseline)
    latencies = {
        size: {name: timing.milliseconds() for name, timing in rows.items()} for size, rows in timings.items()
    }
    first = next(iter(timings))
    systems: dict[str, dict[str, Any]] = {}
    for spec in specs:
        speedups: dict[str, dict[str, float]] = {}
        for size, rows in latencies.items():
            own = rows[spec.name]["median"]
            speedups[f"batch_{size}"] = {"vs_greedy": round(rows[baseline]["median"] / own, 3)}
            if beam is not None:
                speedups[f"batch_{size}"]["vs_beam"] = round(rows[beam]["median"] / own, 3)
        at_first = speedups[f"batch_{first}"]
        timing = timings[first][spec.name]
        systems[spec.name] = {
            "latency_ms": {f"batch_{size}": rows[spec.name] for size, rows in latencies.items()},
            "speedup": speedups,
            **{f"speedup_{other}": value for other, value in at_first.items()},
            "mean_output_tokens": round(timing.tokens / (first * len(timing.seconds)), 2),
            "options": {"checkpoints": list(spec.checkpoints), **spec.generation, **spec.overrides},
        }
    return systems
