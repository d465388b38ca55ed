"""How a codebook is used, from counts of its codes."""

from __future__ import annotations

import torch
from torch import Tensor


def usage(histogram: Tensor) -> Tensor:
    """Fraction of codes that were used at all: (..., K) counts -> (...)."""
    return (histogram > 0).float().mean(dim=-1)


def perplexity(histogram: Tensor) -> Tensor:
    """exp(entropy) of code use: (..., K) counts -> (...), from 1 to K; 0 for an empty histogram."""
    total = histogram.double().sum(dim=-1, keepdim=True)
    share = histogram / total.clamp(min=torch.finfo(torch.float64).tiny)
    return (torch.special.entr(share).sum(dim=-1).exp() * (total.squeeze(-1) > 0)).float()


def same_numbering(codes: Tensor, others: Tensor) -> bool:
    """Whether two codebooks, both (K, dim), seem to be of one training, in which a code keeps its number.

    Then most codes have their nearest among the others at their own number; of another training one of K has,
    by chance. A tenth of them is asked for, since codes move. Fewer than 32 are too few to tell: true.
    """
    if len(codes) < 32:
        return True
    # Some 256 of them, for the sake of large codebooks.
    numbers = torch.arange(0, len(codes), max(1, len(codes) // 256), device=codes.device)
    nearest = torch.cdist(codes[numbers].double(), others.double()).argmin(dim=1)
    return int((nearest == numbers).sum()) * 10 >= len(numbers)
