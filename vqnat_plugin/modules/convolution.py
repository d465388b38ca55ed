"""Masked convolutions over sequences, shared by compressor and upsampler."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedConv(nn.Module):
    """A width-3 convolution that sees zeros at masked positions, whatever stands there.

    It is computed as a linear layer over three neighbours, which is faster on a CPU than torch's convolution.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, kernel_size=3, padding=1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Convolve `x` (batch, positions, dim); `mask` (batch, positions) is true where `x` is real."""
        x = F.pad(x * mask.unsqueeze(-1), (0, 0, 1, 1))
        neighbours = torch.cat([x[:, :-2], x[:, 1:-1], x[:, 2:]], -1)
        return F.linear(neighbours, self.conv.weight.transpose(1, 2).flatten(1), self.conv.bias)


class ResidualBlock(nn.Module):
    """Three times ReLU, convolution of width 3 and layer norm, added to the input (Kaiser et al., 2018)."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(MaskedConv(dim) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, positions, dim) to the same; `mask` is true where `x` is real."""
        y = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = norm(conv(self.dropout(y.relu()), mask))
        return x + y
