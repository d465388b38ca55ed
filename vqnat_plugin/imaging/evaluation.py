"""How well images are described: bits a dimension, use of the codes, and the error of reconstructions."""

import math
from typing import Any

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tqdm import tqdm

from ..analysis.code_use import code_use
from ..models.vq_image_prior import VQImagePrior
from ..models.vq_vae import VQVAE
from ..modules.likelihood import bits_per_dim, to_levels

# dB.
MOST_PSNR = 100.0


@torch.no_grad()
def evaluate(model: VQVAE, prior: VQImagePrior | None, images: Any, batch_size: int) -> dict[str, Any]:
    """Figures over all images.

    bits/dim = (-log p(image | codes) - log p(codes)) / dimensions / ln 2, with the codes that the encoder
    gives: an upper bound of -log p(image), because the posterior puts all its mass on them (van den Oord et
    al., 2017, section 3.2).

    Args:
        model: the autoencoder, in evaluation mode.
        prior: over its codes; None for the uniform one alone.
        images: (images, 3, size, size) uint8.
        batch_size: images at a time.

    Returns:
        `images`; `bits_per_dim` with `reconstruction`, `prior`, `total` (the last two None without a
        prior), `uniform_prior` and `total_uniform`; `bits_per_code` of the prior; `codebook_size`, `usage`
        and `perplexity` of the codes; `psnr` (dB) and `ssim` of expected images, means over images.
    """
    device = next(model.parameters()).device
    reconstruction = described = psnr = ssim = 0.0
    histogram = torch.zeros(model.config.codebook_size, dtype=torch.int64)
    for start in tqdm(range(0, len(images), batch_size), "evaluate", unit="batch", mininterval=1):
        originals = np.ascontiguousarray(images[start : start + batch_size])
        batch = torch.from_numpy(originals).to(device)
        codes = model.encode_codes(batch)
        features = model.decode_codes(codes)
        reconstruction -= float(model.likelihood.log_probability(features, batch).double().sum())
        if prior is not None:
            described -= float(prior.log_probability(codes).double().sum())
        histogram += torch.bincount(codes.flatten().cpu(), minlength=len(histogram))
        for before, after in zip(
            originals, to_levels(model.likelihood.mean(features)).cpu().numpy(), strict=True
        ):
            # Two equal images have no finite figure; none counts for more than they do.
            equal = np.array_equal(before, after)
            psnr += MOST_PSNR if equal else min(MOST_PSNR, peak_signal_noise_ratio(before, after))
            # Windows are odd, and no wider than images.
            window = min(7, (before.shape[1] - 1) | 1)
            ssim += structural_similarity(before, after, win_size=window, channel_axis=0)
    count, dimensions = len(images), int(np.prod(images[0].shape))
    codes_an_image = math.prod(model.codes_shape)
    uniform = bits_per_dim(codes_an_image * math.log(model.config.codebook_size), dimensions)
    pixels = bits_per_dim(reconstruction / count, dimensions)
    learned = None if prior is None else bits_per_dim(described / count, dimensions)
    return {
        "images": count,
        "bits_per_dim": {
            "reconstruction": pixels,
            "prior": learned,
            "total": None if learned is None else pixels + learned,
            "uniform_prior": uniform,
            "total_uniform": pixels + uniform,
        },
        "bits_per_code": None if prior is None else described / count / codes_an_image / math.log(2),
        "codebook_size": model.config.codebook_size,
        **code_use(histogram.tolist(), model.config.codebook_size),
        "psnr": psnr / count,
        "ssim": ssim / count,
    }
