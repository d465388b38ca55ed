"""The search of a chunk of similarities as one kernel for GPUs, instead of a pass for each step of it.

`assignment` has the same in torch's operations, which is the reference. Imported where there is a GPU only.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST_LANES = 1024
# Lanes times draws: what a program keeps in registers.
MOST_BLOCK = 1 << 15
# More are drawn in parts.
MOST_DRAWS = 1024


@triton.jit
def _search(  # type: ignore[no-untyped-def]
    scores,
    uniforms,
    nearest,
    entropy,
    samples,
    stride,
    size,
    count,
    lowest,
    LANES: tl.constexpr,
    DRAWS: tl.constexpr,
    SOFT: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    scores += row * stride
    lanes = tl.arange(0, LANES)
    best = tl.full((LANES,), float("-inf"), tl.float32)
    place = tl.zeros((LANES,), tl.int32)
    for start in range(0, size, LANES):
        score = tl.load(scores + start + lanes, mask=start + lanes < size, other=float("-inf"))
        better = score > best
        best = tl.where(better, score, best)
        place = tl.where(better, start + lanes, place)
    peak = tl.max(best, 0)
    # The lowest code on a tie; no score is equal to one that is no number.
    code = tl.minimum(tl.min(tl.where(best == peak, place, size), 0), size - 1)
    tl.store(nearest + row, code.to(tl.int64))
    if SOFT:
        totals = tl.zeros((LANES,), tl.float32)
        energies = tl.zeros((LANES,), tl.float32)
        for start in range(0, size, LANES):
            valid = start + lanes < size
            score = tl.load(scores + start + lanes, mask=valid, other=float("-inf"))
            log_weight = tl.maximum(score - peak, lowest)
            weight = tl.where(valid, tl.exp(log_weight), 0.0)
            totals += weight
            energies += weight * log_weight
        total = tl.sum(totals, 0)
        tl.store(entropy + row, tl.log(total) - tl.sum(energies, 0) / total)
        if DRAWS > 0:
            draws = tl.arange(0, DRAWS)
            drawn = tl.load(uniforms + row * count + draws, mask=draws < count, other=0.0)
            target = (1.0 - drawn) * total
            passed = tl.zeros((DRAWS,), tl.int32)
            below = 0.0
            for start in range(0, size, LANES):
                valid = start + lanes < size
                score = tl.load(scores + start + lanes, mask=valid, other=float("-inf"))
                weight = tl.where(valid, tl.exp(tl.maximum(score - peak, lowest)), 0.0)
                cumulated = below + tl.cumsum(weight, 0)
                behind = (cumulated[None, :] < target[:, None]) & valid[None, :]
                passed += tl.sum(behind.to(tl.int32), 1)
                below = tl.max(cumulated, 0)
            # Rounding may leave a draw of the whole weight just behind the last code.
            passed = tl.where(passed < size, passed, code)
            tl.store(samples + row * count + draws, passed.to(tl.int64), mask=draws < count)


def search(
    scores: Tensor,
    nearest: Tensor,
    entropy: Tensor | None = None,
    samples: Tensor | None = None,
    uniforms: Tensor | None = None,
    lowest: float = 0.0,
) -> None:
    """Finds the best codes of a chunk of similarities and, where they are asked for, entropies and draws.

    Args:
        scores: (rows, K) fp32, each row contiguous.
        nearest: (rows,) int64, is filled: the best code, the lowest on a tie.
        entropy: (rows,) fp32, is filled: of the softmax of a row.
        samples: (rows, m) int64, is filled from uniforms (rows, m), as by `Similarity.draw`; with entropy.
        lowest: log weights below this are raised to it.
    """
    rows, size = scores.shape
    if rows == 0:
        return
    count = 0 if samples is None else samples.shape[1]
    if samples is not None and uniforms is not None and count > MOST_DRAWS:
        for some, drawn in zip(samples.split(MOST_DRAWS, 1), uniforms.split(MOST_DRAWS, 1), strict=True):
            part = some.new_empty(some.shape)
            search(scores, nearest, entropy, part, drawn, lowest)
            some.copy_(part)
        return
    unused = scores
    draws = triton.next_power_of_2(count) if count else 0
    lanes = min(MOST_LANES, triton.next_power_of_2(size), MOST_BLOCK // max(draws, 1))
    # Triton takes the current device, not that of its arguments.
    with torch.cuda.device_of(scores):
        _search[(rows,)](
            scores,
            unused if uniforms is None else uniforms.contiguous(),
            nearest,
            unused if entropy is None else entropy,
            unused if samples is None else samples,
            scores.stride(0),
            size,
            count,
            lowest,
            LANES=lanes,
            DRAWS=draws,
            SOFT=entropy is not None,
        )
