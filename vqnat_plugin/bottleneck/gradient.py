"""The codebook of VQ-VAE, trained by gradients: the baseline that EM is compared with on images.

Source: van den Oord et al. 2017 (arXiv 1711.00937), equation 3.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .assignment import nearest_codes
from .codebook import perplexity, require, require_integer, usage
from .quantizer import QuantizerOutput, zero_padding


class GradientQuantizer(nn.Module):
    """Takes the nearest code; codes are a parameter that the codebook loss pulls towards the vectors.

    It has the methods of `EMVectorQuantizer` that models call, but no EM state.

    Attributes:
        codebook: (codebook_size, dim) parameter, standard normal at the start.
        histogram: (codebook_size,) fp64, how often each code was chosen in training since `reset_histogram`.
        revived: 0, always.

    Args:
        codebook_size: number of codes K.
        dim: size of a vector.
        commitment_weight: beta.

    Raises:
        ValueError: an argument is out of its range.
    """

    histogram: Tensor
    revived: Tensor
    initialized = True

    def __init__(self, codebook_size: int, dim: int, commitment_weight: float = 0.25) -> None:
        super().__init__()
        require_integer("codebook_size", codebook_size)
        require_integer("dim", dim)
        require(0.0 <= commitment_weight < math.inf, "commitment_weight", commitment_weight, ">= 0")
        self.codebook_size, self.dim, self.commitment_weight = codebook_size, dim, commitment_weight
        self.codebook = nn.Parameter(torch.randn(codebook_size, dim))
        self.register_buffer("histogram", torch.zeros(codebook_size, dtype=torch.float64), persistent=False)
        self.register_buffer("revived", torch.zeros((), dtype=torch.int64), persistent=False)

    def lookup(self, codes: Tensor) -> Tensor:
        """Code vectors: codes `(...)` to `(..., dim)`."""
        return F.embedding(codes, self.codebook)

    def forward(self, z: Tensor, mask: Tensor | None = None, accumulate: bool = True) -> QuantizerOutput:
        """Quantises z. `commitment_loss` is the codebook loss and beta times the commitment.

        Args:
            z: (..., dim), any floating type.
            mask: (...) bool, true where valid; None for all.
            accumulate: False leaves the histogram alone: for dummy batches.
        """
        with torch.autocast(z.device.type, enabled=False):
            vectors = zero_padding(z, mask).float()
            found = nearest_codes(vectors.detach().reshape(-1, self.dim), self.codebook.detach().float())
            codes = found.view(z.shape[:-1])
            chosen = self.lookup(codes).float()
            valid = torch.ones_like(codes, dtype=torch.bool) if mask is None else mask
            total = valid.sum().clamp(min=1) * self.dim
            commitment = zero_padding(vectors - chosen.detach(), mask).square().sum() / total
            codebook_loss = zero_padding(vectors.detach() - chosen, mask).square().sum() / total
            counts = torch.bincount(codes[valid], minlength=self.codebook_size)
        if self.training and accumulate:
            self.histogram += counts
        straight_through = chosen.detach().to(z.dtype) + (z - z.detach())
        codes = zero_padding(codes, mask)
        zero = torch.zeros((), device=z.device)
        return QuantizerOutput(
            quantized=zero_padding(straight_through, mask),
            codes=codes,
            samples=codes[..., None],
            commitment_loss=codebook_loss + self.commitment_weight * commitment,
            metrics={
                "usage": usage(counts),
                "perplexity": perplexity(counts),
                "posterior_entropy": zero,
                "distinct_codes": zero + 1.0,
                "commitment": commitment.detach(),
            },
            _codebook_size=self.codebook_size,
            _mask=mask,
            _posteriors=[],
        )

    def discard(self) -> None:
        """Nothing is accumulated between steps."""

    def reset_histogram(self) -> None:
        """Starts a new epoch of `histogram`."""
        self.histogram.zero_()
