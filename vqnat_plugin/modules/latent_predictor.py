"""The autoregressive model of the latents given the source: the only sequential part of decoding."""

import torch
from torch import Tensor, nn

from .attention import KeyValues, TransformerStack
from .embedding import Positions


class LatentPredictor(nn.Module):
    """p(codes | source): a causal Transformer over latents that sees the source (Roy et al., 2018, sec. 3).

    It reads code vectors and writes `codebook_size + 1` logits a step; the last one means that the sequence
    ends.
    """

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        dim: int,
        stack: TransformerStack,
    ) -> None:
        super().__init__()
        self.end = codebook_size
        self.codes = nn.Linear(code_dim, dim)
        self.start = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.positions = Positions(dim)
        self.stack = stack
        self.output = nn.Linear(dim, codebook_size + 1)

    def forward(self, latents: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Logits of every step, given the code vectors of the steps before (teacher forcing).

        Args:
            latents: code vectors, (batch, latents, code_dim).
            memory: encoded source, (batch, source positions, dim).
            memory_mask: true at real source positions.

        Returns:
            (batch, latents + 1, codebook size + 1).
        """
        start = self.start.to(memory.dtype).expand(latents.size(0), 1, -1)
        x = torch.cat([start, self.codes(latents).to(memory.dtype)], 1)
        x = x + self.positions(x.size(1)).to(x.dtype)
        x, _ = self.stack(x, causal=True, memory=self.stack.project(memory), memory_mask=memory_mask)
        return self.output(x)

    def step(
        self,
        latents: Tensor | None,
        position: int,
        rows: int,
        memory: list[KeyValues],
        memory_mask: Tensor,
        past: list[KeyValues] | None,
    ) -> tuple[Tensor, list[KeyValues]]:
        """Logits of one step, with the keys and values of the steps before.

        Args:
            latents: code vectors chosen at the step before, (rows, code_dim); None at the first step.
            position: number of this step, from 0.
            rows: batch * groups; consecutive rows share a row of `memory`.
            memory: see `TransformerStack.project`.
            past: what this method returned at the step before.

        Returns:
            Logits (rows, codebook size + 1) and the new keys and values.
        """
        dtype = memory[0].keys.dtype
        x = (
            self.start.expand(rows, -1)
            if latents is None
            else self.codes(latents.to(self.codes.weight.dtype))
        )
        x = x.to(dtype)[:, None] + self.positions(position + 1)[position].to(dtype)
        x, past = self.stack(x, memory=memory, memory_mask=memory_mask, past=past)
        return self.output(x[:, 0]), past
