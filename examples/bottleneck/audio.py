#!/usr/bin/env python3
"""Sound in several codebooks (batch, channels, time): a small neural codec with residual quantisation.

The sound is made up, a few harmonics that fade. Fewer levels give fewer bits: a decoder of all of them serves
any number, since some samples are coded with the first levels alone in training.
"""

import math

import torch
from torch import Tensor, nn

from vqnat_plugin.bottleneck import ResidualEMQuantizer

RATE, SECONDS, HOP, LEVELS, CODES = 4000, 0.5, 16, 6, 64


def sounds(count: int) -> Tensor:
    """(count, 1, samples): three harmonics each, from -1 to 1."""
    time = torch.arange(int(RATE * SECONDS)) / RATE
    pitch = 100 * 2 ** (2 * torch.rand(count, 1, 1))
    harmonics = torch.tensor([1.0, 2.0, 3.0])[:, None]
    waves = torch.sin(2 * math.pi * pitch * harmonics * time + 6 * torch.rand(count, 3, 1))
    fade = torch.exp(-time * 8 * torch.rand(count, 3, 1))
    return (waves * fade * torch.rand(count, 3, 1)).sum(dim=1, keepdim=True) / 3


class Codec(nn.Module):
    """HOP samples to a frame, and each frame to LEVELS codes."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(1, width, HOP, HOP), nn.GELU(), nn.Conv1d(width, width, 3, padding=1)
        )
        self.quantizer = ResidualEMQuantizer(
            LEVELS, CODES, width, level_dropout=0.5, decay=0.95, channels="first", update="forward"
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(width, width, 3, padding=1), nn.GELU(), nn.ConvTranspose1d(width, 1, HOP, HOP)
        )


def main() -> None:
    torch.manual_seed(0)
    codec = Codec()
    optimizer = torch.optim.Adam(codec.parameters(), 2e-3)
    for step in range(251):
        x = sounds(32)
        quantized, _, loss = codec.quantizer(codec.encoder(x))
        error = (codec.decoder(quantized) - x).square().mean()
        optimizer.zero_grad()
        (error + 0.1 * loss).backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: error {error.item():.5f}")
    codec.eval()
    x = sounds(64)
    with torch.no_grad():
        codes = codec.quantizer.encode(codec.encoder(x))  # (batch, frames, levels): what is stored or sent
        for levels in range(1, LEVELS + 1):
            vectors = codec.quantizer.lookup(codes[..., :levels]).movedim(-1, 1)
            error = (codec.decoder(vectors) - x).square().mean()
            bits = RATE / HOP * levels * math.log2(CODES)
            print(f"{levels} levels, {bits:.0f} bits a second: {10 * (x.var() / error).log10():.1f} dB")


if __name__ == "__main__":
    main()
