"""The bottleneck that models use: E step, straight-through estimator and commitment loss.

Source: Roy et al. 2018 (arXiv 1805.11063); straight-through estimator and commitment as in VQ-VAE
(arXiv 1711.00937).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .assignment import (
    LARGEST,
    Similarity,
    add_sampled_vectors,
    check_temperature,
    count_samples,
    mean_code_vectors,
    mean_one_hot,
    nearest_codes,
    posterior,
    posterior_codes,
    sample_codes,
)
from .codebook import EMCodebook, perplexity, require, require_integer, usage


@dataclass
class QuantizerOutput:
    """What the quantiser returns for z of shape (..., dim). With one block there is no dimension `blocks`.

    Attributes:
        quantized: (..., dim), in z's type: the (mean) code vectors; gradients pass straight through to z. 0
            at padding.
        codes: (..., blocks) int64, the nearest code. 0 at padding.
        samples: (..., blocks, m) int64, sampled codes; m = 1 and equal to `codes` for hard assignment and in
            evaluation; None for the exact posterior in training. 0 at padding.
        commitment_loss: 0-d fp32, beta * mean((z - sg(z_q))^2) over valid positions; 0 when there is none.
        metrics: 0-d detached tensors for this batch on this rank, means over blocks: `usage` (fraction of
            codes used), `perplexity` (of the assignments), `posterior_entropy` (nats, mean; 0 for hard
            assignment), `distinct_codes` (mean number of distinct codes among the m samples; exp(entropy) for
            the exact posterior), `commitment` (unweighted).
    """

    quantized: Tensor
    codes: Tensor
    samples: Tensor | None
    commitment_loss: Tensor
    metrics: dict[str, Tensor]
    _codebook_size: int = field(repr=False)
    _mask: Tensor | None = field(repr=False)
    _posteriors: list[tuple[Tensor, Similarity]] = field(repr=False)

    @property
    def soft_codes(self) -> Tensor:
        """(..., blocks, K) fp32, the mean assignment: rows sum to 1, at padding to 0. Made on demand."""
        if self.samples is not None:
            dense = mean_one_hot(self.samples, self._codebook_size)
        else:
            with torch.autocast(self.codes.device.type, enabled=False):
                blocks = [posterior(vectors, similarity) for vectors, similarity in self._posteriors]
            dense = torch.stack(blocks, dim=1).view(*self.codes.shape, self._codebook_size)
        return zero_padding(dense, self._mask)


class EMVectorQuantizer(EMCodebook):
    """Vector quantisation trained by hard, Monte-Carlo or exact soft EM.

    `forward` is the E step and, in training, adds the batch to the statistics of the next M step.
    `update_codebook` is the M step, to be called once for each optimizer step. So accumulated gradients equal
    a larger batch, several ranks equal one with all the data, and `discard` undoes a skipped step.

    Distances, codes and statistics are fp32 under half precision and autocast (TF32 only if torch's global
    switches ask for it). Under activation checkpointing keep the quantiser outside: a forward that runs twice
    counts twice.

    Args:
        codebook_size: number of codes K.
        dim: size of a vector.
        assignment: E step in training: "hard" (nearest code), "monte_carlo" (mean of `samples` draws from the
            posterior) or "posterior" (its exact mean).
        samples: m, draws for each vector; 5 to 10 in the paper.
        temperature: p(j | z) = softmax_j(-||z - e_j||^2 / temperature); 1 in the paper, higher is softer.
            From 1e-30 to 1e30.
        decay: lambda of the averaged statistics; 0.999 in the paper.
        epsilon: Laplace smoothing of counts.
        commitment_weight: beta; 0.25 in the paper.
        blocks: product quantisation: dim is split into so many sub-vectors, each with codes of its own.
        init: "data": call `initialize_codebook` before use; "random": the start of the reference code.
        revival: whether the M step replaces stale codes by vectors just seen, drawn by their squared distance
            to the nearest code; False is the paper's plain average.
        revival_threshold: a code is stale when its averaged count is below this fraction of the mean count.

    Raises:
        ValueError: an argument is out of its range.

    `assignment`, `temperature`, `samples`, `decay`, `revival` and `revival_threshold` may be changed between
    steps.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> quantizer = EMVectorQuantizer(codebook_size=8, dim=4, assignment="monte_carlo")
        >>> z = torch.randn(2, 16, 4, requires_grad=True)
        >>> mask = torch.ones(2, 16, dtype=torch.bool)
        >>> quantizer.initialize_codebook(z, mask)
        >>> out = quantizer(z, mask)
        >>> (out.quantized.square().mean() + out.commitment_loss).backward()
        >>> quantizer.update_codebook()  # once for each optimizer step
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
        require(assignment in kinds, "assignment", assignment, "'hard', 'monte_carlo' or 'posterior'")
        require_integer("samples", samples)
        check_temperature(temperature)
        require(0.0 <= commitment_weight < math.inf, "commitment_weight", commitment_weight, ">= 0")
        self.assignment, self.samples, self.temperature = assignment, samples, temperature
        self.commitment_weight = commitment_weight

    def forward(self, z: Tensor, mask: Tensor | None = None, accumulate: bool = True) -> QuantizerOutput:
        """Quantises z; in training also adds it to the statistics of the next M step.

        Codes are right for all finite numbers. Where their squares leave the range of fp32, the commitment
        loss is infinite.

        Args:
            z: (..., dim), any floating type. What stands at padded positions never matters, not even NaN.
            mask: (...) bool, true where valid; None for all.
            accumulate: False leaves all state untouched: for dummy batches.

        Raises:
            ValueError: z or mask has a wrong shape or type.
        """
        flat, valid = self._flatten(z, mask)
        flat = zero_padding(flat, valid)
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            vectors = flat.detach().float()
            weights = vectors.new_ones(vectors.shape[0]) if valid is None else valid.float()
            total = weights.sum().clamp(min=1.0)
            parts = [part.contiguous() for part in vectors.chunk(self.blocks, dim=1)]
            codes = [part.contiguous() for part in self.codebook.chunk(self.blocks, dim=1)]
            assigned = [self._assign(*pair, weights) for pair in zip(parts, codes, strict=True)]
            means = zero_padding(torch.cat([block.means for block in assigned], dim=1), valid)
            metrics = _metrics(assigned, weights / total)
            nearest = torch.stack([block.nearest for block in assigned], dim=1)
            if self.training and accumulate:
                self._accumulate(assigned, parts)
                if self.revival:
                    # By squared distance, as K-means++ draws its seeds: a stale code goes where codes are
                    # missing, not where data are dense and codes crowd already.
                    found = self.lookup(nearest.squeeze(1) if self.blocks == 1 else nearest)
                    distances = (vectors - found).square().sum(dim=1).clamp(max=LARGEST)
                    self._statistics().keep(vectors, distances * weights)
        with torch.autocast(z.device.type, enabled=False):
            commitment = (flat.float() - means).square().sum() / (total * self.dim)
        shape = z.shape[:-1] if self.blocks == 1 else (*z.shape[:-1], self.blocks)
        samples = None
        if assigned[0].samples is not None:
            drawn = torch.stack([block.samples for block in assigned if block.samples is not None], dim=1)
            samples = zero_padding(drawn, valid).view(*shape, drawn.shape[2])
        return QuantizerOutput(
            # The value is exactly the code vector, rounded to z's type; the gradient is the identity.
            quantized=(means.to(z.dtype) + (flat - flat.detach())).view(z.shape),
            codes=zero_padding(nearest, valid).view(shape),
            samples=samples,
            commitment_loss=self.commitment_weight * commitment,
            metrics={**metrics, "commitment": commitment.detach()},
            _codebook_size=self.codebook_size,
            _mask=mask,
            _posteriors=[block.posterior for block in assigned if block.posterior is not None],
        )

    def _assign(self, vectors: Tensor, codes: Tensor, weights: Tensor) -> _BlockAssignment:
        """The E step of one block: vectors (N, d), codes (K, d), weights (N,)."""
        size = self.codebook_size
        if self.assignment == "posterior" and self.training:
            similarity = Similarity(codes, self.temperature)
            found = posterior_codes(vectors, similarity, weights)
            return _BlockAssignment(
                nearest=found.nearest,
                means=found.means,
                entropy=found.entropy,
                distinct=found.entropy.exp(),
                counts=found.counts.double(),
                hits=count_samples(found.nearest[:, None], weights, size),
                sums=found.sums,
                posterior=(vectors, similarity),
            )
        entropy = vectors.new_zeros(vectors.shape[0])
        if self.assignment == "hard":
            nearest = nearest_codes(vectors, codes)
            samples = nearest[:, None]
        else:
            draws = (
                torch.rand(vectors.shape[0], self.samples, device=vectors.device) if self.training else None
            )
            soft = sample_codes(vectors, codes, self.temperature, draws)
            nearest, entropy = soft.nearest, soft.entropy
            samples = nearest[:, None] if soft.samples is None else soft.samples
        counts = count_samples(samples, weights, size)
        return _BlockAssignment(
            nearest=nearest,
            means=mean_code_vectors(codes, samples),
            entropy=entropy,
            distinct=1.0 + (samples.sort(dim=1).values.diff(dim=1) != 0).sum(dim=1).float(),
            counts=counts,
            hits=counts,
            samples=samples,
        )

    def _accumulate(self, assigned: list[_BlockAssignment], parts: list[Tensor]) -> None:
        """Adds one batch to the statistics: parts are each block's vectors (N, d)."""
        if not self.initialized:
            warnings.warn(
                "the codebook holds random codes: call initialize_codebook(z, mask) with encoder outputs"
                " first, or say init='random' if that is meant",
                stacklevel=4,
            )
        statistics = self._statistics()
        self._accumulated = True
        sums = statistics.sums.chunk(self.blocks, dim=1)
        for number, (block, vectors) in enumerate(zip(assigned, parts, strict=True)):
            statistics.counts[number] += block.counts
            statistics.hits[number] += block.hits
            if block.samples is not None:
                add_sampled_vectors(sums[number], block.samples, vectors)
            elif block.sums is not None:
                sums[number].add_(block.sums)

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, assignment={self.assignment!r}, samples={self.samples},"
            f" temperature={self.temperature}, commitment_weight={self.commitment_weight}"
        )


@dataclass(frozen=True)
class _BlockAssignment:
    """The E step of one block, for N vectors of size d.

    nearest, entropy, distinct (N,); means (N, d); counts n_j and hits (K,), fp64. With samples (N, m), or
    else (exact posterior) sums s_j (K, d) and what the posterior can be made from again.
    """

    nearest: Tensor
    means: Tensor
    entropy: Tensor
    distinct: Tensor
    counts: Tensor
    hits: Tensor
    samples: Tensor | None = None
    sums: Tensor | None = None
    posterior: tuple[Tensor, Similarity] | None = None


def _metrics(assigned: list[_BlockAssignment], weights: Tensor) -> dict[str, Tensor]:
    """Means over blocks, on the device (nothing waits); weights (N,) sum to 1 over valid positions."""
    return {
        "usage": torch.stack([usage(block.hits) for block in assigned]).mean(),
        "perplexity": torch.stack([perplexity(block.counts) for block in assigned]).mean(),
        "posterior_entropy": torch.stack([block.entropy @ weights for block in assigned]).mean(),
        "distinct_codes": torch.stack([block.distinct @ weights for block in assigned]).mean(),
    }


def zero_padding(values: Tensor, valid: Tensor | None) -> Tensor:
    """Sets values (..., any further dimensions) to 0 where valid (...) is false."""
    if valid is None:
        return values
    return values.masked_fill(~valid.view(*valid.shape, *[1] * (values.dim() - valid.dim())), 0)
