"""How well pictures are described: bits a dimension, use of the codes, and the error of reconstructions."""

import math
from typing import Any

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tqdm import tqdm

from ..analysis.latent_model import code_use
from ..models.vq_image_prior import VQImagePrior
from ..models.vq_vae import VQVAE
from ..modules.likelihood import bits_per_dim, to_levels


@torch.no_grad()
def evaluate(model: VQVAE, prior: VQImagePrior | None, images: Any, batch_size: int) -> dict[str, Any]:
    """Figures over all pictures.

    bits/dim = (-log p(picture | codes) - log p(codes)) / dimensions / ln 2, with the codes that the encoder
    gives: an upper bound of -log p(picture), because the posterior puts all its mass on them (van den Oord et
    al., 2017, section 3.2).

    Args:
        model: the autoencoder, in evaluation mode.
        prior: over its codes; None for the uniform one alone.
        images: (pictures, 3, size, size) uint8.
        batch_size: pictures at a time.

    Returns:
        `pictures`; `bits_per_dim` with `reconstruction`, `prior`, `total` (the last two None without a
        prior), `uniform_prior` and `total_uniform`; `bits_per_code` of the prior; `usage` and `perplexity` of
        the codes; `psnr` (dB) and `ssim` of expected pictures, means over pictures.
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
            # Two equal pictures have no finite figure: 8-bit values cannot tell errors below this one.
            psnr += 100.0 if np.array_equal(before, after) else peak_signal_noise_ratio(before, after)
            ssim += structural_similarity(before, after, channel_axis=0)
    count, dimensions = len(images), int(np.prod(images[0].shape))
    codes_a_picture = math.prod(model.codes_shape)
    uniform = bits_per_dim(codes_a_picture * math.log(model.config.codebook_size), dimensions)
    pixels = bits_per_dim(reconstruction / count, dimensions)
    learned = None if prior is None else bits_per_dim(described / count, dimensions)
    return {
        "pictures": count,
        "bits_per_dim": {
            "reconstruction": pixels,
            "prior": learned,
            "total": None if learned is None else pixels + learned,
            "uniform_prior": uniform,
            "total_uniform": pixels + uniform,
        },
        "bits_per_code": None if prior is None else described / count / codes_a_picture / math.log(2),
        **code_use(histogram.tolist(), model.config.codebook_size),
        "psnr": psnr / count,
        "ssim": ssim / count,
    }


def table(result: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    bits = result["bits_per_dim"]

    def shown(value: float | None, digits: int = 3) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    rows = [
        ("bits/dim, pictures given codes", shown(bits["reconstruction"])),
        ("bits/dim, codes, learned prior", shown(bits["prior"])),
        ("**bits/dim, learned prior**", shown(bits["total"])),
        ("bits/dim, codes, uniform prior", shown(bits["uniform_prior"])),
        ("bits/dim, uniform prior", shown(bits["total_uniform"])),
        ("bits a code, learned prior", shown(result["bits_per_code"], 2)),
        ("codes used", f"{100 * result['usage']:.1f}%"),
        ("perplexity of the codes", shown(result["perplexity"], 1)),
        ("PSNR of reconstructions, dB", shown(result["psnr"], 2)),
        ("SSIM of reconstructions", shown(result["ssim"])),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"| {'over ' + str(result['pictures']) + ' pictures':<{width}} |         |"]
    lines.append(f"| {'-' * width} | ------: |")
    return "\n".join([*lines, *(f"| {name:<{width}} | {value:>7} |" for name, value in rows)])
