#!/usr/bin/env python3
"""A small VQ-VAE of images (batch, channels, height, width), with a loop of plain PyTorch.

The images are made up, rectangles on a shaded ground, so that it runs anywhere, in seconds. Yours go in their
place.
"""

import torch
from torch import Tensor, nn

from vqnat_plugin.bottleneck import EMVectorQuantizer


def images(count: int) -> Tensor:
    """(count, 3, 32, 32), from 0 to 1."""
    place = torch.linspace(0, 1, 32)
    shade = place[None, :, None] * torch.rand(count, 1, 1) + place[None, None] * torch.rand(count, 1, 1)
    colours, ground = torch.rand(2, count, 3, 1, 1)
    left, top = torch.randint(0, 20, (2, count, 1, 1))
    inside = torch.arange(32)
    across = (inside >= left) & (inside < left + 12)
    down = (inside[:, None] >= top) & (inside[:, None] < top + 12)
    return torch.where((across & down)[:, None], colours, ground * shade[:, None] / 2)


class Autoencoder(nn.Module):
    """32 x 32 pixels to 8 x 8 codes and back."""

    def __init__(self, width: int = 32, codes: int = 256, dim: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(width, dim, 1),
        )  # fmt: skip
        self.quantizer = EMVectorQuantizer(
            codes, dim, "monte_carlo", temperature=0.1, decay=0.99, channels="first"
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(dim, width, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(width, 3, 4, 2, 1)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstructions, codes (batch, 8, 8) and the commitment loss."""
        quantized, codes, loss = self.quantizer(self.encoder(x))
        return self.decoder(quantized), codes, loss


def main() -> None:
    torch.manual_seed(0)
    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    # The codebook starts from what the encoder gives for a first batch.
    model.quantizer.initialize_codebook(model.encoder(images(64)))
    for step in range(201):
        x = images(64)
        reconstruction, codes, loss = model(x)
        error = (reconstruction - x).square().mean()
        optimizer.zero_grad()
        (error + loss).backward()
        optimizer.step()
        model.quantizer.update_codebook()  # the M step: once for each step of the optimizer
        if step % 50 == 0:
            print(f"step {step}: error {error.item():.4f}, {len(codes.unique())} codes in use")


if __name__ == "__main__":
    main()
