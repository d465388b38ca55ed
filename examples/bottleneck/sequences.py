#!/usr/bin/env python3
"""Sequences of different lengths (batch, time, channels): what is padding must not count.

Each is a walk on a few made-up states, seen through noise. The quantiser finds the states, in a loop that
knows nothing of the M step. Yours go in their place.
"""

import torch
from torch import Tensor

from vqnat_plugin.bottleneck import EMVectorQuantizer

STATES, DIM, LONGEST = 12, 8, 40


def sequences(count: int, centres: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy vectors (count, LONGEST, DIM), their states (count, LONGEST), and lengths (count,)."""
    lengths = torch.randint(5, LONGEST + 1, (count,))
    states = torch.randint(0, 3, (count, LONGEST)).cumsum(dim=1) % STATES
    vectors = centres[states] + 0.2 * torch.randn(count, LONGEST, DIM)
    padding = torch.arange(LONGEST) >= lengths[:, None]
    return vectors.masked_fill(padding[..., None], torch.nan), states, lengths


def main() -> None:
    torch.manual_seed(0)
    centres = torch.randn(STATES, DIM)
    # update="forward": a forward in training makes the M step of the one before; the first starts the codes.
    quantizer = EMVectorQuantizer(
        STATES, DIM, assignment="posterior", temperature=0.08, update="forward", decay=0.9
    )
    for step in range(101):
        vectors, states, lengths = sequences(32, centres)
        out = quantizer(vectors, lengths=lengths)  # or a mask (batch, time), true where valid
        if step % 25 == 0:
            valid = torch.arange(LONGEST) < lengths[:, None]
            pairs = torch.stack([states[valid], out.codes[valid]], dim=1).unique(dim=0)
            print(
                f"step {step}: error {out.metrics['commitment'].item():.4f},"
                f" {len(pairs)} pairs of state and code for {STATES} states"
            )
    print(f"codes of the first sequence: {out.codes[0, : lengths[0]].tolist()}")


if __name__ == "__main__":
    main()
