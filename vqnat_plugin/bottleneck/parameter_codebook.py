"""A codebook that is a parameter, trained by gradients: what the baselines without EM share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .codebook import perplexity, require_integer, usage
from .quantizer import QuantizerOutput, zero_padding


class ParameterCodebook(nn.Module):
    """The methods of `EMVectorQuantizer` that models call, without EM state.

    Attributes:
        codebook: (codebook_size, dim) parameter, standard normal at the start.
        histogram: (codebook_size,) fp64, how often each code was taken in training since `reset_histogram`.
        revived: 0, always.
    """

    codebook: nn.Parameter
    histogram: Tensor
    revived: Tensor
    initialized = True

    def __init__(self, codebook_size: int, dim: int) -> None:
        super().__init__()
        require_integer("codebook_size", codebook_size)
        require_integer("dim", dim)
        self.codebook_size, self.dim = codebook_size, dim

    def make_codebook(self) -> None:
        """Draws the codes; to be called once, after whatever else draws random numbers."""
        self.codebook = nn.Parameter(torch.randn(self.codebook_size, self.dim))
        histogram = torch.zeros(self.codebook_size, dtype=torch.float64)
        self.register_buffer("histogram", histogram, persistent=False)
        self.register_buffer("revived", torch.zeros((), dtype=torch.int64), persistent=False)

    def lookup(self, codes: Tensor) -> Tensor:
        """Code vectors: codes `(...)` to `(..., dim)`."""
        return F.embedding(codes, self.codebook)

    def output(
        self,
        quantized: Tensor,
        codes: Tensor,
        drawn: Tensor,
        mask: Tensor,
        accumulate: bool,
        loss: Tensor,
        metrics: dict[str, Tensor],
    ) -> QuantizerOutput:
        """What `forward` returns of nearest and drawn codes (...); counts the drawn ones.

        `metrics` are `posterior_entropy` and `commitment`.
        """
        counts = torch.bincount(drawn[mask], minlength=self.codebook_size)
        if self.training and accumulate:
            self.histogram += counts
        return QuantizerOutput(
            quantized=zero_padding(quantized, mask),
            codes=zero_padding(codes, mask),
            samples=zero_padding(drawn, mask)[..., None],
            commitment_loss=loss,
            metrics={
                "usage": usage(counts),
                "perplexity": perplexity(counts),
                "distinct_codes": torch.ones((), device=codes.device),
                **metrics,
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
