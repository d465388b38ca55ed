"""Finite scalar quantisation: each of a few values is rounded to one of a few levels; nothing is learned.

Source: Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple" (arXiv 2309.15505),
section 3 and appendix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import is_integer, require
from .output import QuantizerOutput, zero_padding
from .parameter_codebook import ParameterCodebook, mean_over_valid
from .precision import without_autocast
from .registry import Settings, register
from .rotation import straight_through

# Levels are stretched by this much, so that the outermost ones can be reached.
MARGIN = 1e-3
# More would be counted in a histogram that takes more memory than models do.
MOST_CODES = 1 << 24
# Most levels of a value, when they are chosen for a size.
MOST_LEVELS = 8


class FiniteScalarQuantizer(ParameterCodebook):
    """Rounds len(levels) values, squashed by tanh, made from each vector by a linear layer unless dim fits.

    Code = sum_i digit_i prod_{j < i} levels_j. Gradients go straight through the rounding; there is no loss.

    Args:
        levels: how many values each of the numbers may take, 2 or more; their product is `codebook_size`, at
            most 2^24.
        dim: size of a vector; None: one number for each of `levels`, and no layers.
        channels: see `Quantizer`.

    Raises:
        ValueError: an argument is out of its range.
    """

    levels: Tensor
    strides: Tensor

    def __init__(self, levels: Sequence[int], dim: int | None = None, channels: str | None = None) -> None:
        good = len(levels) > 0 and all(is_integer(level) and level >= 2 for level in levels)
        require(good, "levels", list(levels), "integers >= 2")
        self._sizes = [int(level) for level in levels]
        fits = math.prod(self._sizes) <= MOST_CODES
        require(fits, "levels", self._sizes, f"integers with a product of at most {MOST_CODES:,}")
        super().__init__(math.prod(self._sizes), len(levels) if dim is None else dim, channels)
        for name, values in self._tables().items():
            self.register_buffer(name, values, persistent=False)
        same = self.dim == len(levels)
        self.project_in = nn.Identity() if same else nn.Linear(self.dim, len(levels))
        self.project_out = nn.Identity() if same else nn.Linear(len(levels), self.dim)

    def _tables(self) -> dict[str, Tensor]:
        sizes = self._sizes
        strides = [math.prod(sizes[:place]) for place in range(len(sizes))]
        return {
            "levels": torch.tensor(sizes, dtype=torch.int64),
            "strides": torch.tensor(strides, dtype=torch.int64),
        }

    def _fill_tables(self) -> None:
        """Tables are in no file; whoever made the module without memory has nothing there."""
        for name, values in self._tables().items():
            self._buffers[name] = values.to(self.histogram.device)

    def _load_from_state_dict(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super()._load_from_state_dict(*args, **kwargs)
        self._fill_tables()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FiniteScalarQuantizer:
        """See `Quantizer`."""
        super()._apply(fn, recurse)
        self._fill_tables()
        return self

    def quantize(self, z: Tensor, mask: Tensor | None, accumulate: bool) -> QuantizerOutput:
        """See `Quantizer.forward`."""
        with without_autocast(z.device):
            bounded = self._bounded(_project(self.project_in, zero_padding(z, mask).float()))
            # What is no number has a code as well: a batch that is skipped must not stop a training before.
            rounded = bounded.detach().round().nan_to_num().clamp(*self._range)
            codes = ((rounded.long() + self.levels // 2) * self.strides).sum(dim=-1)
            scaled = straight_through(bounded, rounded) / (self.levels // 2).float()
            quantized = _project(self.project_out, scaled)
            error = mean_over_valid((bounded.detach() - rounded).square(), mask)
        none = torch.zeros((), dtype=torch.float32, device=z.device)
        return self.output(quantized.to(z.dtype), codes, codes, mask, accumulate, none, {"commitment": error})

    @property
    def _range(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest integer of each value."""
        return -(self.levels // 2).float(), ((self.levels - 1) // 2).float()

    def _bounded(self, values: Tensor) -> Tensor:
        """Squashes values (..., n) so that rounding gives one of `levels` integers, about 0."""
        half = (self.levels - 1) * (1 + MARGIN) / 2
        half = half.float()
        offset = (self.levels % 2 == 0).float() / 2
        # The paper's shift keeps 0 at 0. Of two levels that is an edge, where all values would be one level.
        shift = (offset / half).atanh().masked_fill(self.levels == 2, 0.0)
        return (values + shift).tanh() * half - offset

    def lookup(self, codes: Tensor) -> Tensor:
        """Code vectors, fp32: codes `(...)` to `(..., dim)`; `IndexError` where there is no such code."""
        # As a table refuses them, also on a GPU; digits would begin again.
        F.embedding(codes // self.codebook_size, torch.empty(1, 1, device=codes.device))
        digits = codes[..., None] // self.strides % self.levels
        middle = self.levels // 2
        with without_autocast(codes.device):
            return _project(self.project_out, (digits - middle).float() / middle.float())

    @property
    def codebook(self) -> Tensor:  # type: ignore[override]
        """All code vectors, (codebook_size, dim)."""
        return self.lookup(torch.arange(self.codebook_size, device=self.levels.device))


def _project(layer: nn.Module, values: Tensor) -> Tensor:
    """A layer in fp32, whatever the type of its weights."""
    if isinstance(layer, nn.Linear):
        return F.linear(values, layer.weight.float(), layer.bias.float())
    return values


def levels_of(size: int) -> list[int]:
    """The fewest levels, as even as can be, whose product is `size`, largest first.

    Raises:
        ValueError: there are none of at most `MOST_LEVELS`.
    """

    def split(rest: int, largest: int) -> list[list[int]]:
        if rest == 1:
            return [[]]
        factors = [level for level in range(2, min(rest, largest) + 1) if rest % level == 0]
        return [[level, *more] for level in factors for more in split(rest // level, level)]

    found = split(size, MOST_LEVELS)
    factors = f"a product of factors from 2 to {MOST_LEVELS}, such as 512 or 1000"
    require(bool(found) and size > 1, "codebook_size", size, factors)
    return min(found, key=lambda levels: (len(levels), max(levels) - min(levels)))


@register("fsq", "finite scalar quantisation, rounding to a fixed grid")
def _build(settings: Settings) -> FiniteScalarQuantizer:
    return FiniteScalarQuantizer(levels_of(settings.codebook_size), settings.dim, settings.channels)
