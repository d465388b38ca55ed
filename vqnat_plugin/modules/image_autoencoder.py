"""Convolutional encoder and decoder of images, a quarter of the height and width between them.

Source: van den Oord et al. 2017 (arXiv 1711.00937), section 4.1: strided convolutions and residual blocks.
Ours is a linear path beside them, from every patch of 4x4 pixels to its vectors and back: without it the
convolutions spend thousands of updates on passing pixels through.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DOWNSAMPLING = 4


class ResidualBlock(nn.Module):
    """ReLU, a 3x3 and a 1x1 convolution, added to the input; it starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 3, padding=1)
        self.narrow = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to the same."""
        return x + self.narrow(F.relu(self.wide(F.relu(x))))


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


class ImageEncoder(nn.Module):
    """Images to `latents` vectors of size `dim` at each position of a grid.

    One layer norm over all vectors of a position: distances to codes start at one scale whatever the sizes,
    and it takes two values of a position, not two of every short vector.

    Args:
        channels: width at the grid; half of it at twice the resolution.
        blocks: residual blocks at each of the two resolutions.
        latents: vectors a position.
        dim: size of a vector.
    """

    def __init__(self, channels: int, blocks: int, latents: int, dim: int) -> None:
        super().__init__()
        self.latents, self.dim = latents, dim
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels // 2, 4, stride=2, padding=1),
            _blocks(channels // 2, blocks),
            nn.ReLU(),
            nn.Conv2d(channels // 2, channels, 4, stride=2, padding=1),
            _blocks(channels, blocks),
            nn.ReLU(),
            nn.Conv2d(channels, latents * dim, 1),
        )
        self.linear = nn.Conv2d(3, latents * dim, DOWNSAMPLING, stride=DOWNSAMPLING)
        self.norm = nn.LayerNorm(latents * dim)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, 3, height, width), -1 to 1, to (batch, grid positions * latents, dim), row by row."""
        images = images.contiguous(memory_format=torch.channels_last)
        x = self.layers(images) + self.linear(images)
        return self.norm(x.permute(0, 2, 3, 1)).reshape(x.size(0), -1, self.dim)


class ImageDecoder(nn.Module):
    """The way back: vectors of the grid to features of every pixel. Arguments as for `ImageEncoder`.

    Args:
        features: values a pixel.
    """

    def __init__(self, channels: int, blocks: int, latents: int, dim: int, features: int) -> None:
        super().__init__()
        self.latents = latents
        self.layers = nn.Sequential(
            nn.Conv2d(latents * dim, channels, 3, padding=1),
            _blocks(channels, blocks),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1),
            _blocks(channels // 2, blocks),
            nn.ReLU(),
            nn.ConvTranspose2d(channels // 2, channels // 2, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels // 2, features, 1),
        )
        self.linear = nn.Conv2d(latents * dim, features * DOWNSAMPLING**2, 1)
        # The start is the convolutions' alone, whose features are small.
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)  # type: ignore[arg-type]

    def forward(self, vectors: Tensor, height: int, width: int) -> Tensor:
        """(batch, height * width * latents, dim) of a grid to (batch, features, 4 * height, 4 * width)."""
        grid = vectors.reshape(vectors.size(0), height, width, -1).permute(0, 3, 1, 2)
        return self.layers(grid) + F.pixel_shuffle(self.linear(grid), DOWNSAMPLING)
