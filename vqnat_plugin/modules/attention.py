"""Multi-head attention and Transformer layers, batch first, with cached keys and values for decoding."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class KeyValues:
    """Projected keys and values, each (batch, heads, positions, head dim)."""

    keys: Tensor
    values: Tensor

    def append(self, other: "KeyValues") -> "KeyValues":
        """These positions followed by those of `other`."""
        return KeyValues(torch.cat([self.keys, other.keys], 2), torch.cat([self.values, other.values], 2))

    def select(self, rows: Tensor) -> "KeyValues":
        """The given batch rows (int64), in that order."""
        return KeyValues(self.keys.index_select(0, rows), self.values.index_select(0, rows))


class Attention(nn.Module):
    """Scaled dot-product attention with `heads` heads (Vaswani et al., 2017, section 3.2).

    Raises:
        ValueError: `heads` do not divide `dim`.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} attention heads do not divide dimension {dim}")
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.size(0), x.size(1), self.heads, -1).transpose(1, 2)

    def project(self, memory: Tensor) -> KeyValues:
        """Keys and values of `memory` (batch, positions, dim), to be used many times."""
        return KeyValues(self._split(self.key(memory)), self._split(self.value(memory)))

    def forward(
        self, x: Tensor, memory: KeyValues, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Attend from `x` to `memory`.

        Args:
            x: queries, (batch * groups, positions, dim). With groups > 1, consecutive rows share one row of
                `memory`, which is then neither copied nor expanded.
            memory: keys and values of (batch) rows.
            mask: true where a memory position may be seen, (batch, memory positions).
            causal: position i sees memory positions up to i only; excludes `mask`.

        Returns:
            (batch * groups, positions, dim).
        """
        shape = x.shape
        queries = self._split(self.query(x).view(memory.keys.size(0), -1, shape[-1]))
        attended = F.scaled_dot_product_attention(
            queries,
            memory.keys,
            memory.values,
            attn_mask=None if mask is None else mask[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        return self.out(attended.transpose(1, 2).reshape(shape))


class FeedForward(nn.Sequential):
    """Two linear layers with a ReLU between them."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        inner, outer = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        super().__init__(inner, nn.ReLU(), nn.Dropout(dropout), outer)
        for layer in (inner, outer):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


class TransformerLayer(nn.Module):
    """A pre-norm Transformer layer: self-attention, attention to a memory if asked for, feed-forward."""

    def __init__(
        self, dim: int, hidden: int, heads: int, dropout: float, attention_dropout: float, cross: bool
    ) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(dim)
        self.self_attention = Attention(dim, heads, attention_dropout)
        self.cross_norm = nn.LayerNorm(dim) if cross else None
        self.cross_attention = Attention(dim, heads, attention_dropout) if cross else None
        self.feed_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, hidden, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        memory: KeyValues | None = None,
        memory_mask: Tensor | None = None,
        past: KeyValues | None = None,
    ) -> tuple[Tensor, KeyValues]:
        """One layer over `x` (batch, positions, dim).

        Args:
            mask: true where a position of `x` may be seen, (batch, positions).
            causal: each position sees itself and those before it.
            memory: projected memory, for a layer with cross-attention; see `Attention.forward` on groups.
            memory_mask: true where the memory may be seen, (batch, memory positions).
            past: keys and values of the positions before `x`, all visible (then `x` is one position).

        Returns:
            The output, shaped like `x`, and the keys and values of all positions so far.

        Raises:
            ValueError: a layer with cross-attention is given no memory, or one without is given some.
        """
        if (memory is None) != (self.cross_attention is None):
            without = "with cross-attention needs" if memory is None else "without cross-attention takes no"
            raise ValueError(f"a layer {without} memory")
        normed = self.self_norm(x)
        seen = self.self_attention.project(normed)
        if past is not None:
            seen = past.append(seen)
        x = x + self.dropout(self.self_attention(normed, seen, mask, causal))
        if self.cross_attention is not None and self.cross_norm is not None:
            x = x + self.dropout(self.cross_attention(self.cross_norm(x), memory, memory_mask))
        return x + self.dropout(self.feed_forward(self.feed_norm(x))), seen


class TransformerStack(nn.Module):
    """Layers of one kind and the final layer norm of a pre-norm Transformer."""

    def __init__(
        self,
        layers: int,
        dim: int,
        hidden: int,
        heads: int,
        dropout: float,
        attention_dropout: float = 0.0,
        cross: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(dim, hidden, heads, dropout, attention_dropout, cross) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def project(self, memory: Tensor) -> list[KeyValues]:
        """The memory's keys and values, for each layer."""
        return [layer.cross_attention.project(memory) for layer in self.layers]  # type: ignore[union-attr,operator]

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        memory: list[KeyValues] | None = None,
        memory_mask: Tensor | None = None,
        past: list[KeyValues] | None = None,
    ) -> tuple[Tensor, list[KeyValues]]:
        """All layers over `x`; arguments as in `TransformerLayer.forward`, lists hold one entry a layer."""
        x = self.dropout(x)
        seen = []
        for number, layer in enumerate(self.layers):
            x, keys_values = layer(
                x,
                mask,
                causal,
                memory[number] if memory is not None else None,
                memory_mask,
                past[number] if past is not None else None,
            )
            seen.append(keys_values)
        return self.norm(x), seen
