"""From target tokens to few latent vectors."""

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import KeyValues, TransformerStack
from .convolution import ResidualBlock


def latent_count(length: int, steps: int) -> int:
    """Number of latents of `length` positions after `steps` halvings: ceil(length / 2^steps)."""
    return -(-length // (1 << steps))


def pad_to_blocks(x: Tensor, mask: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Append masked positions until the length is a multiple of 2^steps."""
    missing = -x.size(1) % (1 << steps)
    return F.pad(x, (0, 0, 0, missing)), F.pad(mask, (0, missing))


def latent_mask(mask: Tensor, steps: int) -> Tensor:
    """Which latents stand for at least one real position: (batch, positions) to (batch, latents)."""
    padded = F.pad(mask, (0, -mask.size(1) % (1 << steps)))
    return padded.unflatten(1, (-1, 1 << steps)).any(-1)


class Compressor(nn.Module):
    """The posterior encoder: residual blocks at full length, then `steps` convolutions of width and stride 2.

    The last layer norm has no gain and no bias, so that every latent vector has the same length: distances to
    the codes keep their scale, and with it the softness of the posterior (Kaiser et al., 2018, section 3; Roy
    et al., 2018, section 3).
    """

    def __init__(
        self, dim: int, code_dim: int, steps: int, dropout: float, attention: TransformerStack | None = None
    ) -> None:
        """
        Args:
            dim: width of the model.
            code_dim: width of the latent vectors.
            steps: number of halvings (n_c in the paper).
            attention: layers that run before the convolutions and see the source.
        """
        super().__init__()
        self.steps = steps
        self.attention = attention
        self.blocks = nn.ModuleList(ResidualBlock(dim, dropout) for _ in range(max(1, steps)))
        self.halvings = nn.ModuleList(nn.Conv1d(dim, dim, kernel_size=2, stride=2) for _ in range(steps))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(steps))
        self.project = nn.Linear(dim, code_dim)
        self.norm = nn.LayerNorm(code_dim, elementwise_affine=False)

    def forward(
        self, x: Tensor, mask: Tensor, memory: Tensor | None = None, memory_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compress `x` (batch, positions, dim), real where `mask` (batch, positions) is true.

        Args:
            memory: the encoded source (batch, source positions, dim), for a compressor with attention.

        Returns:
            Latent vectors (batch, latents, code_dim) and their mask (batch, latents), latents =
            ceil(positions / 2^steps).

        Raises:
            ValueError: a compressor with attention is given no memory.
        """
        if self.attention is not None:
            if memory is None:
                raise ValueError("a compressor with attention needs memory")
            projected: list[KeyValues] = self.attention.project(memory)
            x, _ = self.attention(x, mask, memory=projected, memory_mask=memory_mask)
        x, mask = pad_to_blocks(x, mask, self.steps)
        for block in self.blocks:
            x = block(x, mask)
        for halving, norm in zip(self.halvings, self.norms, strict=True):
            x = norm(halving((x.relu() * mask.unsqueeze(-1)).transpose(1, 2)).transpose(1, 2))
            mask = latent_mask(mask, 1)
        return self.norm(self.project(x)), mask
