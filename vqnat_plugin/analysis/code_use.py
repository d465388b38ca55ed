"""How much of a codebook is in use."""

from collections.abc import Sequence

import torch

from ..bottleneck import perplexity, usage


def code_use(counts: Sequence[int], codebook_size: int) -> dict[str, float]:
    """`usage` and `perplexity` of the codes, from how often each was seen (the last may be missing)."""
    histogram = torch.zeros(codebook_size, dtype=torch.float64)
    histogram[: len(counts)] = torch.tensor(counts, dtype=torch.float64)
    return {"usage": float(usage(histogram)), "perplexity": float(perplexity(histogram))}
