"""The E step: which codes stand for which vectors.

Every function works on plain tensors of one codebook: `vectors` (N, D) and `codes` (K, D), both fp32. Squared
distances come from one matrix product, in chunks of rows, so that memory is bounded by the chunk and never grows
with N * K.

Source: Roy et al. 2018 (arXiv 1805.11063), section 3 (hard and soft EM).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Elements of one (rows, K) chunk. On a CPU a chunk should stay in the cache; a GPU wants large products.
CHUNK_ELEMENTS = {"cpu": 1 << 20}
CHUNK_ELEMENTS_ELSEWHERE = 1 << 24


def chunk_rows(codebook_size: int, device: torch.device) -> int:
    """Rows of one distance chunk on `device`: few enough to bound memory, at least 16."""
    return max(16, CHUNK_ELEMENTS.get(device.type, CHUNK_ELEMENTS_ELSEWHERE) // codebook_size)


class Similarity:
    """Negative squared distances between vectors and codes, divided by the temperature, up to a constant a row.

    -||z - e||^2 = 2 z e^T - ||e||^2 - ||z||^2; the last term changes neither argmax nor softmax. Both sides are
    first shifted by the mean code, which leaves distances as they are and keeps the difference of large numbers
    exact when the data lie far from the origin.

    Args:
        codes: (K, D), fp32. A copy is taken: later changes of the codebook do not show.
        temperature: softmax of the similarities is p(code | vector) at this temperature; 1 in the paper.
    """

    def __init__(self, codes: Tensor, temperature: float = 1.0) -> None:
        self.centre = codes.mean(dim=0)
        self.codes = codes - self.centre
        self.bias = self.codes.square().sum(dim=1).div_(-temperature)
        self.scale = 2.0 / temperature

    def chunks(self, vectors: Tensor, rows: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Yields (rows, similarities (rows, K)); the buffer is reused, so use a chunk before asking for the next."""
        size = self.codes.shape[0]
        rows = rows or chunk_rows(size, vectors.device)
        buffer = vectors.new_empty(min(rows, vectors.shape[0]), size)
        for start in range(0, vectors.shape[0], rows):
            chunk = vectors[start : start + rows] - self.centre
            out = buffer[: chunk.shape[0]]
            torch.addmm(self.bias, chunk, self.codes.t(), alpha=self.scale, out=out)
            yield slice(start, start + chunk.shape[0]), out


def nearest_codes(vectors: Tensor, codes: Tensor, rows: int | None = None) -> Tensor:
    """Hard E step: argmin_j ||z - e_j||^2, the lowest index on a tie.

    Args:
        vectors: (N, D). codes: (K, D). rows: vectors per chunk; chosen by the device when absent.

    Returns:
        (N,) int64.
    """
    nearest = torch.empty(vectors.shape[0], dtype=torch.int64, device=vectors.device)
    for index, similarity in Similarity(codes).chunks(vectors, rows):
        nearest[index] = similarity.max(dim=1).indices
    return nearest


@dataclass(frozen=True)
class SoftAssignment:
    """What the soft E step found for N vectors.

    Attributes:
        nearest: (N,) int64, the most probable code, which is the nearest one.
        entropy: (N,) fp32, entropy of p(code | vector) in nats.
        samples: (N, m) int64, independent draws from p(code | vector); None when none were asked for.
    """

    nearest: Tensor
    entropy: Tensor
    samples: Tensor | None


def sample_codes(
    vectors: Tensor,
    codes: Tensor,
    temperature: float = 1.0,
    uniforms: Tensor | None = None,
    rows: int | None = None,
) -> SoftAssignment:
    """Monte-Carlo E step: draws from softmax_j(-||z - e_j||^2 / temperature) by inverting its distribution function.

    Args:
        vectors: (N, D). codes: (K, D).
        temperature: 1 in the paper; higher is softer.
        uniforms: (N, m) in [0, 1), one number a draw, so that a result does not depend on the chunks; None draws
            nothing and gives nearest codes and entropies only.
        rows: vectors per chunk; chosen by the device when absent.
    """
    nearest = torch.empty(vectors.shape[0], dtype=torch.int64, device=vectors.device)
    entropy = vectors.new_empty(vectors.shape[0])
    samples = None if uniforms is None else torch.empty_like(uniforms, dtype=torch.int64)
    for index, similarity in Similarity(codes, temperature).chunks(vectors, rows):
        best, nearest[index] = similarity.max(dim=1)
        similarity -= best[:, None]
        weights = similarity.exp()
        total = weights.sum(dim=1)
        # H = log Z - E[log weight], with Z and weights relative to the best code.
        entropy[index] = total.log() - torch.linalg.vecdot(weights, similarity) / total
        if samples is not None and uniforms is not None:
            distribution = weights.cumsum(dim=1)
            draws = uniforms[index] * distribution[:, -1:]
            # right=True skips codes of zero probability, also for a draw of exactly 0.
            found = torch.searchsorted(distribution, draws, right=True)
            samples[index] = found.clamp_(max=codes.shape[0] - 1)
    return SoftAssignment(nearest, entropy, samples)


def posterior(vectors: Tensor, similarity: Similarity, rows: int | None = None) -> Tensor:
    """p(code | vector) as a dense (N, K) tensor, for those who truly need it."""
    dense = vectors.new_empty(vectors.shape[0], similarity.codes.shape[0])
    for index, chunk in similarity.chunks(vectors, rows):
        torch.softmax(chunk, dim=1, out=dense[index])
    return dense


@dataclass(frozen=True)
class PosteriorAssignment:
    """What the exact soft E step found for N vectors.

    Attributes:
        nearest: (N,) int64. entropy: (N,) fp32, nats.
        means: (N, D) fp32, the posterior mean of the code vector.
        counts: (K,) fp64, sum of weight * p. sums: (K, D) fp64, sum of weight * p * vector.
    """

    nearest: Tensor
    entropy: Tensor
    means: Tensor
    counts: Tensor
    sums: Tensor


def posterior_codes(
    vectors: Tensor, codes: Tensor, temperature: float, weights: Tensor, rows: int | None = None
) -> PosteriorAssignment:
    """Exact soft E step: the limit of infinitely many samples, with its statistics for the M step.

    Args:
        vectors: (N, D), zero where the weight is zero. codes: (K, D). temperature: as in `sample_codes`.
        weights: (N,) 1 for a valid vector, 0 for padding.
        rows: vectors per chunk; chosen by the device when absent.
    """
    nearest = torch.empty(vectors.shape[0], dtype=torch.int64, device=vectors.device)
    entropy = vectors.new_empty(vectors.shape[0])
    means = torch.empty_like(vectors)
    counts = codes.new_zeros(codes.shape[0], dtype=torch.float64)
    sums = torch.zeros_like(codes, dtype=torch.float64)
    for index, similarity in Similarity(codes, temperature).chunks(vectors, rows):
        best, nearest[index] = similarity.max(dim=1)
        similarity -= best[:, None]
        p = similarity.exp()
        total = p.sum(dim=1)
        p /= total[:, None]
        entropy[index] = total.log() - torch.linalg.vecdot(p, similarity)
        torch.mm(p, codes, out=means[index])
        counts += torch.mv(p.t(), weights[index])
        sums += torch.mm(p.t(), vectors[index])
    return PosteriorAssignment(nearest, entropy, means, counts, sums)


def mean_code_vectors(codes: Tensor, samples: Tensor) -> Tensor:
    """The mean of the sampled code vectors: codes (K, D), samples (N, m) -> (N, D), without an (N, m, D) tensor."""
    return F.embedding_bag(samples, codes, mode="mean")


def assignment_statistics(
    samples: Tensor, vectors: Tensor, valid: Tensor | None, codebook_size: int
) -> tuple[Tensor, Tensor]:
    """Sufficient statistics of averaged one-hot assignments, without a one-hot.

    Samples are sorted by code, and each code's vectors are then added up in order: no atomics, so the result is the
    same in every run, on GPUs too.

    Args:
        samples: (N, m) int64. vectors: (N, D). valid: (N,) bool, or None for all. codebook_size: K.

    Returns:
        counts (K,) and sums (K, D), fp64: n_j = sum_i a_ij and s_j = sum_i a_ij z_i with a the mean of m one-hots.
    """
    draws = samples.shape[1]
    if valid is not None:
        samples = samples.masked_fill(~valid[:, None], codebook_size)
    ordered, order = samples.reshape(-1).sort(stable=True)
    limits = torch.searchsorted(ordered, torch.arange(codebook_size + 1, device=samples.device))
    rows = order.div_(draws, rounding_mode="floor")
    sums = F.embedding_bag(rows, vectors.double(), limits, mode="sum", include_last_offset=True)
    return limits.diff().double() / draws, sums / draws


def mean_one_hot(samples: Tensor, codebook_size: int) -> Tensor:
    """The mean of m one-hots as a dense (N, K) fp32 tensor: samples (N, m)."""
    share = torch.full(samples.shape, 1.0 / samples.shape[1], device=samples.device)
    return share.new_zeros(samples.shape[0], codebook_size).scatter_add_(1, samples, share)
