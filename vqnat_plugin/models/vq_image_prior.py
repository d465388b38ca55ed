"""The prior over the codes of pictures: an autoregressive Transformer over the grid, row by row."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model, register_model_architecture
from torch import Tensor, nn

from ..compat import UsageError
from ..modules.attention import KeyValues, TransformerStack
from .quantized import option
from .vq_vae import ImageOutput


@dataclass
class VQImagePriorConfig(FairseqDataclass):
    """Options of `--arch vq_image_prior`; the defaults are for CIFAR-10."""

    embed_dim: int = option(256, "width of the model")
    ffn_dim: int = option(1024, "hidden width of the feed-forward layers")
    attention_heads: int = option(4, "attention heads; they have to divide the width")
    layers: int = option(6, "Transformer layers")
    dropout: float = option(0.1, "dropout in embeddings, attention and feed-forward outputs")

    def check(self) -> None:
        """Raise `UsageError` for the first option that is out of its range."""
        for name in ("embed_dim", "ffn_dim", "attention_heads", "layers"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("dropout", 0 <= self.dropout < 1, "a value from 0 to below 1")
        divides = self.embed_dim % self.attention_heads == 0
        self._require("attention_heads", divides, "a divisor of --embed-dim")

    def _require(self, name: str, holds: bool, needed: str) -> None:
        if not holds:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: needs {needed}")


SIZES: dict[str, dict[str, Any]] = {
    "vq_image_prior_tiny": dict(embed_dim=32, ffn_dim=64, attention_heads=2, layers=1),
}


@register_model("vq_image_prior", dataclass=VQImagePriorConfig)
class VQImagePrior(BaseFairseqModel):
    """p(codes) = product of p(code | codes before it), in raster order, the codes of a position together."""

    digest: Tensor

    def __init__(
        self, config: VQImagePriorConfig, codebook_size: int, codes_shape: tuple[int, ...], digest: int = 0
    ) -> None:
        """
        Args:
            config: sizes and options, checked.
            codebook_size: number of codes K.
            codes_shape: codes of a picture: height and width of the grid, codes a position.
            digest: of the autoencoder whose codes these are; saved, so that no other is taken for it.
        """
        super().__init__()
        self.config, self.codebook_size, self.codes_shape = config, codebook_size, tuple(codes_shape)
        self.register_buffer("digest", torch.tensor(digest))
        dim = config.embed_dim
        self.embedding = nn.Embedding(codebook_size, dim)
        self.start = nn.Parameter(torch.randn(dim) * dim**-0.5)
        # One table for each of row, column and place within a position.
        self.positions = nn.ParameterList(
            nn.Parameter(torch.randn(size, dim) * dim**-0.5) for size in self.codes_shape
        )
        self.stack = TransformerStack(
            config.layers, dim, config.ffn_dim, config.attention_heads, config.dropout
        )
        self.output = nn.Linear(dim, codebook_size)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> "VQImagePrior":
        """Build the model for a task (fairseq's entry point).

        Raises:
            UsageError: an option is out of its range, or the task has no codes.
        """
        if getattr(task, "autoencoder", None) is None:
            raise UsageError("--arch vq_image_prior: add --task image_vq --codes-from CHECKPOINT")
        config = VQImagePriorConfig()
        for name in vars(config):
            if name != "_name" and getattr(cfg, name, None) is not None:
                setattr(config, name, getattr(cfg, name))
        config.check()
        codes = task.autoencoder
        return cls(config, codes.config.codebook_size, codes.codes_shape, codes.digest())

    @property
    def length(self) -> int:
        """Codes of a picture."""
        return math.prod(self.codes_shape)

    def _places(self) -> Tensor:
        """(codes of a picture, dim)."""
        rows, columns, slots = self.positions
        return (rows[:, None, None] + columns[None, :, None] + slots[None, None]).flatten(0, 2)

    def logits(self, codes: Tensor) -> Tensor:
        """Logits of every code given those before it: (batch, length) int64 to (batch, length, K)."""
        start = self.start.expand(codes.size(0), 1, -1)
        x = torch.cat([start, self.embedding(codes[:, :-1])], 1) + self._places()
        x, _ = self.stack(x, causal=True)
        return self.output(x)

    def log_probability(self, codes: Tensor) -> Tensor:
        """log p(codes of a picture) in nats: (batch, *codes_shape) int64 to (batch,)."""
        flat = codes.flatten(1)
        nats = F.cross_entropy(self.logits(flat).float().flatten(0, 1), flat.flatten(), reduction="none")
        return -nats.view_as(flat).sum(1)

    def forward(self, codes: Tensor) -> ImageOutput:
        """Losses of one batch of codes, (batch, *codes_shape) int64."""
        return ImageOutput({"codes": -self.log_probability(codes).sum()}, codes.numel(), {})

    @torch.no_grad()
    def sample(
        self, count: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw the codes of `count` pictures with cached keys and values: (count, *codes_shape) int64."""
        past: list[KeyValues] | None = None
        places, drawn = self._places(), []
        x = self.start.expand(count, -1)
        for position in range(self.length):
            states, past = self.stack((x + places[position])[:, None], past=past)
            probabilities = (self.output(states[:, 0]).float() / temperature).softmax(-1)
            code = torch.multinomial(probabilities, 1, generator=generator)
            drawn.append(code)
            x = self.embedding(code[:, 0])
        return torch.cat(drawn, 1).view(count, *self.codes_shape)


def _register(name: str, sizes: dict[str, Any]) -> None:
    @register_model_architecture("vq_image_prior", name)
    def architecture(args: Any) -> None:
        for entry, value in sizes.items():
            setattr(args, entry, getattr(args, entry, value))


for _name, _sizes in SIZES.items():
    _register(_name, _sizes)
