"""The codebook of VQ-VAE, trained by gradients: the baseline that EM is compared with on images.

Source: van den Oord et al. 2017 (arXiv 1711.00937), equation 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .assignment import nearest_codes
from .codebook import require
from .parameter_codebook import ParameterCodebook
from .quantizer import QuantizerOutput, zero_padding


class GradientQuantizer(ParameterCodebook):
    """Takes the nearest code; codes are a parameter that the codebook loss pulls towards the vectors.

    Args:
        codebook_size: number of codes K.
        dim: size of a vector.
        commitment_weight: beta.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, codebook_size: int, dim: int, commitment_weight: float = 0.25) -> None:
        super().__init__(codebook_size, dim)
        require(0.0 <= commitment_weight < math.inf, "commitment_weight", commitment_weight, ">= 0")
        self.commitment_weight = commitment_weight
        self.make_codebook()

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
        straight_through = chosen.detach().to(z.dtype) + (z - z.detach())
        loss = codebook_loss + self.commitment_weight * commitment
        metrics = {
            "posterior_entropy": torch.zeros((), device=z.device),
            "commitment": commitment.detach(),
        }
        return self.output(straight_through, codes, codes, valid, accumulate, loss, metrics)
