"""The codes and their EM statistics: initialisation, accumulation, the M step and the revival of stale codes.

Source: Roy et al. 2018 (arXiv 1805.11063), section 3; reference code in tensor2tensor (`discretization.py`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .collectives import copy_from_first_rank, gather_rows, sum_over_ranks, world_size
from .kmeans import kmeans

# At most so many codes are replaced in one M step: it bounds what ranks exchange, and a codebook that is stale
# altogether comes back over a few steps instead of turning over at once.
MAX_REVIVED = 256
# Vectors per code that initialisation looks at; more do not move the means enough to be worth their time.
INITIAL_VECTORS_PER_CODE = 64


def usage(histogram: Tensor) -> Tensor:
    """Fraction of codes that were used at all: (..., K) counts -> (...)."""
    return (histogram > 0).float().mean(dim=-1)


def perplexity(histogram: Tensor) -> Tensor:
    """exp of the entropy of code use: (..., K) counts -> (...), from 1 to K; 0 for an empty histogram."""
    total = histogram.sum(dim=-1, keepdim=True)
    share = histogram / total.clamp(min=torch.finfo(torch.float32).tiny)
    return (torch.special.entr(share).sum(dim=-1).exp() * (total.squeeze(-1) > 0)).float()


@dataclass
class Statistics:
    """What forward passes leave for the next M step.

    fp64, so that the order of summation (batches, ranks) disappears when the M step rounds to fp32. Plain tensors
    and not buffers: DistributedDataParallel overwrites every rank's buffers with the first rank's.

    Attributes:
        counts: (blocks, K) n_j. sums: (K, dim) s_j. hits: (blocks, K) how often a code was chosen, for the histogram.
        keys: (R,) and vectors: (R, dim) fp32, a uniform sample of the vectors seen: those with the R largest of
            independent uniform keys. Unfilled places have key -1. R is 0 without revival.
    """

    counts: Tensor
    sums: Tensor
    hits: Tensor
    keys: Tensor
    vectors: Tensor

    @classmethod
    def zeros(cls, blocks: int, size: int, dim: int, places: int, device: torch.device) -> Statistics:
        return cls(
            counts=torch.zeros(blocks, size, dtype=torch.float64, device=device),
            sums=torch.zeros(size, dim, dtype=torch.float64, device=device),
            hits=torch.zeros(blocks, size, dtype=torch.float64, device=device),
            keys=torch.full((places,), -1.0, device=device),
            vectors=torch.zeros(places, dim, device=device),
        )

    def to(self, device: torch.device) -> Statistics:
        return Statistics(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    def keep(self, keys: Tensor, vectors: Tensor) -> None:
        """Merges further vectors (N, dim) with their keys (N,) into the sample."""
        keys, order = torch.cat([self.keys, keys]).sort(descending=True, stable=True)
        places = self.keys.shape[0]
        self.vectors = torch.cat([self.vectors, vectors])[order[:places]]
        self.keys = keys[:places]

    def reduce(self, group: dist.ProcessGroup | None) -> None:
        """Merges the statistics of all ranks, on every rank."""
        if world_size(group) == 1:
            return
        sum_over_ranks([self.counts, self.sums, self.hits], group)
        if places := self.keys.shape[0]:
            rows = gather_rows(torch.cat([self.keys[:, None], self.vectors], dim=1), group)
            self.keys, self.vectors = (
                rows.new_full((places,), -1.0),
                rows.new_zeros(places, rows.shape[1] - 1),
            )
            self.keep(rows[:, 0], rows[:, 1:])


class EMCodebook(nn.Module):
    """A codebook that is trained by exponentially averaged EM, never by gradients.

    All state is fp32 whatever the model's type: `.half()`, `.bfloat16()` and `.double()` move nothing but the device.

    Attributes:
        codebook: (codebook_size, dim) e_j. Block b owns the columns from b * dim / blocks.
        counts: (blocks, codebook_size) N_j, and sums: (codebook_size, dim) S_j: the averaged statistics.
        histogram: (codebook_size,), or (blocks, codebook_size) when blocks > 1, fp64: how often each code was chosen
            in the M steps since `reset_histogram`, over all ranks. Not saved.
        revived: 0-d int64: how many codes were replaced since `reset_histogram`. Not saved.

    `decay`, `revival` and `revival_threshold` may be changed between steps.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    data_initialized: Tensor
    histogram: Tensor
    revived: Tensor

    def __init__(
        self,
        codebook_size: int,
        dim: int,
        *,
        decay: float = 0.999,
        epsilon: float = 1e-5,
        blocks: int = 1,
        init: str = "data",
        revival: bool = True,
        revival_threshold: float = 0.05,
    ) -> None:
        super().__init__()
        _require(
            isinstance(codebook_size, int) and codebook_size >= 1, "codebook_size", codebook_size, ">= 1"
        )
        _require(isinstance(dim, int) and dim >= 1, "dim", dim, ">= 1")
        _require(isinstance(blocks, int) and blocks >= 1, "blocks", blocks, ">= 1")
        _require(dim % blocks == 0, "blocks", blocks, f"a divisor of dim ({dim})")
        _require(0.0 <= decay < 1.0, "decay", decay, "in [0, 1)")
        _require(0.0 < epsilon < math.inf, "epsilon", epsilon, "positive")
        _require(init in ("data", "random"), "init", init, "'data' or 'random'")
        _require(0.0 <= revival_threshold < 1.0, "revival_threshold", revival_threshold, "in [0, 1)")
        self.codebook_size, self.dim, self.blocks = codebook_size, dim, blocks
        self.decay, self.epsilon, self.init = decay, epsilon, init
        self.revival, self.revival_threshold = revival, revival_threshold

        self.register_buffer("codebook", torch.empty(codebook_size, dim, dtype=torch.float32))
        self.register_buffer("counts", torch.empty(blocks, codebook_size, dtype=torch.float32))
        self.register_buffer("sums", torch.empty(codebook_size, dim, dtype=torch.float32))
        # An integer: fairseq's checkpoint averaging cannot add booleans.
        self.register_buffer("data_initialized", torch.zeros((), dtype=torch.int64))
        shape = (codebook_size,) if blocks == 1 else (blocks, codebook_size)
        self.register_buffer("histogram", torch.zeros(shape, dtype=torch.float64), persistent=False)
        self.register_buffer("revived", torch.zeros((), dtype=torch.int64), persistent=False)
        self._pending: Statistics | None = None
        self._initialized = False
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Random codes, as in the reference code: uniform within +-sqrt(3 / K), counts 0, sums equal to the codes.

        That start is the paper's setting (init="random"). With init="data" the counts are 1 until
        `initialize_codebook` has been called, so that no code is thrown far away by the first M step.
        """
        bound = math.sqrt(3.0 / self.codebook_size)
        nn.init.uniform_(self.codebook, -bound, bound)
        self.counts.fill_(0.0 if self.init == "random" else 1.0)
        self.sums.copy_(self.codebook)
        self._mark_initialized(self.init == "random")
        self.discard()

    @property
    def initialized(self) -> bool:
        """Whether the codes may be used: true after `initialize_codebook`, or from the start with init="random"."""
        return self._initialized

    def _mark_initialized(self, value: bool) -> None:
        # The property answers from the host; the buffer travels with checkpoints.
        self._initialized = value
        self.data_initialized.fill_(int(value))

    def lookup(self, codes: Tensor) -> Tensor:
        """Code vectors, fp32: codes `(...)`, or `(..., blocks)` when blocks > 1, to `(..., dim)`."""
        if self.blocks == 1:
            return nn.functional.embedding(codes, self.codebook)
        parts = self.codebook.chunk(self.blocks, dim=1)
        return torch.cat(
            [nn.functional.embedding(codes[..., b], part) for b, part in enumerate(parts)], dim=-1
        )

    @torch.no_grad()
    def set_codebook(self, codes: Tensor, count: float = 1.0) -> None:
        """Starts from given codes: codes (codebook_size, dim), each with an averaged count of `count` vectors.

        Drops what was accumulated. Not collective: every rank must be given the same codes.
        """
        if codes.shape != self.codebook.shape:
            raise ValueError(f"codes has shape {tuple(codes.shape)}, expected {tuple(self.codebook.shape)}")
        _require(0.0 < count < math.inf, "count", count, "positive")
        self.codebook.copy_(codes)
        self.counts.fill_(count)
        self.sums.copy_(self.codebook * count)
        self._mark_initialized(True)
        self.discard()

    @torch.no_grad()
    def initialize_codebook(
        self,
        z: Tensor,
        mask: Tensor | None = None,
        *,
        batches: int = 1,
        lloyd_steps: int = 10,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """Starts the codes from data: K-means++ seeds and a few Lloyd steps, block by block, the same on all ranks.

        N_j starts at the number of vectors that a code can expect per M step: valid vectors per batch, over all
        ranks, divided by K. (A fixed 1 would be too heavy for small batches, and stale at once for large ones.)
        Collective: with torch.distributed every rank of `group` must call it; the first rank's result is used.

        Args:
            z: (..., dim) encoder outputs; vectors of several batches may be put together.
            mask: (...) bool, true where valid; None for all.
            batches: how many batches z holds, for the expected count.
            lloyd_steps: steps of K-means after seeding; 0 keeps K-means++ seeds, which are vectors of z.
            group: process group; None for all ranks.

        Raises:
            ValueError: on every rank, when no rank has a valid vector, or any valid vector is not finite.
        """
        _require(batches >= 1, "batches", batches, ">= 1")
        _require(lloyd_steps >= 0, "lloyd_steps", lloyd_steps, ">= 0")
        flat, valid = self._flatten(z, mask)
        vectors = flat.float() if valid is None else flat[valid].float()
        facts = torch.tensor([vectors.shape[0], int(not vectors.isfinite().all())], device=z.device)
        sum_over_ranks([facts], group)
        total, faulty = facts.tolist()
        if total == 0 or faulty:
            found = "no valid vector" if total == 0 else "vectors that are not finite"
            raise ValueError(f"initialize_codebook was given {found}: pass encoder outputs z and their mask")
        # Every rank draws the seed, so that global generators stay in step although only one rank's seed counts.
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        limit = -(-INITIAL_VECTORS_PER_CODE * self.codebook_size * vectors.shape[0] // total)
        if limit < vectors.shape[0]:
            vectors = vectors[torch.randperm(vectors.shape[0], generator=generator)[:limit].to(z.device)]
        vectors = gather_rows(vectors, group)
        if world_size(group) == 1 or dist.get_rank(group) == 0:
            parts = vectors.to(self.codebook.device).chunk(self.blocks, dim=1)
            codes = torch.cat(
                [kmeans(part.contiguous(), self.codebook_size, lloyd_steps, generator) for part in parts],
                dim=1,
            )
        else:
            codes = torch.empty_like(self.codebook)
        copy_from_first_rank(codes, group)
        self.set_codebook(codes, count=total / batches / self.codebook_size)

    def _accumulate(
        self, counts: Tensor, sums: Tensor, hits: Tensor, vectors: Tensor, valid: Tensor | None
    ) -> None:
        """Adds one batch: counts, hits (blocks, K), sums (K, dim), vectors (N, dim), valid (N,) bool or None."""
        if not self._initialized:
            warnings.warn(
                "the codebook still holds random codes: call initialize_codebook(z, mask) with encoder outputs first,"
                " or choose init='random' to mean it",
                stacklevel=3,
            )
        if self._pending is None:
            self._pending = self._no_statistics()
        pending = self._pending
        pending.counts += counts
        pending.sums += sums
        pending.hits += hits
        if pending.keys.shape[0]:
            keys = torch.rand(vectors.shape[0], device=vectors.device)
            pending.keep(keys if valid is None else keys.masked_fill(~valid, -1.0), vectors)

    def _no_statistics(self) -> Statistics:
        places = min(self.codebook_size, MAX_REVIVED) if self.revival else 0
        return Statistics.zeros(self.blocks, self.codebook_size, self.dim, places, self.codebook.device)

    def discard(self) -> None:
        """Drops what was accumulated since the last M step: for a skipped optimizer step."""
        self._pending = None

    @torch.no_grad()
    def update_codebook(self, group: dist.ProcessGroup | None = None) -> bool:
        """The M step on everything accumulated since the last one (paper, section 3; Laplace smoothing as there).

        N_j <- decay N_j + (1 - decay) n_j, S_j <- decay S_j + (1 - decay) s_j, e_j = S_j / N'_j with
        N'_j = (N_j + epsilon) n / (n + K epsilon), n = sum_j N_j. With decay 0 it is a Lloyd step of K-means, and a
        code without vectors stays where it is. Then stale codes are replaced, if `revival` is on.

        Collective: with torch.distributed every rank of `group` must call it, also one that has seen no data. Nothing
        changes when no rank has accumulated a valid vector, nor (with a warning) when statistics are not finite.

        Returns:
            Whether the codebook was updated.
        """
        if self._pending is None and world_size(group) == 1:
            return False
        pending = self._pending or self._no_statistics()
        self.discard()
        pending.reduce(group)
        total, check = torch.stack([pending.counts.sum(), pending.sums.sum()]).tolist()
        if not math.isfinite(total + check):
            warnings.warn("statistics of the codebook are not finite: M step skipped", stacklevel=2)
            return False
        if total == 0.0:
            return False
        self.histogram += pending.hits.view_as(self.histogram)
        self.counts.mul_(self.decay).add_(pending.counts, alpha=1.0 - self.decay)
        self.sums.mul_(self.decay).add_(pending.sums, alpha=1.0 - self.decay)
        counts = self.counts.double()
        n = counts.sum(dim=1, keepdim=True)
        smoothed = (counts + self.epsilon) * (n / (n + self.codebook_size * self.epsilon))
        codes = self._by_block(self.sums) / smoothed.float().t()[:, :, None]
        if self.decay == 0.0:
            codes = torch.where(self.counts.t()[:, :, None] > 0, codes, self._by_block(self.codebook))
        self._by_block(self.codebook).copy_(codes)
        if pending.keys.shape[0]:
            self._revive(pending.keys, pending.vectors)
        return True

    def _by_block(self, tensor: Tensor) -> Tensor:
        """(rows, dim) -> (rows, blocks, dim / blocks), a view."""
        return tensor.view(-1, self.blocks, self.dim // self.blocks)

    def _revive(self, keys: Tensor, vectors: Tensor) -> None:
        """Moves the stalest codes onto vectors (R, dim) just seen; a negative key marks a place without a vector.

        A code is stale when N_j < revival_threshold * mean(N). It is given the mean count, so that it has as much
        time to prove itself as a code at the start, and the matching sum, so that the next M step leaves it there.
        """
        for block in range(self.blocks):
            expected = self.counts[block].mean()
            stalest = self.counts[block].sort(stable=True).indices[: keys.shape[0]]
            replace = (self.counts[block, stalest] < self.revival_threshold * expected) & (keys >= 0)
            new = self._by_block(vectors)[:, block]
            for state, value in ((self.codebook, new), (self.sums, new * expected)):
                view = self._by_block(state)
                view[stalest, block] = torch.where(replace[:, None], value, view[stalest, block])
            self.counts[block, stalest] = torch.where(replace, expected, self.counts[block, stalest])
            self.revived += replace.sum()

    def reset_histogram(self) -> None:
        """Starts a new epoch of `histogram` and `revived`."""
        self.histogram.zero_()
        self.revived.zero_()

    def _flatten(self, z: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Checks z (..., dim) and mask (...) and flattens them to (N, dim) and (N,)."""
        if not z.is_floating_point() or z.dim() < 1 or z.shape[-1] != self.dim:
            raise ValueError(
                f"z is {z.dtype} of shape {tuple(z.shape)}, expected floats of shape (..., {self.dim})"
            )
        if mask is not None and (mask.dtype != torch.bool or mask.shape != z.shape[:-1]):
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}, expected torch.bool of shape"
                f" {tuple(z.shape[:-1])}, true where z is valid"
            )
        return z.reshape(-1, self.dim), None if mask is None else mask.reshape(-1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EMCodebook:
        """Moves to another device, but keeps every type: `.half()` must not round the statistics."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(new.device)
        if self._pending is not None:
            self._pending = self._pending.to(self.codebook.device)
        return self

    def _load_from_state_dict(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super()._load_from_state_dict(*args, **kwargs)
        self._initialized = bool(self.data_initialized.item())
        self.discard()

    def extra_repr(self) -> str:
        return (
            f"codebook_size={self.codebook_size}, dim={self.dim}, blocks={self.blocks}, decay={self.decay},"
            f" init={self.init!r}, revival={self.revival}"
        )


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value!r}, must be {expected}")
