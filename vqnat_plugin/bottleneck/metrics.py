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
