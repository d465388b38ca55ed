"""Finite scalar quantisation: each of a few values is rounded to one of a few levels; nothing is learned.

Source: Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple" (arXiv 2309.15505),
section 3 and appendix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import require
from .output import QuantizerOutput, zero_padding
from .parameter_codebook import ParameterCodebook, mean_over_valid
from .registry import Settings, register
from .rotation import straight_through

# Levels are stretched by this much, so that the outermost ones can be reached.
MARGIN = 1e-3
# Most levels of a value, when they are chosen for a size.
MOST_LEVELS = 8


class FiniteScalarQuantizer(ParameterCodebook):
    """Rounds len(levels) values between -1 and 1, made from each vector by a linear layer unless dim fits.

    Code = sum_i digit_i prod_{j < i} levels_j. Gradients go straight through the rounding; there is no loss.

    Args:
        levels: how many values each of the numbers may take, 2 or more; their product is `codebook_size`.
        dim: size of a vector; None: one number for each of `levels`, and no layers.
        channels: see `Quantizer`.

    Raises:
        ValueError: an argument is out of its range.
    """

    levels: Tensor
    strides: Tensor

    def __init__(self, levels: Sequence[int], dim: int | None = None, channels: str | None = None) -> None:
        good = len(levels) > 0 and all(isinstance(level, int) and level >= 2 for level in levels)
        require(good, "levels", list(levels), "integers >= 2")
        super().__init__(math.prod(levels), len(levels) if dim is None else dim, channels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        strides = [math.prod(levels[:place]) for place in range(len(levels))]
        self.register_buffer("strides", torch.tensor(strides), persistent=False)
        same = self.dim == len(levels)
        self.project_in = nn.Identity() if same else nn.Linear(self.dim, len(levels))
        self.project_out = nn.Identity() if same else nn.Linear(len(levels), self.dim)
        self.make_histogram()

    def quantize(self, z: Tensor, mask: Tensor | None, accumulate: bool) -> QuantizerOutput:
        """See `Quantizer.forward`."""
        with torch.autocast(z.device.type, enabled=False):
            bounded = self._bounded(_project(self.project_in, zero_padding(z, mask).float()))
            # What is no number has a code as well: a batch that is skipped must not stop a training before.
            rounded = bounded.detach().round().nan_to_num().clamp(*self._range)
            codes = ((rounded.long() + self.levels // 2) * self.strides).sum(dim=-1)
            scaled = straight_through(bounded, rounded) / (self.levels // 2)
            quantized = _project(self.project_out, scaled)
            error = mean_over_valid((bounded.detach() - rounded).square(), mask)
        none = torch.zeros((), device=z.device)
        return self.output(quantized.to(z.dtype), codes, codes, mask, accumulate, none, {"commitment": error})

    @property
    def _range(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest integer of each value."""
        return -(self.levels // 2).float(), ((self.levels - 1) // 2).float()

    def _bounded(self, values: Tensor) -> Tensor:
        """Squashes values (..., n) so that rounding gives one of `levels` integers, about 0."""
        half = (self.levels - 1) * (1 + MARGIN) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        # The paper's shift keeps 0 at 0. Of two levels that is an edge, where all values would be one level.
        shift = torch.where(self.levels == 2, 0.0, (offset / half).atanh())
        return (values + shift).tanh() * half - offset

    def lookup(self, codes: Tensor) -> Tensor:
        """Code vectors: codes `(...)` to `(..., dim)`."""
        digits = codes[..., None] // self.strides % self.levels
        middle = self.levels // 2
        return _project(self.project_out, (digits - middle).float() / middle)

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
    return FiniteScalarQuantizer(levels_of(settings.codebook_size), settings.dim)
