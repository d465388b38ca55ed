"""Tiny images and image models for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tiny import parse

from vqnat_plugin.models.vq_image_prior import VQImagePrior, VQImagePriorConfig
from vqnat_plugin.models.vq_vae import VQVAE, VQVAEConfig

SIZE = 8
TRAIN, HELD_OUT, TEST = 48, 8, 12

AUTOENCODER = (
    "--user-dir vqnat_plugin --task image_vq --arch vq_vae_em_tiny --criterion vq_vae_loss"
    f" --image-size {SIZE} --valid-size {HELD_OUT} --channels 16 --codebook-size 8 --code-dim 4"
    " --unquantized-updates 3"
)
PRIOR = (
    "--user-dir vqnat_plugin --task image_vq --arch vq_image_prior_tiny --criterion vq_vae_loss"
    f" --image-size {SIZE} --valid-size {HELD_OUT} --dropout 0"
)
TRAINING = (
    "--optimizer adam --lr 0.003 --batch-size 10 --seed 1 --cpu --num-workers 0 --no-progress-bar"
    " --log-format none --required-batch-size-multiple 1 --no-epoch-checkpoints"
)


def make_images(count: int, seed: int) -> np.ndarray:
    """(count, 3, SIZE, SIZE) uint8: a light square on dark ground, of one colour each."""
    random = np.random.default_rng(seed)
    made = np.empty((count, 3, SIZE, SIZE), np.uint8)
    for image in made:
        image[:] = random.integers(0, 64, (3, 1, 1))
        top, left = random.integers(0, SIZE // 2, 2)
        image[:, top : top + SIZE // 2, left : left + SIZE // 2] = random.integers(192, 256, (3, 1, 1))
    return made


def write_folder(root: Path) -> Path:
    """`train` and `test` with two class folders of PNG files."""
    for split, count, seed in (("train", TRAIN, 1), ("test", TEST, 2)):
        for number, image in enumerate(make_images(count, seed)):
            file = root / split / "ab"[number % 2] / f"{number:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(file)
    return root


def tiny_autoencoder(seed: int = 1, **changes: Any) -> VQVAE:
    """A model with random weights and codes, in evaluation mode."""
    torch.manual_seed(seed)
    sizes = dict(
        channels=8, residual_blocks=1, latents_per_position=1, codebook_size=6, code_dim=4,
        mixture_components=2, bottleneck="hard", unquantized_updates=0,
    )  # fmt: skip
    config = VQVAEConfig(**(sizes | changes))
    config.check()
    model = VQVAE(config, SIZE)
    for block in model.modules():
        # Residual blocks start as the identity; then their gradients would say nothing.
        if isinstance(block, torch.nn.Conv2d):
            torch.nn.init.normal_(block.weight, std=0.2)
    if hasattr(model.quantizer, "set_codebook"):
        codes = torch.randn(model.quantizer.codebook.shape)
        model.quantizer.set_codebook(torch.nn.functional.layer_norm(codes, codes.shape[1:]))
    return model.eval()


def tiny_prior(
    seed: int = 1, codes: int = 6, shape: tuple[int, int, int] = (2, 2, 2), digest: int = 0
) -> VQImagePrior:
    """A prior with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    config = VQImagePriorConfig(
        embed_dim=16, ffn_dim=32, attention_heads=2, layers=2, head_layers=1, dropout=0.0
    )
    return VQImagePrior(config, codes, shape, digest).eval()


def train_images(data: Path, out: Path, kind: str, *flags: str) -> Path:
    """Run fairseq-train in this process with `AUTOENCODER` or `PRIOR`, `TRAINING` and further flags."""
    from fairseq_cli import train

    train.main(parse([str(data), "--save-dir", str(out), *kind.split(), *TRAINING.split(), *flags]))
    return out / "checkpoint_last.pt"
