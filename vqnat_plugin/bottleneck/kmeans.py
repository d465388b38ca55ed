"""K-means for the start of a codebook: K-means++ seeding in rounds, then a few Lloyd steps."""

from __future__ import annotations

import torch
from torch import Tensor

from .assignment import (
    Similarity,
    add_sampled_vectors,
    count_samples,
    largest,
    nearest_codes,
    power_of_two,
)

# With K <= SEEDING_ROUNDS this is K-means++ as published; beyond, each round picks several codes at once, so
# that seeding costs about one (N, K) distance product whatever K is.
SEEDING_ROUNDS = 64
# How far from vectors codes are for which there is none, in standard deviations of the data.
NEAR = 0.01


def kmeans(
    vectors: Tensor, size: int, steps: int, generator: torch.Generator, distance: str = "euclidean"
) -> Tensor:
    """Finds `size` codes for `vectors`.

    Args:
        vectors: (N, D) fp32, N >= 1. With N <= size every vector becomes a code, and the others are near
            these, since codes that are equal might stay so; vectors that are all equal give one code.
        size: number of codes K.
        steps: Lloyd steps after seeding; 0 keeps the seeds, which are vectors themselves.
        generator: a CPU generator; the result does not depend on the global one.
        distance: "cosine" for vectors of length 1, or 0: codes have length 1 as well.

    Returns:
        (K, D) fp32.
    """
    if vectors.shape[0] <= size:
        codes = vectors.repeat(-(-size // vectors.shape[0]), 1)[:size].clone()
        noise = torch.randn(codes.shape, generator=generator, device="cpu")[vectors.shape[0] :].to(codes)
        codes[vectors.shape[0] :] += NEAR * vectors.std(dim=0, correction=0) * noise
        return codes
    # A power of two rounds nothing, and squares of what is left keep their range.
    unit = power_of_two(largest(vectors)) if distance == "euclidean" else 1.0
    vectors = vectors / unit
    codes = seed_codes(vectors, size, generator)
    ones = vectors.new_ones(vectors.shape[0])
    for _ in range(steps):
        samples = nearest_codes(vectors, codes)[:, None]
        counts = count_samples(samples, ones, size)
        sums = torch.zeros_like(codes, dtype=torch.float64)
        add_sampled_vectors(sums, samples, vectors)
        size_of_sums = counts[:, None] if distance == "euclidean" else sums.norm(dim=1, keepdim=True)
        means = (sums / size_of_sums.clamp(min=torch.finfo(torch.float32).tiny)).float()
        codes = torch.where(size_of_sums > 0, means, codes)
    return codes * unit


def seed_codes(vectors: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """K-means++ seeding (Arthur and Vassilvitskii 2007): vectors drawn by their squared distance.

    Several are drawn in one round without replacement (exponential keys, Efraimidis and Spirakis 2006).
    """
    per_round = -(-size // SEEDING_ROUNDS)
    distance = vectors.new_ones(vectors.shape[0])
    picks: list[Tensor] = []
    taken = 0
    while taken < size:
        count = min(per_round if taken else 1, size - taken)
        keys = torch.empty(vectors.shape[0], device="cpu").exponential_(generator=generator)
        # Vectors that already are codes have distance 0: they come last, and only if nothing else is left.
        chosen = (keys.to(vectors.device) / distance.clamp(min=1e-30)).topk(count, largest=False).indices
        picks.append(chosen)
        taken += count
        nearer = _squared_distance(vectors, vectors[chosen])
        distance = nearer if len(picks) == 1 else torch.minimum(distance, nearer)
        distance[chosen] = 0.0
    return vectors[torch.cat(picks)]


def _squared_distance(vectors: Tensor, codes: Tensor) -> Tensor:
    """(N,) squared distance to the nearest of `codes`."""
    similarity = Similarity(codes)
    best = vectors.new_empty(vectors.shape[0])
    for index, chunk in similarity.chunks(vectors):
        torch.amax(chunk, dim=1, out=best[index])
    return ((vectors - similarity.centre).square().sum(dim=1) - best).clamp_(min=0.0)
