"""How gradients pass the bottleneck: straight through, or turned and stretched with the vector.

Source of the rotation: Fifty et al. 2024, "Restructuring Vector Quantization with the Rotation Trick"
(arXiv 2410.06424), section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .precision import without_autocast

GRADIENTS = ("straight_through", "rotation")


def straight_through(z: Tensor, quantized: Tensor) -> Tensor:
    """`quantized` in z's type, exactly, with the gradient of z: both (..., dim)."""
    return quantized.to(z.dtype) + (z - z.detach())


def rotate(z: Tensor, quantized: Tensor) -> Tensor:
    """`quantized` in z's type, exactly, with the gradient of c R z: both (..., dim).

    R = I - 2 r r^T + 2 q e^T turns the direction e of z into q, that of `quantized`, with r the direction of
    e + q; c = ||quantized|| / ||z||. Both count as constants. Where either vector is 0 or they point in
    opposite directions there is no such rotation, and the gradient goes straight through.
    """
    with torch.no_grad(), without_autocast(z.device):
        vectors, target = z.detach().float(), quantized.detach().float()
        e, q = normalize(vectors, dim=-1), normalize(target, dim=-1)
        r = normalize(e + q, dim=-1)
        length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        stretch = torch.linalg.vector_norm(target, dim=-1, keepdim=True) / length
        exists = (r.square().sum(-1, keepdim=True) > 0.5) & (length > 0) & (stretch > 0) & stretch.isfinite()
        stretch = torch.where(exists, stretch, 1.0)
    with without_autocast(z.device):
        x = z.float()
        turned = x - 2 * r * (x * r).sum(-1, keepdim=True) + 2 * q * (x * e).sum(-1, keepdim=True)
        moved = torch.where(exists, stretch * turned, x)
    return quantized.to(z.dtype) + (moved - moved.detach()).to(z.dtype)
