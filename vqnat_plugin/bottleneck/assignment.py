"""The E step: which codes stand for which vectors.

Every function works on plain fp32 tensors of one codebook: `vectors` (N, D) and `codes` (K, D). Squared
distances come from one matrix product, in chunks of rows: memory is bounded by the chunk and never grows with
N * K.

Source: Roy et al. 2018 (arXiv 1805.11063), hard and soft (Monte-Carlo) EM.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Elements of one (rows, K) chunk. On a CPU a chunk should stay in the cache; a GPU wants large products.
CHUNK_ELEMENTS = {"cpu": 1 << 20}
CHUNK_ELEMENTS_ELSEWHERE = 1 << 24

# Log weights below this are raised to it. exp(-64) = 1.6e-28 adds nothing to any sum, whereas true values
# would be subnormal numbers, which make CPUs ten times slower.
LOWEST_LOG_WEIGHT = -64.0

# The exact posterior is sparse when one in so many weights matters, or fewer.
FEW = 32

# Temperatures beyond are refused.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-30, 1e30
# Absolute values of codes; larger ones are refused by whoever keeps codes.
LARGEST = 1e30
# Bounds of what is computed with. Between them, products and their differences stay in the range of fp32.
UNIT = (2.0**-125, 2.0**100)
SHARPNESS = (2.0**-100, 2.0**40)
LARGEST_PRODUCT = 2.0**90


def chunk_rows(codebook_size: int, device: torch.device) -> int:
    """Rows of one distance chunk on `device`: few, to bound memory, but enough for a fast matrix product."""
    return max(256, CHUNK_ELEMENTS.get(device.type, CHUNK_ELEMENTS_ELSEWHERE) // codebook_size)


def check_temperature(temperature: float) -> None:
    """Raises a ValueError for a temperature that is out of its range."""
    if not LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE:
        allowed = f"from {LOWEST_TEMPERATURE:g} to {HIGHEST_TEMPERATURE:g}"
        raise ValueError(f"temperature is {temperature!r}, must be positive, {allowed}")


def leaves_process() -> bool:
    """Whether what runs is recorded for somewhere else."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def largest(values: Tensor) -> Tensor:
    """The largest absolute value, 0-d; NaN if there is one. torch's norm for it takes 20 times as long."""
    low, high = values.aminmax()
    return torch.maximum(-low, high)


def power_of_two(size: Tensor) -> Tensor:
    """The power of two that is above `size`, within the bounds; `size` divided by it is below 1."""
    size = size.clamp(*UNIT)
    if leaves_process():
        # What programs can hold that leave it; a little beside the power would do as well.
        return 2.0 ** (size.log2().floor() + 1)
    # The only way that is exact everywhere: torch's powers are rounded.
    return size / torch.frexp(size).mantissa


class Similarity:
    """Negative squared distances over the temperature, up to a constant for each vector.

    -||z - e||^2 = 2 z e^T - ||e||^2 - ||z||^2, and the last term changes neither argmax nor softmax. Both
    sides are first shifted by the code nearest to the mean of all: distances stay, and fp32 suffices for data
    far from the origin. (One code far away would take the mean itself away from the data.)
    Then they are scaled, by powers of two, which round nothing: squares of very large and very small numbers
    leave the range of fp32. Where even the similarities would, they are as large as they can be, and all
    weight is on the best code.

    Codes are seen as groups of about sqrt(K): the best code, and a draw, are found group first, then inside
    one group, which saves passes over the (rows, K) chunk. The last group is filled up with codes that never
    win.

    Args:
        codes: (K, D). A copy is kept, so later changes of the codebook do not show.
        temperature: softmax of the similarities is p(code | vector) at this temperature; 1 in the paper.

    Raises:
        ValueError: the temperature is out of its range.
    """

    def __init__(self, codes: Tensor, temperature: float = 1.0) -> None:
        check_temperature(temperature)
        self.size = codes.shape[0]
        self.group = min(64, 1 << int(math.log2(self.size) / 2))
        near = torch.linalg.vector_norm(codes - codes.mean(dim=0), dim=1).argmin()
        self.centre = F.embedding(near, codes)
        self.codes = codes - self.centre
        self.unit = power_of_two(largest(self.codes))
        self.codes *= self.unit.reciprocal()
        if padding := -self.size % self.group:
            self.codes = F.pad(self.codes, (0, 0, 0, padding))
        sharpness = (self.unit.double().square() / temperature).clamp(*SHARPNESS).float()
        self.bias = torch.linalg.vector_norm(self.codes, dim=1).square_().mul_(-sharpness)
        if padding:
            self.bias[self.size :] = torch.finfo(self.bias.dtype).min / 2
        self.scale = 2.0 * sharpness / self.unit

    def chunks(self, vectors: Tensor, rows: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Yields (slice, similarities (rows, K up to whole groups)), in a buffer that is used again."""
        width = self.codes.shape[0]
        rows = rows or chunk_rows(width, vectors.device)
        buffer = vectors.new_empty(min(rows, vectors.shape[0]), width)
        for start in range(0, vectors.shape[0], rows):
            chunk = self._scaled(vectors[start : start + rows])
            out = buffer[: chunk.shape[0]]
            torch.addmm(self.bias, chunk, self.codes.t(), out=out)
            yield slice(start, start + chunk.shape[0]), out

    def all(self, vectors: Tensor) -> Tensor:
        """The similarities of all vectors at once, (N, K)."""
        return torch.addmm(self.bias, self._scaled(vectors), self.codes.t())[:, : self.size]

    def _scaled(self, vectors: Tensor) -> Tensor:
        """Vectors (rows, D) as the product takes them."""
        shifted = vectors - self.centre
        peak = shifted.abs().amax(dim=1, keepdim=True)
        return shifted.mul_(torch.minimum(self.scale, LARGEST_PRODUCT / peak))

    def best(self, chunk: Tensor) -> tuple[Tensor, Tensor]:
        """Largest similarity and its code, the lowest on a tie, for each row of a chunk: both (rows,)."""
        best, group = chunk.unflatten(1, (-1, self.group)).amax(dim=2).max(dim=1)
        inside = self._rows_of_groups(chunk, group[:, None]).squeeze(1).argmax(dim=1)
        return best, self._code(group, inside)

    def weights(self, chunk: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """Turns a chunk into log weights relative to the best code, in place; the weights go to `out`.

        Returns:
            nearest (rows,) int64, and the cumulated weights of groups (rows, groups): the last is the sum.
        """
        best, nearest = self.best(chunk)
        chunk.sub_(best[:, None]).clamp_(min=LOWEST_LOG_WEIGHT)
        torch.exp(chunk, out=out)
        return nearest, out.unflatten(1, (-1, self.group)).sum(dim=2).cumsum(dim=1)

    def draw(self, weights: Tensor, cumulated: Tensor, uniforms: Tensor) -> Tensor:
        """Inverts the distribution function: uniforms (rows, m) in (0, 1] -> (rows, m) int64.

        Takes the weights (rows, K) and their cumulated groups from `weights`. A draw is in (0, total], and
        belongs to the first code at which the cumulated weight reaches it: so every draw finds a code, and
        none a code of weight 0.
        """
        draws = uniforms * cumulated[:, -1:]
        group = torch.searchsorted(cumulated, draws).clamp_(max=cumulated.shape[1] - 1)
        above = cumulated.gather(1, group)
        below = F.pad(cumulated, (1, 0)).gather(1, group)
        inside = self._rows_of_groups(weights, group).cumsum(dim=2)
        rest = (draws - below) / (above - below) * inside[:, :, -1]
        return self._code(group, torch.searchsorted(inside, rest[:, :, None]).squeeze(2))

    def _code(self, group: Tensor, inside: Tensor) -> Tensor:
        """The code at a place in a group. Clamped: vectors that are not finite must not leave the range."""
        return inside.add_(group, alpha=self.group).clamp_(max=self.size - 1)

    def _rows_of_groups(self, chunk: Tensor, group: Tensor) -> Tensor:
        """The members of chosen groups: chunk (rows, K...), group (rows, m) -> (rows, m, members)."""
        groups = chunk.shape[1] // self.group
        start = torch.arange(chunk.shape[0], device=chunk.device)[:, None] * groups
        return F.embedding(start + group, chunk.view(-1, self.group))


def nearest_codes(vectors: Tensor, codes: Tensor, rows: int | None = None) -> Tensor:
    """Hard E step: argmin_j ||z - e_j||^2, the lowest index on a tie.

    Args:
        vectors: (N, D). codes: (K, D). rows: vectors per chunk; chosen by the device when absent.

    Returns:
        (N,) int64.
    """
    nearest = torch.empty(vectors.shape[0], dtype=torch.int64, device=vectors.device)
    similarity = Similarity(codes)
    for index, chunk in similarity.chunks(vectors, rows):
        if has_kernels(chunk):
            from .triton_search import search

            search(chunk[:, : similarity.size], nearest[index])
        else:
            nearest[index] = similarity.best(chunk)[1]
    return nearest


@functools.cache
def _builds_kernels() -> bool:
    """Whether Triton is here and can build: it wants a C compiler and Python's headers."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        from triton.runtime import driver

        driver.active.get_current_device()
    except Exception as error:
        warnings.warn(
            f"Triton cannot be used ({error}); codes are searched without its kernels", stacklevel=2
        )
        return False
    return True


@functools.cache
def _takes_kernels(device: torch.device) -> bool:
    """Whether a GPU is none of those that are too old for Triton."""
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (7, 0)


def has_kernels(chunk: Tensor) -> bool:
    """Whether a chunk is searched by kernels of Triton."""
    return chunk.is_cuda and _builds_kernels() and _takes_kernels(chunk.device)


def dense_codes(vectors: Tensor, codes: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Nearest codes and entropies, both (N,), by plain operations on all of (N, K): for recorded programs."""
    similarities = Similarity(codes, temperature).all(vectors)
    log_p = similarities.log_softmax(dim=1).clamp(min=LOWEST_LOG_WEIGHT)
    return similarities.argmax(dim=1), -(log_p.exp() * log_p).sum(dim=1)


@dataclass(frozen=True)
class SoftAssignment:
    """What the Monte-Carlo E step found for N vectors.

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
    """Monte-Carlo E step: independent draws from p(j | z) = softmax_j(-||z - e_j||^2 / temperature).

    Args:
        vectors: (N, D). codes: (K, D).
        temperature: 1 in the paper; higher is softer.
        uniforms: (N, m) in [0, 1), one number for each draw, so that results do not depend on chunks; None
            draws nothing and gives nearest codes and entropies only.
        rows: vectors per chunk; chosen by the device when absent.
    """
    nearest = torch.empty(vectors.shape[0], dtype=torch.int64, device=vectors.device)
    entropy = vectors.new_empty(vectors.shape[0])
    samples = None if uniforms is None else torch.empty_like(uniforms, dtype=torch.int64)
    similarity = Similarity(codes, temperature)
    buffer = vectors.new_empty(0)
    for index, chunk in similarity.chunks(vectors, rows):
        if has_kernels(chunk):
            from .triton_search import search

            search(
                chunk[:, : similarity.size],
                nearest[index],
                entropy[index],
                None if samples is None else samples[index],
                None if uniforms is None else uniforms[index],
                LOWEST_LOG_WEIGHT,
            )
            continue
        weights = buffer.resize_(chunk.shape)
        nearest[index], cumulated = similarity.weights(chunk, out=weights)
        if samples is not None and uniforms is not None:
            samples[index] = similarity.draw(weights, cumulated, 1.0 - uniforms[index])
        # H = log Z - E[log weight].
        total = cumulated[:, -1]
        entropy[index] = total.log() - chunk.mul_(weights).sum(dim=1) / total
    return SoftAssignment(nearest, entropy, samples)


@dataclass(frozen=True)
class PosteriorAssignment:
    """What the exact soft E step found for N vectors.

    Attributes:
        nearest: (N,) int64. entropy: (N,) fp32, nats.
        means: (N, D) fp32, the posterior mean of the code vector.
        counts: (K,) fp32, sum of weight * p. sums: (K, D) fp32, sum of weight * p * vector.
    """

    nearest: Tensor
    entropy: Tensor
    means: Tensor
    counts: Tensor
    sums: Tensor


def posterior_codes(
    vectors: Tensor, similarity: Similarity, weights: Tensor, rows: int | None = None
) -> PosteriorAssignment:
    """Exact soft E step: the limit of infinitely many samples, with its statistics for the M step.

    Args:
        vectors: (N, D), zero where the weight is zero.
        similarity: to K codes.
        weights: (N,), 1 for a valid vector, 0 for padding.
        rows: vectors per chunk; chosen by the device when absent.
    """
    size, device = similarity.size, vectors.device
    nearest = torch.empty(vectors.shape[0], dtype=torch.int64, device=device)
    entropy = vectors.new_empty(vectors.shape[0])
    means = torch.empty_like(vectors)
    counts = vectors.new_zeros(size)
    sums = vectors.new_zeros(size, vectors.shape[1])
    codes = similarity.codes[:size]
    buffer = vectors.new_empty(0)
    for index, chunk in similarity.chunks(vectors, rows):
        p = buffer.resize_(chunk.shape)
        nearest[index], cumulated = similarity.weights(chunk, out=p)
        total = cumulated[:, -1]
        entropy[index] = total.log() - chunk.mul_(p).sum(dim=1) / total
        p = p[:, :size]
        if (places := _few_places(p, entropy[index])) is not None:
            row, code = places
            share = p[row, code] / total[row]
            starts = torch.searchsorted(row, torch.arange(p.shape[0], device=row.device))
            means[index] = F.embedding_bag(code, codes, starts, mode="sum", per_sample_weights=share)
            share *= weights[index][row]
            counts.index_add_(0, code, share)
            sums.index_add_(0, code, share[:, None] * vectors[index][row])
        else:
            p /= total[:, None]
            torch.mm(p, codes, out=means[index])
            counts.addmv_(p.t(), weights[index])
            sums.addmm_(p.t(), vectors[index])
    means.mul_(similarity.unit).add_(similarity.centre)
    return PosteriorAssignment(nearest, entropy, means, counts, sums)


def _few_places(weights: Tensor, entropy: Tensor) -> tuple[Tensor, Tensor] | None:
    """Rows and codes of the weights (rows, K) that matter, if they are few; the largest of a row is 1.

    entropy (rows,): more codes matter than its exponential says, which saves the counting.

    What is left out of a row is, all in all, less than fp32 can add to the rest. A product with a posterior
    that has most of its weight on a few codes then costs next to nothing. Elsewhere than on a CPU counting
    would wait for the device.
    """
    if weights.device.type != "cpu" or float(entropy.exp().mean()) * FEW > weights.shape[1]:
        return None
    matters = weights > torch.finfo(weights.dtype).eps / 4 / weights.shape[1]
    if int(matters.count_nonzero()) * FEW > weights.numel():
        return None
    row, code = matters.nonzero(as_tuple=True)
    return row, code


def posterior(vectors: Tensor, similarity: Similarity) -> Tensor:
    """p(code | vector) as a dense (N, K) tensor, for those who truly need it."""
    dense = vectors.new_empty(vectors.shape[0], similarity.size)
    for index, chunk in similarity.chunks(vectors):
        torch.softmax(chunk[:, : similarity.size], dim=1, out=dense[index])
    return dense


def mean_one_hot(samples: Tensor, codebook_size: int) -> Tensor:
    """The mean of m one-hots, dense, for those who truly need it: samples (..., m) -> (..., K) fp32."""
    share = torch.full(samples.shape, 1.0 / samples.shape[-1], dtype=torch.float32, device=samples.device)
    return share.new_zeros(*samples.shape[:-1], codebook_size).scatter_add_(-1, samples, share)


def mean_code_vectors(codes: Tensor, samples: Tensor) -> Tensor:
    """Mean of sampled code vectors, without an (N, m, D) tensor: codes (K, D), samples (N, m) -> (N, D)."""
    return F.embedding_bag(samples, codes, mode="mean")


def count_samples(samples: Tensor, weights: Tensor, codebook_size: int) -> Tensor:
    """n_j = sum_i weight_i a_ij, with a_i the mean of the m one-hots of vector i.

    Args:
        samples: (N, m) int64. weights: (N,), 1 for a valid vector, 0 for padding. codebook_size: K.

    Returns:
        (K,) fp64.
    """
    shares = weights.double()[:, None].expand_as(samples).reshape(-1)
    counts = shares.new_zeros(codebook_size).index_add_(0, samples.reshape(-1), shares)
    return counts / samples.shape[1]


def add_sampled_vectors(sums: Tensor, samples: Tensor, vectors: Tensor) -> None:
    """Adds s_j = sum_i a_ij z_i to `sums`, in place, with a_i the mean of the m one-hots of vector i.

    Args:
        sums: (K, D) fp64; GPUs add in any order, which fp64 keeps below what fp32 can show.
        samples: (N, m) int64. vectors: (N, D), zero at padding.
    """
    exact = vectors.double()
    for draw in samples.unbind(dim=1):
        sums.index_add_(0, draw, exact, alpha=1.0 / samples.shape[1])
