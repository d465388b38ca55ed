"""Search over latent sequences, greedy or with a beam."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .decoding import LIKELY_END
from .graphs import Floats, Graphs, Memory, Whole


@dataclass
class Latents:
    """Candidate latent sequences of a batch.

    Attributes:
        codes: (batch, beam, latents); 0 behind the end.
        mask: (batch, beam, latents), true at real latents.
        scores: (batch, beam), log-probability with the end symbol, nats; minus infinity where there are fewer
            sequences than the beam is wide.
    """

    codes: Whole
    mask: NDArray[np.bool_]
    scores: Floats


def search(
    graphs: Graphs, memory: Memory, beam: int, limits: Sequence[int], at_least: int, scored: bool
) -> Latents:
    """The most probable sequences that are found.

    Args:
        graphs: the model.
        memory: the sources.
        beam: sequences a sentence.
        limits: most latents of each sentence.
        at_least: fewest latents of all.
        scored: whether scores are needed; without them, what an end symbol costs need not be known.
    """
    batch, end = memory.batch, graphs.codes
    most, shortest, longest = np.array(limits), min(limits), max(limits)
    prediction = graphs.predict(memory, beam)
    scores = np.zeros((batch, beam), np.float32)
    # All hypotheses are equal at first: only one may be continued, or the beam fills with copies.
    scores[:, 1:] = -np.inf
    ended = np.zeros((batch, beam), bool)
    chosen = np.empty((batch, beam, 0), np.int64)
    rows = np.arange(batch)[:, None]
    code = np.full((batch, beam), end)
    for position in range(longest + scored):
        # The code that ended sequences are fed is of no account; at the start, the end's number means start.
        fed = np.minimum(code, end - 1) if position else code
        step = prediction.step(fed.ravel(), position).reshape(batch, beam, end + 1)
        if position < at_least:
            step[..., end] = -np.inf
        if position >= shortest:
            step[position >= most, :, :end] = -np.inf
        if ended.any():
            step[ended] = -np.inf
            step[ended, end] = 0.0
        if beam == 1:
            code = _greedy(step)
            if scored:
                scores += np.take_along_axis(step, code[..., None], -1)[..., 0]
        else:
            total = (scores[..., None] + step).reshape(batch, -1)
            scores, best = _largest(total, beam)
            parent, code = best // (end + 1), best % (end + 1)
            chosen, ended = chosen[rows, parent], ended[rows, parent]
            prediction.select((rows * beam + parent).ravel())
        ended = ended | (code == end)
        if ended.all():
            break
        chosen = np.concatenate([chosen, code[..., None]], -1)
    mask = chosen != end
    return Latents(np.where(mask, chosen, 0), mask, scores)


def _greedy(step: Floats) -> Whole:
    """The most probable code; the end symbol where it is more probable than all codes together."""
    end = step.shape[-1] - 1
    found: Whole = step.argmax(-1)
    unlikely = (found == end) & (step[..., end] <= LIKELY_END)
    if unlikely.any():
        codes = step[..., :end]
        # Where no code is allowed, the end stays.
        found = np.where(unlikely & (codes.max(-1) > -np.inf), codes.argmax(-1), found)
    return found


def _largest(values: Floats, count: int) -> tuple[Floats, Whole]:
    """The largest values of each row, largest first, and their places: both (rows, count).

    `values` is used up. Few are asked for: to search for each takes less than numpy's partition does.
    """
    rows = np.arange(len(values))
    found, places = np.empty((len(values), count), values.dtype), np.empty((len(values), count), np.int64)
    for number in range(count):
        places[:, number] = values.argmax(-1)
        found[:, number] = values[rows, places[:, number]]
        values[rows, places[:, number]] = -np.inf
    return found, places
