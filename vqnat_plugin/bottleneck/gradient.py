"""The codebook of VQ-VAE, trained by gradients: the baseline that EM is compared with on images.

Source: van den Oord et al. 2017 (arXiv 1711.00937), equation 3.
"""

from __future__ import annotations

import math

from torch import Tensor

from .base import require
from .operators import nearest_codes
from .output import QuantizerOutput, zero_padding
from .parameter_codebook import ParameterCodebook, mean_over_valid
from .precision import without_autocast
from .registry import Settings, register
from .rotation import straight_through


class GradientQuantizer(ParameterCodebook):
    """Takes the nearest code; codes are a parameter that the codebook loss pulls towards the vectors.

    `commitment_loss` is the codebook loss and beta times the commitment.

    Args:
        codebook_size: number of codes K.
        dim: size of a vector.
        commitment_weight: beta.
        channels: see `Quantizer`.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        codebook_size: int,
        dim: int,
        commitment_weight: float = 0.25,
        channels: str | None = None,
    ) -> None:
        super().__init__(codebook_size, dim, channels)
        require(0.0 <= commitment_weight < math.inf, "commitment_weight", commitment_weight, ">= 0")
        self.commitment_weight = commitment_weight
        self.make_codebook()

    def quantize(self, z: Tensor, mask: Tensor | None, accumulate: bool) -> QuantizerOutput:
        """See `Quantizer.forward`."""
        with without_autocast(z.device):
            z = zero_padding(z, mask)
            vectors = z.float()
            found = nearest_codes(vectors.detach().reshape(-1, self.dim), self.codebook.detach().float())
            codes = found.view(z.shape[:-1])
            chosen = self.lookup(codes).float()
            commitment = mean_over_valid((vectors - chosen.detach()).square(), mask)
            codebook_loss = mean_over_valid((vectors.detach() - chosen).square(), mask)
        loss = codebook_loss + self.commitment_weight * commitment
        return self.output(
            straight_through(z, chosen.detach()),
            codes,
            codes,
            mask,
            accumulate,
            loss,
            {"commitment": commitment.detach()},
        )


@register("gradient", "the codebook of VQ-VAE, trained by gradients")
def _build(settings: Settings) -> GradientQuantizer:
    return GradientQuantizer(
        settings.codebook_size, settings.dim, settings.commitment_weight, settings.channels
    )
