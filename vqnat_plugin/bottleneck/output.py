"""What every quantiser returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .assignment import Similarity, mean_one_hot, posterior
from .precision import without_autocast


@dataclass
class QuantizerOutput:
    """What a quantiser returns for z of shape (..., dim), or (batch, dim, ...) with channels first.

    `quantized, codes, loss = quantizer(z)` unpacks the three that most models need. With one codebook there
    is no dimension `codebooks`; several are the levels of a residual quantiser, then the blocks of each.

    Attributes:
        quantized: of z's shape and type: the (mean) code vectors; gradients pass through to z. 0 at padding.
        codes: (..., codebooks) int64, the nearest code, with Gumbel-softmax the most probable one. 0 at
            padding; -1 at levels that were left out.
        samples: (..., codebooks, m) int64, sampled codes; m = 1 and equal to `codes` for hard assignment and
            in evaluation, with Gumbel-softmax in training the code that was drawn; None for the exact
            posterior in training. 0 at padding and at levels left out.
        commitment_loss: 0-d fp32, what the kind adds to a model's loss: with EM beta * mean((z - sg(z_q))^2)
            over valid positions, with codes trained by gradients the codebook loss as well, with
            Gumbel-softmax the weighted divergence, with FSQ 0; of several codebooks the mean.
        metrics: 0-d detached tensors for this batch on this rank, means over codebooks: `usage` (fraction of
            codes used), `perplexity` (of the assignments), `posterior_entropy` (nats, mean; 0 for hard
            assignment), `distinct_codes` (mean number of distinct codes among the m samples; exp(entropy) for
            the exact posterior), `commitment` (unweighted; with FSQ the squared error of rounding, in steps
            of the grid, with Gumbel-softmax the divergence in nats).
    """

    quantized: Tensor
    codes: Tensor
    samples: Tensor | None
    commitment_loss: Tensor
    metrics: dict[str, Tensor]
    # 0: that of the quantiser.
    _codebook_size: int = field(default=0, repr=False)
    # True where `soft_codes` is not 0: (...), or (..., levels).
    _mask: Tensor | None = field(default=None, repr=False)
    # For each codebook, when there are no samples: vectors (N, d), codes (K, d), temperature.
    _posteriors: list[tuple[Tensor, Tensor, float]] = field(default_factory=list, repr=False)

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.quantized, self.codes, self.commitment_loss))

    @property
    def soft_codes(self) -> Tensor:
        """(..., codebooks, K) fp32, the mean assignment: rows sum to 1, at padding to 0. Made on demand."""
        if self.samples is not None:
            dense = mean_one_hot(self.samples, self._codebook_size)
        else:
            with without_autocast(self.codes.device):
                found = [posterior(z, Similarity(codes, heat)) for z, codes, heat in self._posteriors]
            dense = torch.stack(found, dim=1).view(*self.codes.shape, self._codebook_size)
        return zero_padding(dense, self._mask)


# So that a quantiser by itself can be exported.
torch.export.register_dataclass(
    QuantizerOutput, serialized_type_name="vqnat_plugin.bottleneck.QuantizerOutput"
)


def zero_padding(values: Tensor, valid: Tensor | None) -> Tensor:
    """Sets values (..., any further dimensions) to 0 where valid (...) is false."""
    if valid is None:
        return values
    return values.masked_fill(~valid.view(*valid.shape, *[1] * (values.dim() - valid.dim())), 0)
