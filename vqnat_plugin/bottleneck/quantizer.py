"""The bottleneck that models use: E step, straight-through estimator and commitment loss.

Source: Roy et al. 2018 (arXiv 1805.11063), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .assignment import (
    Similarity,
    assignment_statistics,
    mean_code_vectors,
    mean_one_hot,
    nearest_codes,
    posterior,
    posterior_codes,
    sample_codes,
)
from .codebook import EMCodebook, _require, perplexity, usage


@dataclass
class QuantizerOutput:
    """What the quantiser returns for z of shape (..., dim). "(blocks)" stands only when blocks > 1.

    Attributes:
        quantized: (..., dim), type of z: the (mean) code vectors; gradients pass straight through to z. 0 at padding.
        codes: (..., (blocks)) int64, the nearest code. 0 at padding.
        samples: (..., (blocks), m) int64, sampled codes: m = 1 and equal to `codes` for hard assignment and in
            evaluation; None for the exact posterior. 0 at padding.
        commitment_loss: 0-d fp32, beta * mean((z - sg(z_q))^2) over valid positions; 0 when there is none.
        metrics: 0-d detached tensors of this batch on this rank, averaged over blocks: `usage` (fraction of codes
            used), `perplexity` (of the assignments), `posterior_entropy` (nats, mean; 0 for hard assignment),
            `distinct_codes` (mean number of distinct codes among the m samples; exp(entropy) for the exact posterior),
            `commitment` (unweighted).
    """

    quantized: Tensor
    codes: Tensor
    samples: Tensor | None
    commitment_loss: Tensor
    metrics: dict[str, Tensor]
    _dense: Callable[[], Tensor] = field(repr=False)

    @property
    def soft_codes(self) -> Tensor:
        """(..., (blocks), K) fp32, the mean assignment: rows sum to 1, and to 0 at padding. Dense: made on demand."""
        return self._dense()


class EMVectorQuantizer(EMCodebook):
    """Vector quantisation trained by hard, Monte-Carlo or exact soft EM.

    `forward` is the E step and, in training, adds the batch to the statistics of the next M step;
    `update_codebook` is the M step, to be called once per optimizer step. So gradient accumulation equals a larger
    batch, several ranks equal one with all the data, and a skipped step is undone by `discard`.

    Distances, codes and statistics are fp32 under half precision and autocast (TF32 only where torch's global
    switches allow it for all fp32 products). Under activation checkpointing keep the quantiser outside: a forward that
    runs twice would be counted twice.

    Args:
        codebook_size: number of codes K.
        dim: size of a vector.
        assignment: E step in training: "hard" (nearest code), "monte_carlo" (mean of `samples` draws from the
            posterior) or "posterior" (its exact mean).
        samples: m, draws per vector; 5 to 10 in the paper.
        temperature: p(j | z) = softmax_j(-||z - e_j||^2 / temperature); 1 in the paper, higher is softer.
        decay: lambda of the averaged statistics; 0.999 in the paper.
        epsilon: Laplace smoothing of counts.
        commitment_weight: beta; 0.25 in the paper.
        blocks: product quantisation: dim is split into so many sub-vectors, each with codes of its own.
        init: "data": call `initialize_codebook` before use; "random": the reference code's start.
        revival: whether the M step replaces stale codes by vectors just seen; False is the paper's plain average.
        revival_threshold: a code is stale when its averaged count is below this fraction of the mean count.

    `temperature`, `samples`, `decay` and `revival` may be changed between steps.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> quantizer = EMVectorQuantizer(codebook_size=8, dim=4, assignment="monte_carlo")
        >>> z = torch.randn(2, 16, 4, requires_grad=True)
        >>> mask = torch.ones(2, 16, dtype=torch.bool)
        >>> quantizer.initialize_codebook(z, mask)
        >>> out = quantizer(z, mask)
        >>> (out.quantized.square().mean() + out.commitment_loss).backward()
        >>> quantizer.update_codebook()  # once per optimizer step
        True
        >>> out.codes.shape, out.samples.shape, out.soft_codes.shape
        (torch.Size([2, 16]), torch.Size([2, 16, 10]), torch.Size([2, 16, 8]))
        >>> bool((quantizer.eval()(z).quantized == quantizer.lookup(quantizer(z).codes)).all())
        True
    """

    def __init__(
        self,
        codebook_size: int,
        dim: int,
        assignment: str = "hard",
        samples: int = 10,
        temperature: float = 1.0,
        decay: float = 0.999,
        epsilon: float = 1e-5,
        commitment_weight: float = 0.25,
        blocks: int = 1,
        init: str = "data",
        revival: bool = True,
        revival_threshold: float = 0.05,
    ) -> None:
        super().__init__(
            codebook_size,
            dim,
            decay=decay,
            epsilon=epsilon,
            blocks=blocks,
            init=init,
            revival=revival,
            revival_threshold=revival_threshold,
        )
        kinds = ("hard", "monte_carlo", "posterior")
        _require(assignment in kinds, "assignment", assignment, "'hard', 'monte_carlo' or 'posterior'")
        _require(isinstance(samples, int) and samples >= 1, "samples", samples, ">= 1")
        _require(0.0 < temperature < math.inf, "temperature", temperature, "positive")
        _require(0.0 <= commitment_weight < math.inf, "commitment_weight", commitment_weight, ">= 0")
        self.assignment, self.samples, self.temperature = assignment, samples, temperature
        self.commitment_weight = commitment_weight

    def forward(self, z: Tensor, mask: Tensor | None = None, accumulate: bool = True) -> QuantizerOutput:
        """Quantises z; in training mode also adds it to the statistics of the next M step.

        Args:
            z: (..., dim), any floating type. What stands at padded positions never matters, not even NaN.
            mask: (...) bool, true where valid; None for all.
            accumulate: False leaves all state untouched: for dummy batches.

        Raises:
            ValueError: z or mask has a wrong shape or type.
        """
        flat, valid = self._flatten(z, mask)
        if valid is not None:
            flat = flat.masked_fill(~valid[:, None], 0.0)
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            vectors = flat.detach().float()
            width = self.dim // self.blocks
            assigned = [
                self._assign(part.contiguous(), codes.contiguous(), valid)
                for part, codes in zip(vectors.split(width, 1), self.codebook.split(width, 1), strict=True)
            ]
            means = torch.cat([block.means for block in assigned], dim=1)
            if valid is not None:
                means.masked_fill_(~valid[:, None], 0.0)
            if self.training and accumulate:
                self._accumulate(
                    torch.stack([block.counts for block in assigned]),
                    torch.cat([block.sums for block in assigned], dim=1),
                    torch.stack([block.hits for block in assigned]),
                    vectors,
                    valid,
                )
        with torch.autocast(z.device.type, enabled=False):
            weights = z.new_ones(flat.shape[0], dtype=torch.float32) if valid is None else valid.float()
            total = weights.sum().clamp(min=1.0)
            commitment = (flat.float() - means).square().sum() / (total * self.dim)
        shape = (*z.shape[:-1], self.blocks) if self.blocks > 1 else z.shape[:-1]
        samples = None
        if assigned[0].samples is not None:
            samples = torch.stack([block.samples for block in assigned if block.samples is not None], dim=1)
            samples = _zero_padding(samples, valid).view(*shape, samples.shape[-1])
        return QuantizerOutput(
            # The value is exactly the code vector, in z's type; the gradient is the identity.
            quantized=(means.to(z.dtype) + (flat - flat.detach())).view(z.shape),
            codes=_zero_padding(torch.stack([block.nearest for block in assigned], dim=1), valid).view(shape),
            samples=samples,
            commitment_loss=self.commitment_weight * commitment,
            metrics={**self._metrics(assigned, weights / total), "commitment": commitment.detach()},
            _dense=lambda: _dense_assignment(assigned, valid).view(*shape, self.codebook_size),
        )

    def _assign(self, vectors: Tensor, codes: Tensor, valid: Tensor | None) -> _BlockAssignment:
        """The E step of one block: vectors (N, d), codes (K, d)."""
        size, temperature = self.codebook_size, self.temperature
        if self.assignment == "posterior" and self.training:
            weights = vectors.new_ones(vectors.shape[0]) if valid is None else valid.float()
            exact = posterior_codes(vectors, codes, temperature, weights)
            hits, _ = assignment_statistics(exact.nearest[:, None], vectors[:, :0], valid, size)
            similarity = Similarity(codes, temperature)
            return _BlockAssignment(
                exact.nearest, None, exact.means, exact.entropy, exact.entropy.exp(), exact.counts, hits, exact.sums,
                dense=lambda: posterior(vectors, similarity),
            )  # fmt: skip
        if self.assignment == "hard":
            nearest = nearest_codes(vectors, codes)
            samples, entropy = nearest[:, None], vectors.new_zeros(vectors.shape[0])
        else:
            uniforms = None
            if self.training:
                uniforms = torch.rand(vectors.shape[0], self.samples, device=vectors.device)
            soft = sample_codes(vectors, codes, temperature, uniforms)
            nearest, entropy = soft.nearest, soft.entropy
            samples = nearest[:, None] if soft.samples is None else soft.samples
        counts, sums = assignment_statistics(samples, vectors, valid, size)
        distinct = 1.0 + (samples.sort(dim=1).values.diff(dim=1) != 0).sum(dim=1).float()
        means = mean_code_vectors(codes, samples)
        return _BlockAssignment(
            nearest,
            samples,
            means,
            entropy,
            distinct,
            counts,
            counts,
            sums,
            lambda: mean_one_hot(samples, size),
        )

    @staticmethod
    def _metrics(assigned: list[_BlockAssignment], weights: Tensor) -> dict[str, Tensor]:
        """Means over blocks; weights (N,) sum to 1 over valid positions."""
        return {
            "usage": torch.stack([usage(block.hits) for block in assigned]).mean(),
            "perplexity": torch.stack([perplexity(block.counts) for block in assigned]).mean(),
            "posterior_entropy": torch.stack([block.entropy @ weights for block in assigned]).mean(),
            "distinct_codes": torch.stack([block.distinct @ weights for block in assigned]).mean(),
        }

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, assignment={self.assignment!r}, samples={self.samples},"
            f" temperature={self.temperature}, commitment_weight={self.commitment_weight}"
        )


@dataclass(frozen=True)
class _BlockAssignment:
    """One block's E step: N vectors of size d, statistics as in `Statistics`, `dense` makes (N, K) on demand."""

    nearest: Tensor
    samples: Tensor | None
    means: Tensor
    entropy: Tensor
    distinct: Tensor
    counts: Tensor
    hits: Tensor
    sums: Tensor
    dense: Callable[[], Tensor]


def _zero_padding(values: Tensor, valid: Tensor | None) -> Tensor:
    """Sets rows of values (N, ...) to 0 where valid (N,) is false."""
    if valid is None:
        return values
    return values.masked_fill(~valid.view(-1, *[1] * (values.dim() - 1)), 0)


def _dense_assignment(assigned: list[_BlockAssignment], valid: Tensor | None) -> Tensor:
    """(N, blocks, K) mean assignments."""
    return _zero_padding(torch.stack([block.dense() for block in assigned], dim=1), valid)
