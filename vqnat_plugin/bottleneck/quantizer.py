"""The bottleneck that models use: E step, straight-through estimator and commitment loss.

Source: Roy et al. 2018 (arXiv 1805.11063); straight-through estimator and commitment as in VQ-VAE
(arXiv 1711.00937).
"""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from .assignment import (
    LARGEST,
    add_sampled_vectors,
    check_temperature,
    count_samples,
    mean_code_vectors,
)
from .base import is_recomputed, require, require_integer
from .codebook import EMCodebook
from .metrics import perplexity, usage
from .operators import nearest_and_entropy, nearest_codes, posterior_codes, sample_codes
from .output import QuantizerOutput, zero_padding
from .precision import without_autocast
from .registry import Settings, register
from .rotation import GRADIENTS, rotate, straight_through

ASSIGNMENTS = ("hard", "monte_carlo", "posterior")
_ASSIGNMENTS_SHOWN = "'hard', 'monte_carlo' or 'posterior'"
# After so many training batches without an M step somebody may have forgotten it.
BATCHES_WITHOUT_M_STEP = 100


class EMVectorQuantizer(EMCodebook):
    """Vector quantisation trained by hard, Monte-Carlo or exact soft EM.

    `forward` is the E step and, in training, adds the batch to the statistics of the next M step.
    `update_codebook` is the M step, to be called once for each optimizer step. So accumulated gradients equal
    a larger batch, several ranks equal one with all the data, and `discard` undoes a skipped step. A loop
    that knows nothing of it takes update="forward".

    Distances, codes and statistics are fp32 under half precision and autocast (TF32 only if torch's global
    switches ask for it). A forward that activation checkpointing runs once more counts once; with
    torch.compile if all of what is checkpointed is compiled, not the quantiser alone, and with
    update="forward" if its backward pass comes before the next forward. Copies, such as averages of weights,
    need all buffers, integers too: codes are no parameters. What awaits an M step is not saved: save behind
    `update_codebook`.

    Args:
        codebook_size: number of codes K.
        dim: size of a vector.
        assignment: E step in training: "hard" (nearest code), "monte_carlo" (mean of `samples` draws from the
            posterior) or "posterior" (its exact mean).
        samples: m, draws for each vector; 5 to 10 in the paper.
        temperature: p(j | z) = softmax_j(-||z - e_j||^2 / temperature); 1 in the paper, higher is softer.
            From 1e-30 to 1e30, in units of squared distance, 2 s^2 for clusters of standard deviation s a
            dimension. The metric `posterior_entropy` says how soft that is, from 0 to log K nats.
        decay: lambda of the averaged statistics; 0.999 in the paper. Codes lag by about 1 / (1 - decay) M
            steps: short trainings want 0.99 or less.
        epsilon: Laplace smoothing of counts.
        commitment_weight: beta; 0.25 in the paper.
        blocks: product quantisation: dim is split into so many sub-vectors, each with codes of its own.
        init: "data": call `initialize_codebook` before use; "random": the start of the reference code.
        revival: whether the M step replaces stale codes by vectors just seen, drawn by their squared distance
            to the nearest code; False is the paper's plain average.
        revival_threshold: a code is stale when its averaged count is below this fraction of the mean count.
        distance: "euclidean", or "cosine": vectors and codes of length 1, a block; the output is a code, or a
            mean of codes.
        gradient: "straight_through", or "rotation": turned and stretched as z is (`rotation.rotate`).
        update: "manual", or "forward": each forward in training first does the M step of those before it, or
            starts the codebook from its batch. With several ranks such a forward is collective: one without
            data then passes a mask without a valid position, not accumulate=False. For a group of ranks:
            "manual".
        channels: "last", "first" for (batch, dim, ...), or None; see `Quantizer`.

    Raises:
        ValueError: an argument is out of its range.

    `assignment`, `temperature`, `samples`, `commitment_weight`, `decay`, `revival` and `revival_threshold`
    may be changed between steps; change the temperature seldom where that is compiled, since each makes
    another graph. Many batches without an M step are warned of, unless compiled; with
    `expects_m_steps = False` never.

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
        revival_threshold: float = 0.3,
        distance: str = "euclidean",
        gradient: str = "straight_through",
        update: str = "manual",
        channels: str | None = None,
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
            distance=distance,
            channels=channels,
        )
        require(assignment in ASSIGNMENTS, "assignment", assignment, _ASSIGNMENTS_SHOWN)
        require(gradient in GRADIENTS, "gradient", gradient, "'straight_through' or 'rotation'")
        require(update in ("manual", "forward"), "update", update, "'manual' or 'forward'")
        require_integer("samples", samples)
        check_temperature(temperature)
        require(0.0 <= commitment_weight < math.inf, "commitment_weight", commitment_weight, ">= 0")
        self.assignment, self.samples, self.temperature = assignment, samples, temperature
        self._first_assignment = assignment
        self.commitment_weight = commitment_weight
        self.gradient, self.update = gradient, update

    def schedule(self, settings: Settings, update: int) -> None:
        """Takes nearest codes after `hard_from` updates, and replaces none after `revival_until` updates."""
        if settings.hard_from:
            self.assignment = "hard" if update >= settings.hard_from else self._first_assignment
        if settings.revival_until:
            self.revival = settings.revival_threshold > 0 and update < settings.revival_until

    def quantize(self, z: Tensor, mask: Tensor | None, accumulate: bool) -> QuantizerOutput:
        """The E step; in training also adds z to the statistics of the next M step.

        Codes are right for all finite numbers, to the rounding of fp32. Where their squares leave its range,
        the commitment loss is infinite.
        """
        wanted, accumulate = accumulate, accumulate and not is_recomputed()
        if self.training and accumulate:
            self._begin_batch(z, mask)
        flat, valid = self._flatten(z, mask)
        flat = zero_padding(flat, valid)
        if self.distance == "cosine":
            with without_autocast(z.device):
                flat = self._normalised(flat.float())
        with torch.no_grad(), without_autocast(z.device):
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
            if self.training and wanted and self.revival:
                # When run once more as well: what is drawn behind it has to be what it was.
                uniforms = torch.rand(vectors.shape[0], dtype=torch.float32, device=vectors.device)
                if accumulate:
                    # By squared distance, as K-means++ draws its seeds: a stale code goes where codes are
                    # missing, not where data are dense and codes crowd already.
                    found = self.lookup(nearest.squeeze(1) if self.blocks == 1 else nearest)
                    distances = (vectors - found).square().sum(dim=1).clamp(max=LARGEST)
                    self._statistics().keep(vectors, distances * weights, uniforms)
        with without_autocast(z.device):
            commitment = (flat.float() - means).square().sum() / (total * self.dim)
        estimator = straight_through if self.gradient == "straight_through" else rotate
        shape = z.shape[:-1] if self.blocks == 1 else (*z.shape[:-1], self.blocks)
        samples = None
        if assigned[0].samples is not None:
            drawn = torch.stack([block.samples for block in assigned if block.samples is not None], dim=1)
            samples = zero_padding(drawn, valid).view(*shape, drawn.shape[2])
        return QuantizerOutput(
            # The value is exactly the code vector, rounded to z's type.
            quantized=estimator(flat, means).to(z.dtype).view(z.shape),
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
        require(self.assignment in ASSIGNMENTS, "assignment", self.assignment, _ASSIGNMENTS_SHOWN)
        if self.assignment == "posterior" and self.training:
            nearest, entropy, means, shares, sums = posterior_codes(vectors, codes, self.temperature, weights)
            return _BlockAssignment(
                nearest=nearest,
                means=means,
                entropy=entropy,
                distinct=entropy.exp(),
                counts=shares.double(),
                hits=count_samples(nearest[:, None], weights, size),
                sums=sums,
                # Codes may be the codebook itself, which the M step changes.
                posterior=(vectors, codes.clone(), self.temperature),
            )
        if self.assignment == "hard":
            nearest, entropy = nearest_codes(vectors, codes), vectors.new_zeros(vectors.shape[0])
            samples = nearest[:, None]
        elif self.training:
            shape = (vectors.shape[0], self.samples)
            draws = torch.rand(shape, dtype=torch.float32, device=vectors.device)
            nearest, entropy, samples = sample_codes(vectors, codes, self.temperature, draws)
        else:
            nearest, entropy = nearest_and_entropy(vectors, codes, self.temperature)
            samples = nearest[:, None]
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

    def _begin_batch(self, z: Tensor, mask: Tensor | None) -> None:
        """The M step of the batches before, with update="forward"; else a warning where one is missing."""
        if getattr(self, "_is_replica", False):
            raise RuntimeError(
                "torch.nn.DataParallel throws away what its copies of a module collect: codes would never "
                "move; use DistributedDataParallel"
            )
        if self.update == "forward":
            if self.initialized:
                self.update_codebook()
            else:
                flat, valid = self._flatten(z.detach(), mask)
                # A batch of padding, or of what is no number, leaves the start to the next one. Random
                # numbers behind it are as without it: a forward that is run once more starts nothing.
                with contextlib.suppress(ValueError), torch.random.fork_rng(devices=[]):
                    self.initialize_codebook(flat, valid)
            return
        if torch.compiler.is_compiling():
            return
        if not self.initialized:
            warnings.warn(
                "the codebook holds random codes: call initialize_codebook(z, mask) with encoder outputs"
                " first, or say init='random' if that is meant",
                stacklevel=6,
            )
        self._forwards += 1
        if self._forwards == BATCHES_WITHOUT_M_STEP and self.expects_m_steps:
            warnings.warn(
                f"{self._forwards} batches of training and no M step, so that codes never move: call"
                " update_codebook() after each optimizer step, or say update='forward'",
                stacklevel=6,
            )

    def _accumulate(self, assigned: list[_BlockAssignment], parts: list[Tensor]) -> None:
        """Adds one batch to the statistics: parts are each block's vectors (N, d)."""
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
            f" temperature={self.temperature}, commitment_weight={self.commitment_weight},"
            f" gradient={self.gradient!r}, update={self.update!r}"
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
    posterior: tuple[Tensor, Tensor, float] | None = None


def _metrics(assigned: list[_BlockAssignment], weights: Tensor) -> dict[str, Tensor]:
    """Means over blocks, on the device (nothing waits); weights (N,) sum to 1 over valid positions."""
    return {
        "usage": torch.stack([usage(block.hits) for block in assigned]).mean(),
        "perplexity": torch.stack([perplexity(block.counts) for block in assigned]).mean(),
        "posterior_entropy": torch.stack([block.entropy @ weights for block in assigned]).mean(),
        "distinct_codes": torch.stack([block.distinct @ weights for block in assigned]).mean(),
    }


def _build(assignment: str, gradient: str, settings: Settings) -> EMVectorQuantizer:
    return EMVectorQuantizer(
        settings.codebook_size,
        settings.dim,
        channels=settings.channels,
        assignment=assignment,
        samples=settings.samples,
        temperature=settings.temperature,
        decay=settings.decay,
        epsilon=settings.epsilon,
        commitment_weight=settings.commitment_weight,
        init=settings.init,
        revival=settings.revival_threshold > 0,
        revival_threshold=settings.revival_threshold,
        gradient=gradient,
    )


for _name, _assignment, _gradient, _summary in (
    ("em", "monte_carlo", "straight_through", "soft EM, codes drawn from the posterior"),
    ("posterior", "posterior", "straight_through", "soft EM with all of the posterior"),
    ("hard", "hard", "straight_through", "hard EM, the nearest code (K-means)"),
    ("rotation", "hard", "rotation", "hard EM, gradients turned as the vectors are (rotation trick)"),
):
    register(_name, _summary)(functools.partial(_build, _assignment, _gradient))
