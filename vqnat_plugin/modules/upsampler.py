"""From latent vectors back to one vector a target position."""

from torch import Tensor, nn

from .convolution import ResidualBlock
from .embedding import Positions


class Upsampler(nn.Module):
    """`steps` doublings, each a residual block and a linear layer (Kaiser et al., 2018, section 3).

    Positions are added before and after, so that equal codes at different places differ.
    """

    def __init__(self, code_dim: int, dim: int, steps: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(code_dim, dim)
        self.blocks = nn.ModuleList(ResidualBlock(dim, dropout) for _ in range(steps))
        self.doublings = nn.ModuleList(nn.Linear(dim, 2 * dim) for _ in range(steps))
        self.positions = Positions(dim)

    def forward(self, latents: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Stretch `latents` (batch, latents, code_dim), real where `mask` (batch, latents) is true.

        Returns:
            (batch, latents * 2^steps, dim) and the mask of its positions.
        """
        x = self.project(latents)
        x = x + self.positions(x.size(1)).to(x.dtype)
        for block, doubling in zip(self.blocks, self.doublings, strict=True):
            x = block(x, mask)
            x = doubling(x).unflatten(-1, (2, -1)).flatten(1, 2)
            mask = mask.repeat_interleave(2, dim=1)
        return x + self.positions(x.size(1)).to(x.dtype), mask
