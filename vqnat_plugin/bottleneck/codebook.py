"""The codes and their EM statistics: start, accumulation, the M step and the revival of stale codes.

Source: Roy et al. 2018 (arXiv 1805.11063), EM with moving averages; the reference code is tensor2tensor's
`discretization.py`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .assignment import LARGEST, largest
from .base import Quantizer, check_columns, require, require_integer
from .collectives import copy_from_first_rank, gather_ragged_rows, rank
from .kmeans import kmeans
from .statistics import Statistics

# Vectors for each code that initialisation looks at; more would hardly move the means, and take time.
INITIAL_VECTORS_PER_CODE = 64
SKIPPED = f"statistics of the codebook are not finite, or beyond {LARGEST:g}: M step skipped"


class EMCodebook(Quantizer):
    """A codebook that is trained by exponentially averaged EM, never by gradients.

    All state is fp32 whatever the type of the model: `.half()`, `.bfloat16()` and `.double()` change nothing.
    FSDP goes past that: leave `buffer_dtype` of its mixed precision unset.

    Attributes:
        codebook: (codebook_size, dim) e_j. Block b owns the columns from b * dim / blocks.
        counts: (blocks, codebook_size) N_j, and sums: (codebook_size, dim) S_j: the averaged statistics.
        frozen: (codebook_size,) int64, 1 where a code keeps still; see `freeze`.
        histogram: (codebook_size,), or (blocks, codebook_size) when blocks > 1, fp64: how often each code was
            chosen in the M steps since `reset_histogram`, over all ranks. Not saved.

    With distance="cosine" the vectors of each block and all codes have length 1 (spherical K-means, Dhillon
    and Modha 2001); p(j | z) is then that of a mixture of von Mises-Fisher distributions.

    `decay`, `revival` and `revival_threshold` may be changed between M steps (on all ranks alike).
    """

    counts: Tensor
    sums: Tensor
    started: Tensor
    frozen: Tensor
    skipped: Tensor

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
        revival_threshold: float = 0.3,
        distance: str = "euclidean",
        channels: str | None = None,
    ) -> None:
        super().__init__(codebook_size, dim, channels)
        require_integer("blocks", blocks)
        require(dim % blocks == 0, "blocks", blocks, f"a divisor of dim ({dim})")
        require(0.0 <= decay < 1.0, "decay", decay, "in [0, 1)")
        require(0.0 < epsilon < math.inf, "epsilon", epsilon, "positive")
        require(init in ("data", "random"), "init", init, "'data' or 'random'")
        require(0.0 <= revival_threshold < 1.0, "revival_threshold", revival_threshold, "in [0, 1)")
        require(distance in ("euclidean", "cosine"), "distance", distance, "'euclidean' or 'cosine'")
        self.blocks, self._decay, self.epsilon = blocks, decay, epsilon
        self.init, self.distance = init, distance
        self.starts_from_data = init == "data"
        self.revival, self.revival_threshold = revival, revival_threshold

        self.register_buffer("codebook", torch.empty(codebook_size, dim, dtype=torch.float32))
        self.register_buffer("counts", torch.empty(blocks, codebook_size, dtype=torch.float32))
        self.register_buffer("sums", torch.empty(codebook_size, dim, dtype=torch.float32))
        # An integer, since fairseq's checkpoint averaging cannot add booleans.
        self.register_buffer("started", torch.zeros((), dtype=torch.int64))
        self.register_buffer("frozen", torch.zeros(codebook_size, dtype=torch.int64))
        self.register_buffer("skipped", torch.zeros((), dtype=torch.int64), persistent=False)
        self.make_histogram(*([blocks] if blocks > 1 else []), codebook_size)
        self._pending: Statistics | None = None
        self._accumulated = self._initialized = False
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Random codes as in the reference code: uniform within +-sqrt(3 / K), N_j = 0, S_j = e_j.

        With init="random" this is the start. With init="data" N_j is 1 until `initialize_codebook` is called:
        so an M step before that does not throw unused codes far away, as it does in the reference code.
        """
        bound = math.sqrt(3.0 / self.codebook_size)
        nn.init.uniform_(self.codebook, -bound, bound)
        self.codebook.copy_(self._normalised(self.codebook))
        self.counts.fill_(0.0 if self.init == "random" else 1.0)
        self.sums.copy_(self.codebook)
        for state in (self.frozen, self.skipped, self.histogram, self.revived):
            state.zero_()
        self._set_initialized(self.init == "random")
        self.discard()

    @property
    def decay(self) -> float:
        """Share of the averaged statistics that an M step keeps; 0: a Lloyd step of K-means."""
        return self._decay

    @decay.setter
    def decay(self, value: float) -> None:
        require(0.0 <= value < 1.0, "decay", value, "in [0, 1)")
        before, self._decay = self._decay, value
        if before == 0.0 < value:
            self._keep_unvisited(self.counts <= self.epsilon)

    @torch.no_grad()
    def _keep_unvisited(self, without: Tensor) -> None:
        """Gives codes (blocks, K) that a Lloyd step has left without statistics those of a start, where they
        are.
        """
        expected = self.counts.mean(dim=1, keepdim=True)
        self.counts.copy_(torch.where(without, expected, self.counts))
        codes, sums = self._by_block(self.codebook), self._by_block(self.sums)
        weights = self.counts.t()[:, :, None]
        sums.copy_(torch.where(without.t()[:, :, None], codes * weights, sums))

    @property
    def initialized(self) -> bool:
        """Whether codes have had their start: `initialize_codebook`, `set_codebook`, or init="random".

        Compiled code takes what was known before: read it once where buffers were copied in, not loaded.
        """
        if not self._initialized and not self.started.is_meta and not torch.compiler.is_compiling():
            # Buffers may have come from elsewhere: a broadcast, a copy.
            self._initialized = bool(self.started)
        return self._initialized

    def _set_initialized(self, value: bool) -> None:
        # The flag is asked in every step, so from the start on it lives on the host.
        self._initialized = value
        self.started.fill_(int(value))

    def _normalised(self, vectors: Tensor) -> Tensor:
        """Vectors (N, dim) as they are compared: with distance="cosine" each block has length 1, or is 0."""
        if self.distance == "euclidean":
            return vectors
        parts = self._by_block(vectors)
        peak = parts.detach().abs().amax(dim=2, keepdim=True)
        # Squares of very large and very small numbers leave the range; 0 has no direction, and no gradient.
        peak = torch.where(peak > 0, peak.clamp(min=torch.finfo(peak.dtype).tiny), torch.inf)
        return nn.functional.normalize(parts / peak, dim=2).view(vectors.shape)

    def freeze(self, codes: Tensor | None = None) -> None:
        """Holds codes where they are, statistics and all: those numbered in `codes` (n,), in every block; or
        all. They are taken and counted as before.
        """
        if codes is None:
            self.frozen.fill_(1)
        else:
            self.frozen[codes] = 1

    def unfreeze(self) -> None:
        """Lets all codes move again."""
        self.frozen.zero_()

    def lookup(self, codes: Tensor) -> Tensor:
        """Code vectors, fp32: codes `(...)`, or `(..., blocks)` when blocks > 1, to `(..., dim)`."""
        if self.blocks == 1:
            return nn.functional.embedding(codes, self.codebook)
        check_columns("codes", codes, self.blocks, self.blocks)
        parts = self.codebook.chunk(self.blocks, dim=1)
        return torch.cat(
            [nn.functional.embedding(codes[..., b], part) for b, part in enumerate(parts)], dim=-1
        )

    @torch.no_grad()
    def set_codebook(self, codes: Tensor, count: float = 1.0) -> None:
        """Starts from given codes (codebook_size, dim), each with an averaged count N_j of `count` vectors.

        Drops what was accumulated; frozen codes are replaced as well. Not collective: every rank must be
        given the same codes.

        Raises:
            ValueError: codes have another shape, or are out of the range of what can be computed with; count
                is not positive.
        """
        codes = torch.as_tensor(codes)
        if codes.shape != self.codebook.shape:
            raise ValueError(f"codes has shape {tuple(codes.shape)}, must be {tuple(self.codebook.shape)}")
        require(0.0 < count < math.inf, "count", count, "positive")
        if not in_range(codes):
            raise ValueError(f"codes holds numbers that are not finite, or beyond {LARGEST:g}")
        self.codebook.copy_(self._normalised(codes.to(self.codebook)))
        self.counts.fill_(count)
        self.sums.copy_(self.codebook * count)
        self._set_initialized(True)
        self.discard()

    @torch.no_grad()
    def initialize_codebook(
        self,
        z: Tensor,
        mask: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        batches: int = 1,
        lloyd_steps: int = 10,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """Starts the codes from data: K-means++ seeds and a few Lloyd steps, the same on all ranks.

        With fewer vectors than codes, some are near others until the M step finds them places: better give
        it more. N_j starts at what a code can expect in one M step: valid vectors of a batch, over all ranks,
        divided by K. (A fixed count of 1 would outweigh small batches, and be stale at once beside large
        ones.)

        Collective: with torch.distributed every rank of `group` must call it. The codes are found by the
        first rank, from the vectors of all.

        Args:
            z: encoder outputs, of one batch or of several put together; in the layout of `forward`, as are
            mask, lengths: what is valid; None for all.
            batches: how many batches z holds, for the expected count.
            lloyd_steps: steps of K-means after seeding; 0 keeps the K-means++ seeds, which are vectors of z.
            group: process group; None for all ranks.

        Raises:
            ValueError: an argument is out of its range or of another shape; on every rank, when there is no
                valid vector, or one that is not finite or out of the range of what can be computed with.
        """
        require_integer("batches", batches)
        require_integer("lloyd_steps", lloyd_steps, least=0)
        flat, valid = self._flatten(*self.positions(z, mask, lengths))
        vectors = self._normalised(flat.float() if valid is None else flat[valid].float())
        facts = torch.tensor([vectors.shape[0], int(not in_range(vectors))], device=z.device)
        if rank(group) is not None:
            dist.all_reduce(facts, group=group)
        total, faulty = facts.tolist()
        if total == 0 or faulty:
            found = "no valid vector" if total == 0 else f"vectors that are not finite, or beyond {LARGEST:g}"
            raise ValueError(f"initialize_codebook was given {found}: pass encoder outputs z and their mask")
        # Every rank draws a seed though only one is used: so global generators stay in step.
        generator = torch.Generator("cpu").manual_seed(int(torch.randint(2**62, (), device="cpu")))
        limit = math.ceil(INITIAL_VECTORS_PER_CODE * self.codebook_size * vectors.shape[0] / total)
        if limit < vectors.shape[0]:
            order = torch.randperm(vectors.shape[0], generator=generator, device="cpu")
            vectors = vectors[order[:limit].to(z.device)]
        vectors = gather_ragged_rows(vectors, group)
        codes = torch.empty_like(self.codebook)
        if rank(group) in (None, 0):
            for part, block in zip(vectors.chunk(self.blocks, 1), codes.chunk(self.blocks, 1), strict=True):
                block.copy_(
                    kmeans(part.contiguous(), self.codebook_size, lloyd_steps, generator, self.distance)
                )
        copy_from_first_rank(codes, group)
        self.set_codebook(codes, count=total / batches / self.codebook_size)
        if vectors.shape[0] < self.codebook_size:
            self._let_repeats_go(vectors.shape[0])

    def _let_repeats_go(self, vectors: int) -> None:
        """Makes codes stale that are near the first ones for want of vectors; see `kmeans`."""
        if not self.revival or self.revival_threshold == 0.0:
            way_out = "turn revival on" if not self.revival else "raise revival_threshold, which is 0"
            warnings.warn(
                f"the codebook starts from {vectors} vectors, and {self.codebook_size - vectors} of"
                f" {self.codebook_size} codes are near others: give it more, or {way_out}",
                stacklevel=4,
            )
            return
        # Well below what makes a code stale. The next M step hardly moves them; later ones, with a short
        # decay, draw those that still wait to the origin, as they do with any code that nobody takes.
        self.counts[:, vectors:] *= self.revival_threshold * vectors / self.codebook_size / 2
        weights = self.counts.t()[vectors:, :, None] + self.epsilon
        self._by_block(self.sums)[vectors:] = self._by_block(self.codebook)[vectors:] * weights

    def _statistics(self) -> Statistics:
        """The statistics of the next M step; made when first needed, since inference needs none."""
        if self._pending is None:
            self._pending = Statistics(self.blocks, self.codebook_size, self.dim, self.codebook.device)
        return self._pending

    def discard(self) -> None:
        """Drops what was accumulated since the last M step: for a skipped optimizer step."""
        if self._accumulated and self._pending is not None:
            self._pending.clear()
        self._accumulated = False
        self._forwards = 0

    @torch.no_grad()
    def update_codebook(self, group: dist.ProcessGroup | None = None) -> bool | Tensor:
        """The M step on all that was accumulated since the last one.

        N_j <- decay N_j + (1 - decay) n_j, S_j <- decay S_j + (1 - decay) s_j, e_j = S_j / N'_j with
        N'_j = (N_j + epsilon) n / (n + K epsilon), n = sum_j N_j. With decay 0 it is a Lloyd step of K-means,
        and a code without vectors stays where it is. With distance="cosine" e_j = S_j / ||S_j||. Then stale
        codes are replaced, if `revival` is on.

        Collective: with torch.distributed every rank of `group` must call it, also one that has seen no data.
        Nothing changes when no rank has accumulated a valid vector, nor (with a warning; away from CPUs only
        at `reset_histogram`) when statistics are not finite or out of the range of what can be computed with.

        Returns:
            Whether the codebook was updated. Away from CPUs, and when compiled, a 0-d tensor, so that nothing
            waits for the device.
        """
        if not self._accumulated and rank(group) is None:
            return False
        pending = self._statistics()
        self._accumulated = True
        pending.reduce(group, with_sample=self.revival)
        try:
            return self._apply_statistics(pending)
        finally:
            self.discard()

    def _apply_statistics(self, pending: Statistics) -> bool | Tensor:
        """The M step proper, on the statistics of all ranks."""
        total, peak = pending.counts.sum(), largest(pending.sums)
        sound = torch.isfinite(total) & (peak <= LARGEST)
        updated = sound & (total > 0.0)
        # Waiting is free on a CPU alone; elsewhere statistics of no use are replaced by what changes nothing.
        if waits := self.codebook.device.type == "cpu" and not torch.compiler.is_compiling():
            if not bool(sound):
                warnings.warn(SKIPPED, stacklevel=4)
            if not bool(updated):
                return False
        else:
            pending.clear_unless(updated)
            self.skipped += ~sound
        frozen = None if waits and not self.frozen.any() else self.frozen.bool()
        states = (self.codebook, self.counts, self.sums)
        held = [] if frozen is None else [state.clone() for state in states]
        self.histogram += pending.hits.view_as(self.histogram)
        decay = self.decay if waits else torch.where(updated, self.decay, 1.0).double()
        self.counts.mul_(decay).add_(pending.counts, alpha=1.0 - self.decay)
        # In pieces, since fp32 + fp64 goes through a temporary copy.
        for sums, new in zip(self.sums.split(1024), pending.sums.split(1024), strict=True):
            sums.mul_(decay).add_(new, alpha=1.0 - self.decay)
        self._move_codes(None if waits else updated)
        if self.revival:
            vectors, present = pending.sample()
            self._revive(vectors, present if waits else present & updated, frozen)
        for state, old in zip(states, held, strict=False):
            assert frozen is not None
            state.copy_(torch.where(frozen if state is self.counts else frozen[:, None], old, state))
        return True if waits else updated

    def _move_codes(self, where: Tensor | None) -> None:
        """Sets the codes to what their averaged statistics say; everywhere, or if `where` (0-d) is true."""
        codebook, sums = self._by_block(self.codebook), self._by_block(self.sums)
        if self.distance == "cosine":
            codes = self._by_block(self._normalised(self.sums))
            moves = codes.square().sum(dim=2, keepdim=True) > 0
        else:
            counts = self.counts.double()
            n = counts.sum(dim=1, keepdim=True)
            smoothed = (counts + self.epsilon) * (n / (n + self.codebook_size * self.epsilon))
            denominators = smoothed.float().t()[:, :, None]
            if self.decay > 0.0 and where is None:
                torch.div(sums, denominators, out=codebook)
                return
            codes, moves = sums / denominators, torch.ones_like(codebook, dtype=torch.bool)
        if self.decay == 0.0:
            # Posteriors are never quite 0; below epsilon, it and not the vectors would say where a code is.
            moves = moves & (self.counts.t()[:, :, None] > self.epsilon)
        codebook.copy_(torch.where(moves if where is None else moves & where, codes, codebook))

    def _by_block(self, tensor: Tensor) -> Tensor:
        """(rows, dim) -> (rows, blocks, dim / blocks), a view."""
        return tensor.view(-1, self.blocks, self.dim // self.blocks)

    def _revive(self, vectors: Tensor, present: Tensor, frozen: Tensor | None) -> None:
        """Moves the stalest codes onto vectors (R, dim) just seen, where present (R,).

        Frozen ones (K,) stay. A code is stale when N_j < revival_threshold * mean(N). It is given just this
        count, and the matching sum. If too few vectors take it there, it is stale again at once and tries
        another place; if enough do, it soon stands at their mean. With a larger count it would stay where
        nothing is.
        """
        for block in range(self.blocks):
            counts = self.counts[block]
            least = self.revival_threshold * counts.mean()
            free = counts if frozen is None else counts.masked_fill(frozen, torch.inf)
            stalest = free.sort(stable=True).indices[: vectors.shape[0]]
            replace = present[: stalest.shape[0]] & (free[stalest] < least)
            new = self._by_block(vectors)[: stalest.shape[0], block]
            for state, value in ((self.codebook, new), (self.sums, new * least)):
                view = self._by_block(state)
                view[stalest, block] = torch.where(replace[:, None], value, view[stalest, block])
            counts[stalest] = torch.where(replace, least, counts[stalest])
            self.revived += replace.sum()

    def reset_histogram(self) -> None:
        """Starts a new epoch of `histogram` and `revived`."""
        super().reset_histogram()
        if bool(self.skipped):
            warnings.warn(f"{int(self.skipped)} times, {SKIPPED}", stacklevel=2)
            self.skipped.zero_()

    def _flatten(self, z: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """z (..., dim) and mask (...), as `positions` returns them, to (N, dim) and (N,)."""
        return z.reshape(-1, self.dim), None if mask is None else mask.reshape(-1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EMCodebook:
        """See `Quantizer`; what is accumulated moves as well."""
        super()._apply(fn, recurse)
        if self._pending is not None:
            self._pending.to(self.codebook.device)
        return self

    def keeps_type(self, name: str) -> bool:
        """All do."""
        return True

    def upgrade_state(self, state: dict[str, Any], prefix: str = "") -> None:
        """Codes of before they could be frozen are free."""
        # A state of other parts of a model says nothing of codes.
        if prefix + "codebook" in state:
            state.setdefault(prefix + "frozen", torch.zeros_like(self.frozen))

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        self.upgrade_state(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        # At once: compiled code does not ask.
        self._initialized = not self.started.is_meta and bool(self.started)
        if self._decay > 0.0 and not any(each.is_meta for each in (self.codebook, self.counts, self.sums)):
            # Of an M step with decay 0: a random start has no counts either, but sums; what has decayed to
            # nothing stands at the origin.
            sums, codes = (self._by_block(each).abs().amax(dim=2).t() for each in (self.sums, self.codebook))
            self._keep_unvisited((self.counts == 0) & (sums == 0) & (codes > 0))
        self.discard()

    def extra_repr(self) -> str:
        return (
            f"codebook_size={self.codebook_size}, dim={self.dim}, blocks={self.blocks}, decay={self.decay},"
            f" init={self.init!r}, revival={self.revival}, distance={self.distance!r}"
        )


def in_range(values: Tensor) -> bool:
    """Whether all are numbers that codes may be."""
    return values.numel() == 0 or float(largest(values)) <= LARGEST
