"""The E steps as operators of torch: `torch.compile` and `torch.vmap` take each as a whole.

So compiled models run the same chunked code, with the same results, and memory that does not grow with
N * K. Programs that leave the process (`torch.export`, `torch.jit.trace`) hold plain tensor operations
instead, which need nothing of this package.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.library import custom_op

from . import assignment
from .assignment import leaves_process


def nearest_codes(vectors: Tensor, codes: Tensor) -> Tensor:
    """See `assignment.nearest_codes`."""
    return assignment.dense_codes(vectors, codes)[0] if leaves_process() else _nearest(vectors, codes)


def nearest_and_entropy(vectors: Tensor, codes: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Nearest codes (N,) and the entropy of p(code | vector) (N,)."""
    if leaves_process():
        return assignment.dense_codes(vectors, codes, temperature)
    return _nearest_and_entropy(vectors, codes, temperature)


@custom_op("vqnat::nearest_codes", mutates_args=())
def _nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    return assignment.nearest_codes(vectors, codes)


@_nearest.register_fake
def _(vectors: Tensor, codes: Tensor) -> Tensor:
    return _integers(vectors, vectors.shape[0])


@_nearest.register_vmap
def _(info, in_dims, vectors, codes):  # type: ignore[no-untyped-def]
    if in_dims[1] is not None:
        tables = codes.movedim(in_dims[1], 0).unbind()
        shared = in_dims[0] is None
        every = [vectors] * len(tables) if shared else vectors.movedim(in_dims[0], 0).unbind()
        return torch.stack([_nearest(*pair) for pair in zip(every, tables, strict=True)]), 0
    rows = vectors.movedim(in_dims[0], 0)
    return _nearest(rows.flatten(0, 1), codes).view(rows.shape[:2]), 0


@custom_op("vqnat::nearest_and_entropy", mutates_args=())
def _nearest_and_entropy(vectors: Tensor, codes: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    found = assignment.sample_codes(vectors, codes, temperature)
    return found.nearest, found.entropy


@_nearest_and_entropy.register_fake
def _(vectors: Tensor, codes: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return _integers(vectors, vectors.shape[0]), vectors.new_empty(vectors.shape[0])


@custom_op("vqnat::sample_codes", mutates_args=())
def sample_codes(
    vectors: Tensor, codes: Tensor, temperature: float, uniforms: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest codes (N,), entropies (N,) and samples (N, m); see `assignment.sample_codes`."""
    found = assignment.sample_codes(vectors, codes, temperature, uniforms)
    assert found.samples is not None
    return found.nearest, found.entropy, found.samples


@sample_codes.register_fake
def _(vectors: Tensor, codes: Tensor, temperature: float, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows = vectors.shape[0]
    return _integers(vectors, rows), vectors.new_empty(rows), _integers(vectors, *uniforms.shape)


@custom_op("vqnat::posterior_codes", mutates_args=())
def posterior_codes(
    vectors: Tensor, codes: Tensor, temperature: float, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Nearest codes, entropies, means, counts and sums; see `assignment.PosteriorAssignment`."""
    found = assignment.posterior_codes(vectors, assignment.Similarity(codes, temperature), weights)
    return found.nearest, found.entropy, found.means, found.counts, found.sums


@posterior_codes.register_fake
def _(
    vectors: Tensor, codes: Tensor, temperature: float, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    rows, size = vectors.shape[0], codes.shape[0]
    nearest, entropy = _integers(vectors, rows), vectors.new_empty(rows)
    return nearest, entropy, torch.empty_like(vectors), vectors.new_empty(size), torch.empty_like(codes)


def _integers(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.int64)
