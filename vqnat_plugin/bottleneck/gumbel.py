"""The Gumbel-softmax bottleneck: trained by gradients alone, the baseline that EM is compared with.

Source: Jang et al. 2017 (arXiv 1611.01144) and Maddison et al. 2017 (arXiv 1611.00712); a baseline of Roy et
al. 2018.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .assignment import check_temperature
from .base import require
from .output import QuantizerOutput, zero_padding
from .parameter_codebook import ParameterCodebook, mean_over_valid
from .precision import without_autocast
from .registry import Settings, register


class GumbelQuantizer(ParameterCodebook):
    """Draws one code for each vector from a softmax, with the straight-through Gumbel-softmax estimator.

    Its posterior is dense by nature, so that memory grows with vectors times codes.

    Args:
        codebook_size: number of codes K.
        dim: size of a vector.
        temperature: of the relaxed one-hot whose gradient is used; lower is closer to a true draw, with a
            gradient of more variance. From 1e-30 to 1e30.
        kl_weight: weight of the divergence from a uniform prior, log K - entropy, a vector.
        channels: see `Quantizer`.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        codebook_size: int,
        dim: int,
        temperature: float = 1.0,
        kl_weight: float = 1.0,
        channels: str | None = None,
    ) -> None:
        super().__init__(codebook_size, dim, channels)
        check_temperature(temperature)
        require(0.0 <= kl_weight < math.inf, "kl_weight", kl_weight, ">= 0")
        self.temperature, self.kl_weight = temperature, kl_weight
        self.logits = nn.Linear(dim, codebook_size)
        self.make_codebook()

    def quantize(self, z: Tensor, mask: Tensor | None, accumulate: bool) -> QuantizerOutput:
        """Draws a code for each vector in training, takes the most probable one in evaluation."""
        with without_autocast(z.device):
            vectors = zero_padding(z, mask).float()
            log_probabilities = F.linear(
                vectors, self.logits.weight.float(), self.logits.bias.float()
            ).log_softmax(-1)
            nearest = log_probabilities.argmax(-1)
            entropy = -(log_probabilities.exp() * log_probabilities).sum(-1)
            if self.training:
                drawn, one_hot = self._draw(log_probabilities)
                quantized = one_hot @ self.codebook.float()
            else:
                drawn, quantized = nearest, self.lookup(nearest).float()
            divergence = mean_over_valid(math.log(self.codebook_size) - entropy, mask)
        loss = self.kl_weight * divergence
        metrics = {
            "posterior_entropy": mean_over_valid(entropy.detach(), mask),
            "commitment": divergence.detach(),
        }
        return self.output(quantized.to(z.dtype), nearest, drawn, mask, accumulate, loss, metrics)

    def _draw(self, log_probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (...) and their one-hots (..., K) with the gradient of the relaxed ones.

        torch's `gumbel_softmax` takes the code from the relaxed one-hot, whose values are all the same, or no
        numbers, at extreme temperatures.
        """
        noisy = log_probabilities - torch.empty_like(log_probabilities).exponential_().log()
        best, drawn = noisy.max(-1, keepdim=True)
        relaxed = ((noisy - best.detach()) / self.temperature).softmax(-1)
        one_hot = torch.zeros_like(relaxed).scatter_(-1, drawn, 1.0)
        return drawn.squeeze(-1), one_hot + (relaxed - relaxed.detach())


@register("gumbel", "Gumbel-softmax, trained by gradients")
def _build(settings: Settings) -> GumbelQuantizer:
    weight = settings.commitment_weight * settings.divergence_scale
    return GumbelQuantizer(
        settings.codebook_size, settings.dim, settings.relaxation, weight, settings.channels
    )
