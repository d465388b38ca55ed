"""The image autoencoder: strided convolutions, the EM bottleneck, and a likelihood of every value."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from fairseq.dataclass import ChoiceEnum
from fairseq.models import register_model
from torch import Tensor

from ..bottleneck.assignment import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE
from ..errors import UsageError
from ..launch import task_options
from ..modules.image_autoencoder import DOWNSAMPLING, ImageDecoder, ImageEncoder
from ..modules.likelihood import DENSITIES, MixtureLikelihood, to_unit
from ..options import MOST_CODES, MOST_LAYERS, MOST_WIDTH, option, require
from .options import complete, register_sizes
from .quantized import BottleneckConfig, QuantizedModel


@dataclass
class VQVAEConfig(BottleneckConfig):
    """Options of `--arch vq_vae_em`; the defaults are for CIFAR-10."""

    channels: int = option(
        128, "width of the convolutions at the grid of codes; half of it above", least=2, most=MOST_WIDTH
    )
    residual_blocks: int = option(
        2, "residual blocks at each of two resolutions, in encoder and decoder", least=0, most=MOST_LAYERS
    )
    latents_per_position: int = option(
        8,
        "codes at each position of the grid, which is a quarter as high and wide as the image",
        least=1,
        most=MOST_WIDTH,
    )
    likelihood: ChoiceEnum(sorted(DENSITIES)) = option(  # type: ignore[valid-type]
        "logistic", "components of the mixture that gives every pixel value its probability"
    )
    mixture_components: int = option(5, "components of that mixture", least=1, most=MOST_LAYERS)
    codebook_size: int = option(256, "number of codes (K)", least=1, most=MOST_CODES)
    code_dim: int = option(
        4,
        "width of a code vector; 0: the width of the model. The vectors of a position are normalised "
        "together: a single code needs more",
        least=0,
        most=MOST_WIDTH,
    )
    em_temperature: float = option(
        0.03,
        "temperature of the posterior; larger is softer, and wider code vectors need more. Watch "
        "'distinct_codes': far above 1, images are worse in validation than in training",
        least=LOWEST_TEMPERATURE,
        most=HIGHEST_TEMPERATURE,
    )
    em_decay: float = option(
        0.99, "decay of the codes' moving averages, one M step an update (lambda)", least=0, below=1
    )

    def check(self) -> None:
        """Raise `UsageError` for options that do not go together."""
        super().check()
        require(self, "channels", self.channels % 2 == 0, "an even number")
        values = (self.code_dim or self.channels) * self.latents_per_position
        require(self, "code_dim", values > 2, "3 values a position, over --latents-per-position codes")


SIZES: dict[str, dict[str, Any]] = {
    "vq_vae_em_tiny": dict(
        channels=32, residual_blocks=1, codebook_size=32, latents_per_position=4, mixture_components=2
    ),
}


@dataclass
class ImageOutput:
    """What a batch of images, or of their codes, returns.

    Attributes:
        losses: by name: `pixels` or `codes`, sums in nats; `commitment`, a weighted mean.
        codes: number of codes in the batch.
        metrics: 0-d tensors of this batch.
    """

    losses: dict[str, Tensor]
    codes: int
    metrics: dict[str, Tensor]


@register_model("vq_vae_em", dataclass=VQVAEConfig)
class VQVAE(QuantizedModel):
    """VQ-VAE (van den Oord et al., 2017) with the bottleneck of Roy et al. (2018, section 5)."""

    def __init__(self, config: VQVAEConfig, image_size: int) -> None:
        """
        Args:
            config: sizes and options, checked.
            image_size: height and width of the images.
        """
        super().__init__()
        self.config: VQVAEConfig = config
        self.image_size, self.grid = image_size, image_size // DOWNSAMPLING
        dim = config.code_dim or config.channels
        shape = (config.channels, config.residual_blocks, config.latents_per_position, dim)
        self.likelihood = MixtureLikelihood(str(config.likelihood), config.mixture_components)
        self.encoder = ImageEncoder(*shape)
        # A divergence counts once a code, where dimensions weigh a bottleneck's loss here.
        self.quantizer = self.build_quantizer(
            dim, config.latents_per_position / (3 * DOWNSAMPLING * DOWNSAMPLING)
        )
        self.decoder = ImageDecoder(*shape, features=self.likelihood.parameters_per_pixel)

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> "VQVAE":
        """Build the model for a task (fairseq's entry point).

        Raises:
            UsageError: an option is out of its range, or the task cannot drive this model.
        """
        if not getattr(task, "drives_vq_vae", False):
            name = getattr(task.cfg, "_name", type(task).__name__)
            missing = task_options("image_vq")
            raise UsageError(f"--arch vq_vae_em cannot be driven by --task {name}: add {missing}")
        return cls(complete(VQVAEConfig, cfg), task.cfg.image_size)

    @property
    def codes_shape(self) -> tuple[int, int, int]:
        """Codes of an image: height and width of the grid, codes a position."""
        return self.grid, self.grid, self.config.latents_per_position

    def encode(self, images: Tensor) -> Tensor:
        """Images (batch, 3, size, size), 0 to 255, to latent vectors (batch, codes of an image, dim)."""
        return self.encoder(to_unit(images).to(self._type))

    def decode(self, latents: Tensor) -> Tensor:
        """Latent vectors (batch, codes of an image, dim) to the features that `likelihood` reads."""
        return self.decoder(latents, self.grid, self.grid)

    def forward(self, images: Tensor, accumulate: bool = True) -> ImageOutput:
        """Losses of one batch.

        Args:
            images: (batch, 3, size, size), 0 to 255.
            accumulate: whether the batch counts for the codebook's M step; false for a dummy batch.
        """
        z = self.encode(images)
        out = self.bottleneck(z, None, accumulate)
        features = self.decode(self.latents(z, out))
        losses = {"pixels": -self.likelihood.log_probability(features, images).sum()}
        metrics: dict[str, Tensor] = {}
        if out is not None:
            losses["commitment"] = out.commitment_loss
            metrics = self.codebook_metrics(out)
        return ImageOutput(self.comparable(losses), z.size(0) * z.size(1), metrics)

    def digest(self) -> int:
        """A number that changes with the codebook: codes mean nothing to a model with another one.

        It is made of what is stored: what is computed differs in its last digits between processors.
        """
        stored = self.quantizer.state_dict()
        if "codebook" in stored:
            parts = [stored["codebook"]]
        elif stored:
            parts = [stored[name] for name in sorted(stored)]
        else:
            # A grid is the same for all models; what its codes stand for is not.
            parts = [self.quantizer.codebook, next(self.decoder.parameters())]
        found = hashlib.sha256()
        for part in parts:
            found.update(part.detach().float().cpu().contiguous().numpy().tobytes())
        return int.from_bytes(found.digest()[:7], "big")

    @torch.no_grad()
    def encode_codes(self, images: Tensor) -> Tensor:
        """Images (batch, 3, size, size), 0 to 255, to int64 codes (batch, grid, grid, codes a position)."""
        return self.quantizer(self.encode(images), accumulate=False).codes.view(-1, *self.codes_shape)

    @torch.no_grad()
    def decode_codes(self, codes: Tensor) -> Tensor:
        """Codes (batch, grid, grid, codes a position) to features of images, see `decode`."""
        return self.decode(self.quantizer.lookup(codes.flatten(1)).to(self._type))

    @property
    def _type(self) -> torch.dtype:
        """That of the weights: images and codes have their own."""
        return next(self.encoder.parameters()).dtype


register_sizes("vq_vae_em", SIZES)
