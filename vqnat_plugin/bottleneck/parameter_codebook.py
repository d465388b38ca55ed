"""A codebook that is trained by gradients: what the baselines without EM share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .assignment import count_samples
from .base import Quantizer, is_recomputed
from .metrics import perplexity, usage
from .output import QuantizerOutput, zero_padding


class ParameterCodebook(Quantizer):
    """A quantiser without EM state.

    Attributes:
        codebook: (codebook_size, dim) parameter, standard normal at the start.
    """

    def make_codebook(self) -> None:
        """Draws the codes; to be called once, after whatever else draws random numbers."""
        self.codebook = nn.Parameter(torch.randn(self.codebook_size, self.dim))

    def lookup(self, codes: Tensor) -> Tensor:
        """Code vectors: codes `(...)` to `(..., dim)`."""
        return F.embedding(codes, self.codebook)

    def output(
        self,
        quantized: Tensor,
        codes: Tensor,
        drawn: Tensor,
        mask: Tensor | None,
        accumulate: bool,
        loss: Tensor,
        metrics: dict[str, Tensor],
    ) -> QuantizerOutput:
        """What `quantize` returns of nearest and drawn codes (...); counts the drawn ones.

        `metrics` are `commitment` and, unless it is 0, `posterior_entropy`.
        """
        valid = torch.ones_like(drawn, dtype=torch.float32) if mask is None else mask.float()
        counts = count_samples(drawn.reshape(-1, 1), valid.reshape(-1), self.codebook_size)
        if self.training and accumulate and not is_recomputed():
            self.histogram += counts
        return QuantizerOutput(
            quantized=zero_padding(quantized, mask),
            codes=zero_padding(codes, mask),
            samples=zero_padding(drawn, mask)[..., None],
            commitment_loss=loss,
            metrics={
                "usage": usage(counts),
                "perplexity": perplexity(counts),
                "posterior_entropy": torch.zeros((), dtype=torch.float32, device=codes.device),
                "distinct_codes": torch.ones((), dtype=torch.float32, device=codes.device),
                **metrics,
            },
            _codebook_size=self.codebook_size,
            _mask=mask,
            _posteriors=[],
        )


def mean_over_valid(values: Tensor, mask: Tensor | None) -> Tensor:
    """0-d mean of values (..., any further dimensions) where mask (...) is true; 0 when it never is."""
    if mask is None:
        return values.sum() / max(values.numel(), 1)
    return zero_padding(values, mask).sum() / (mask.sum().clamp(min=1) * values.shape[mask.dim() :].numel())
