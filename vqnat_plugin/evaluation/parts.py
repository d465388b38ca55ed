"""Where the time of an exported model goes: its graphs are watched from outside, unknown to the runtime."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# What the methods of the runtime's graphs belong to.
PARTS = {
    "encode": "encoder",
    "predict": "latent steps",
    "step": "latent steps",
    "select": "latent steps",
    "write": "writer",
    "rank": "teacher",
    "verify": "teacher",
}
REST = "rest"


@dataclass
class Clock:
    """Seconds by part, and how often each method was called."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS.values(), 0.0))
    calls: Counter[str] = field(default_factory=Counter)


class Watched:
    """An object whose methods are timed by a clock, if they are among `PARTS`; else as it is."""

    def __init__(self, watched: Any, clock: Clock) -> None:
        self._watched, self._clock = watched, clock

    def __getattr__(self, name: str) -> Any:
        value, part = getattr(self._watched, name), PARTS.get(name)
        if part is None:
            return value

        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            found = value(*arguments, **named)
            self._clock.seconds[part] += time.perf_counter() - start
            self._clock.calls[name] += 1
            return Watched(found, self._clock) if hasattr(found, "step") else found

        return call


def profile(system: Any, batches: Sequence[Sequence[int]], warmup: int) -> dict[str, float]:
    """Translate batches, watched.

    Args:
        system: an `ExportedTranslator`.
        batches: sentence numbers of each batch.
        warmup: batches that are translated first.

    Returns:
        Medians in milliseconds a batch of each part and of the `rest`: search, copying, Python; and
        `steps`, how often the latent predictor is asked for a step, mean of all batches: each of the pieces
        that a large batch is decoded in has steps of its own.
    """
    rows: list[dict[str, float]] = []
    steps = 0
    warm = batches[:warmup]
    for number, sentences in enumerate((*warm, *batches)):
        batch, clock = system.prepare(sentences), Clock()
        with system.watched(clock):
            start = time.perf_counter()
            system.translate(batch)
            whole = time.perf_counter() - start
        if number >= len(warm):
            rows.append({**clock.seconds, REST: whole - sum(clock.seconds.values())})
            steps += clock.calls["step"]
    medians = {part: round(float(np.median([row[part] for row in rows])) * 1000, 3) for part in rows[0]}
    return {**medians, "steps": round(steps / len(batches), 2)}
