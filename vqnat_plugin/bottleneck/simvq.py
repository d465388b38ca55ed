"""SimVQ: fixed random vectors, of which one trained linear layer makes the codes.

Source: Zhu et al. 2024, "Addressing Representation Collapse in Vector Quantized Models with One Linear Layer"
(arXiv 2411.02038), section 4.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gradient import GradientQuantizer
from .precision import without_autocast
from .registry import Settings, register


class SimVQQuantizer(GradientQuantizer):
    """Takes the nearest of the codes C W; C (codebook_size, dim) is drawn once, W (dim, dim) is trained.

    All codes move with W, also those that no vector is near to: so none is left behind. Arguments, losses and
    gradients are those of `GradientQuantizer`.

    Attributes:
        basis: C, normal with a standard deviation of dim^-0.5. transform: W, at the start that of a linear
            layer.
    """

    basis: Tensor

    def make_codebook(self) -> None:
        """Draws the fixed vectors and the layer."""
        self.register_buffer("basis", torch.randn(self.codebook_size, self.dim) * self.dim**-0.5)
        self.transform = nn.Linear(self.dim, self.dim, bias=False)

    @property
    def codebook(self) -> Tensor:  # type: ignore[override]
        """C W, (codebook_size, dim)."""
        return self._transformed(self.basis)

    def lookup(self, codes: Tensor) -> Tensor:
        """Code vectors: codes `(...)` to `(..., dim)`."""
        return self._transformed(F.embedding(codes, self.basis))

    def _transformed(self, vectors: Tensor) -> Tensor:
        # As in `quantize`: in the type of the weights, whatever surrounds it.
        with without_autocast(vectors.device):
            return self.transform(vectors)


@register("simvq", "SimVQ, fixed random vectors behind one trained linear layer")
def _build(settings: Settings) -> SimVQQuantizer:
    return SimVQQuantizer(settings.codebook_size, settings.dim, settings.commitment_weight, settings.channels)
