"""Residual quantisation: each codebook codes what those before it have left.

Source: Zeghidour et al. 2021, "SoundStream" (arXiv 2107.03312), section III-C, with its dropout of levels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .base import Quantizer, check_columns, require, require_integer
from .output import QuantizerOutput, zero_padding
from .quantizer import EMVectorQuantizer
from .rotation import rotate, straight_through


def shared_setting(name: str) -> Any:
    """A setting of `EMVectorQuantizer` that is the same for all levels: read from the first, set for all."""

    def get(self: ResidualEMQuantizer) -> Any:
        return getattr(self._levels[0], name)

    def set_all(self: ResidualEMQuantizer, value: Any) -> None:
        for level in self._levels:
            setattr(level, name, value)

    return property(get, set_all)


class ResidualEMQuantizer(Quantizer):
    """A chain of `EMVectorQuantizer`, with what each of them guarantees.

    One level is an `EMVectorQuantizer` of dim; the next one quantises z minus what the levels before found.
    The M step is that of all levels; `commitment_loss` is their mean. Gradients pass the chain as a whole,
    straight through or turned as one vector. What may be changed between steps there is changed for all
    levels here.

    Args:
        levels: number of codebooks.
        codebook_size: number of codes K of each.
        dim: size of a vector.
        level_dropout: in training, the share of samples (of z's first dimension) that only the first levels
            code, a number drawn evenly from 1 to levels: so that fewer levels can be used later on.
        channels: see `Quantizer`.
        update: see `EMVectorQuantizer`.
        options: further arguments of `EMVectorQuantizer`, for every level; blocks makes groups of each.

    Attributes:
        quantizers: the levels.
        codebook: (levels, codebook_size, dim).
        histogram: (levels, codebook_size), or (levels, blocks, codebook_size).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> audio = torch.randn(2, 8, 50)  # (batch, channels, time)
        >>> quantizer = ResidualEMQuantizer(4, codebook_size=16, dim=8, channels="first", update="forward")
        >>> quantized, codes, loss = quantizer(audio)
        >>> quantized.shape, codes.shape
        (torch.Size([2, 8, 50]), torch.Size([2, 50, 4]))
        >>> quantizer.eval().lookup(quantizer.encode(audio)[..., :2]).shape  # from the first two levels
        torch.Size([2, 50, 8])
    """

    def __init__(
        self,
        levels: int,
        codebook_size: int,
        dim: int,
        *,
        level_dropout: float = 0.0,
        channels: str | None = None,
        update: str = "manual",
        **options: Any,
    ) -> None:
        super().__init__(codebook_size, dim, channels)
        require_integer("levels", levels)
        # What a code of length 1 leaves is no direction.
        require(
            options.get("distance") in (None, "euclidean"), "distance", options.get("distance"), "'euclidean'"
        )
        require(0.0 <= level_dropout <= 1.0, "level_dropout", level_dropout, "in [0, 1]")
        self.levels, self.level_dropout, self.update = levels, level_dropout, update
        self.quantizers = nn.ModuleList(
            EMVectorQuantizer(codebook_size, dim, channels="last", update=update, **options)
            for _ in range(levels)
        )
        self.blocks = self._levels[0].blocks
        self.starts_from_data = self._levels[0].starts_from_data
        self._estimator = rotate if self._levels[0].gradient == "rotation" else straight_through

    assignment = shared_setting("assignment")
    samples = shared_setting("samples")
    temperature = shared_setting("temperature")
    decay = shared_setting("decay")
    revival = shared_setting("revival")
    revival_threshold = shared_setting("revival_threshold")
    commitment_weight = shared_setting("commitment_weight")
    expects_m_steps = shared_setting("expects_m_steps")

    @property
    def _levels(self) -> list[EMVectorQuantizer]:
        return [level for level in self.quantizers if isinstance(level, EMVectorQuantizer)]

    @property
    def codebook(self) -> Tensor:  # type: ignore[override]
        return torch.stack([level.codebook for level in self._levels])

    @property
    def histogram(self) -> Tensor:  # type: ignore[override]
        return torch.stack([level.histogram for level in self._levels])

    @property
    def revived(self) -> Tensor:  # type: ignore[override]
        return torch.stack([level.revived for level in self._levels]).sum()

    @property
    def initialized(self) -> bool:
        """Whether all levels have had their start."""
        return all(level.initialized for level in self._levels)

    def quantize(self, z: Tensor, mask: Tensor | None, accumulate: bool) -> QuantizerOutput:
        """One level after the other; see `Quantizer.forward`."""
        # In the type of codes, so that levels do not add up roundings of 16 bits.
        z = zero_padding(z, mask)
        residual = vectors = z.float()
        drops = self.training and accumulate and self.level_dropout > 0 and self.initialized
        used = self._used_levels(z, mask) if drops else None
        outs, total = [], torch.zeros_like(vectors)
        for number, level in enumerate(self._levels):
            outs.append(level(residual, mask if used is None else used[..., number], accumulate))
            total = total + outs[-1].quantized.detach()
            residual = residual - outs[-1].quantized.detach()
        place = z.dim() - 1
        codes = torch.stack([out.codes for out in outs], dim=place)
        samples = [out.samples for out in outs if out.samples is not None]
        if used is not None:
            left_out = ~used if mask is None else ~used & mask[..., None]
            codes = codes.masked_fill(left_out.view(*left_out.shape, *[1] * (codes.dim() - z.dim())), -1)
        return QuantizerOutput(
            quantized=self._estimator(z, total),
            codes=codes,
            samples=torch.stack(samples, dim=place) if samples else None,
            commitment_loss=torch.stack([out.commitment_loss for out in outs]).mean(),
            metrics={
                name: torch.stack([out.metrics[name] for out in outs]).mean() for name in outs[0].metrics
            },
            _codebook_size=self.codebook_size,
            _mask=mask if used is None else used,
            _posteriors=[posterior for out in outs for posterior in out._posteriors],
        )

    @torch.no_grad()
    def encode(self, z: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None) -> Tensor:
        """See `Quantizer.encode`: nearest codes of what is left by nearest codes, in training as well."""
        z, mask = self.positions(z, mask, lengths)
        residual, codes = zero_padding(z, mask).float(), []
        for level in self._levels:
            codes.append(level.encode(residual, mask))
            residual = residual - level.lookup(codes[-1])
        return torch.stack(codes, dim=z.dim() - 1)

    def _used_levels(self, z: Tensor, mask: Tensor | None) -> Tensor:
        """(..., levels) bool, true where a valid position of z (..., dim) is coded by a level."""
        samples = z.shape[:1] if z.dim() > 1 else ()
        few = torch.randint(1, self.levels + 1, samples, device=z.device)
        drops = torch.rand(samples, device=z.device) < self.level_dropout
        used = torch.arange(self.levels, device=z.device) < torch.where(drops, few, self.levels)[..., None]
        used = used.view(*samples, *[1] * (z.dim() - 1 - len(samples)), self.levels)
        used = used.expand(*z.shape[:-1], self.levels)
        return used if mask is None else used & mask[..., None]

    def lookup(self, codes: Tensor) -> Tensor:
        """Code vectors, fp32: codes (..., n), or (..., n, blocks) when blocks > 1, of the first n levels.

        A code of -1 adds nothing.

        Raises:
            ValueError: codes are of more levels than there are, or not of so many blocks.
        """
        if self.blocks > 1:
            check_columns("codes", codes, self.blocks, self.blocks)
        of_levels = codes if self.blocks == 1 else codes[..., 0]
        check_columns("codes", of_levels, 1, self.levels)
        parts = []
        for number, level in enumerate(self._levels[: of_levels.shape[-1]]):
            chosen = codes[..., number] if self.blocks == 1 else codes[..., number, :]
            present = chosen if self.blocks == 1 else chosen[..., 0]
            parts.append(zero_padding(level.lookup(chosen.clamp(min=0)), present >= 0))
        return torch.stack(parts).sum(dim=0)

    @torch.no_grad()
    def initialize_codebook(
        self, z: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None, **options: Any
    ) -> None:
        """Starts one level after the other from what is left; see `EMCodebook.initialize_codebook`.

        With no more vectors than codes the first level leaves nothing: the others then start with codes that
        are all equal, and need `revival` to come apart.
        """
        z, mask = self.positions(z, mask, lengths)
        residual = z.float()
        for level in self._levels:
            level.initialize_codebook(residual, mask, **options)
            residual = residual - level.lookup(level.encode(residual, mask))

    def update_codebook(self, group: dist.ProcessGroup | None = None) -> bool | Tensor:
        """The M step of all levels; whether any was updated. See `EMCodebook.update_codebook`."""
        updated = [level.update_codebook(group) for level in self._levels]
        if all(isinstance(value, bool) for value in updated):
            return any(updated)
        return torch.stack([torch.as_tensor(value, device=self.codebook.device) for value in updated]).any()

    def discard(self) -> None:
        """Drops what all levels have accumulated since the last M step."""
        for level in self._levels:
            level.discard()

    def reset_histogram(self) -> None:
        """Starts a new epoch of `histogram` and `revived`."""
        for level in self._levels:
            level.reset_histogram()

    def freeze(self) -> None:
        """Holds all codes where they are; `quantizers` has the levels, to freeze only some."""
        for level in self._levels:
            level.freeze()

    def unfreeze(self) -> None:
        """Lets all codes move again."""
        for level in self._levels:
            level.unfreeze()

    def extra_repr(self) -> str:
        return f"levels={self.levels}, level_dropout={self.level_dropout}, channels={self.channels!r}"
