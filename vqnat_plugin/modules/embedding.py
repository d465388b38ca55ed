"""Token embeddings with sinusoidal positions."""

import math

import torch
from torch import Tensor, nn


def sinusoidal_positions(count: int, dim: int, start: int = 0) -> Tensor:
    """Sinusoidal position vectors (Vaswani et al., 2017, section 3.5), (count, dim): sines, then cosines.

    Args:
        start: the number of the first position. fairseq starts at 2 (behind the padding index), so a model
            that takes over weights from a fairseq Transformer has to start there as well.
    """
    half = dim // 2
    scale = torch.exp(torch.arange(half) * -(math.log(10000.0) / max(half - 1, 1)))
    angles = torch.arange(start, start + count)[:, None] * scale[None, :]
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, dim % 2))


class Positions(nn.Module):
    """A table of sinusoidal positions that grows on demand."""

    table: Tensor

    def __init__(self, dim: int, count: int = 256, start: int = 2) -> None:
        super().__init__()
        self.dim, self.start = dim, start
        self.register_buffer("table", sinusoidal_positions(count, dim, start), persistent=False)

    def forward(self, count: int) -> Tensor:
        """Vectors of the first `count` positions, (count, dim)."""
        if count > self.table.size(0):
            # Whoever decodes may go on to train.
            with torch.inference_mode(False):
                self.table = sinusoidal_positions(2 * count, self.dim, self.start).to(self.table)
        return self.table[:count]


class TokenEmbedding(nn.Module):
    """Scaled token embeddings plus positions, which count real tokens only: padding may be on either side."""

    def __init__(self, tokens: nn.Embedding) -> None:
        super().__init__()
        self.tokens = tokens
        self.scale = math.sqrt(tokens.embedding_dim)
        self.positions = Positions(tokens.embedding_dim)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Embed `tokens` (batch, positions), real where `mask` is true. Returns (batch, positions, dim)."""
        number = (mask.cumsum(1) - 1).clamp_(min=0)
        embedded = self.tokens(tokens) * self.scale + self.positions(tokens.size(1))[number]
        return embedded * mask.unsqueeze(-1)
