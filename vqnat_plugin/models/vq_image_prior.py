"""The prior over the codes of images: a Transformer over the grid, a head for the codes of a place.

The two levels are those of the RQ-Transformer (Lee et al. 2022, arXiv 2203.01941, section 3.2), with a sum
where it has attention among the few codes of a place: the long sequence of codes costs only small layers.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model
from torch import Tensor, nn

from ..errors import UsageError
from ..launch import task_options
from ..modules.attention import FeedForward, KeyValues, TransformerStack
from ..options import MOST_LAYERS, MOST_WIDTH, option, require
from .options import complete, register_sizes
from .vq_vae import ImageOutput


@dataclass
class VQImagePriorConfig(FairseqDataclass):
    """Options of `--arch vq_image_prior`; the defaults are for CIFAR-10."""

    embed_dim: int = option(256, "width of the model", least=1, most=MOST_WIDTH)
    ffn_dim: int = option(1024, "hidden width of the feed-forward layers", least=1, most=MOST_WIDTH)
    attention_heads: int = option(4, "attention heads; they have to divide the width", least=1)
    layers: int = option(6, "Transformer layers, over the positions of the grid", least=1, most=MOST_LAYERS)
    head_layers: int = option(
        2, "feed-forward layers over the codes of a position", least=0, most=MOST_LAYERS
    )
    dropout: float = option(
        0.1, "dropout in embeddings, attention and feed-forward outputs", least=0, below=1
    )

    def check(self) -> None:
        """Raise `UsageError` for options that do not go together."""
        divides = self.embed_dim % self.attention_heads == 0
        require(self, "attention_heads", divides, "a divisor of --embed-dim")


SIZES: dict[str, dict[str, Any]] = {
    "vq_image_prior_tiny": dict(embed_dim=32, ffn_dim=64, attention_heads=2, layers=1, head_layers=1),
}


class CodesHead(nn.Module):
    """p(codes of a place | state): slot by slot, from the state and the sum of embeddings of codes before."""

    offsets: Tensor

    def __init__(
        self, slots: int, codebook_size: int, dim: int, hidden: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.slots, self.codebook_size = slots, codebook_size
        self.embedding = nn.Embedding(slots * codebook_size, dim)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        self.places = nn.Parameter(torch.randn(slots, dim) * dim**-0.5)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers))
        self.layers = nn.ModuleList(FeedForward(dim, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, codebook_size)
        self.register_buffer("offsets", torch.arange(slots) * codebook_size, persistent=False)

    def embed(self, codes: Tensor) -> Tensor:
        """Codes (..., slots) to embeddings (..., slots, dim), others for each slot."""
        return self.embedding(codes + self.offsets)

    def logits(self, states: Tensor) -> Tensor:
        """(..., dim), a state with everything that is known added, to (..., K)."""
        for norm, layer in zip(self.norms, self.layers, strict=True):
            states = states + layer(norm(states))
        return self.output(self.norm(states))

    def forward(self, states: Tensor, codes: Tensor) -> Tensor:
        """Logits of every code given those before it: (..., dim) and (..., slots) to (..., slots, K)."""
        embedded = self.embed(codes)
        # Not the sum less the code itself: what rounding leaves of that would tell which it is.
        before = F.pad(embedded[..., :-1, :].cumsum(-2), (0, 0, 1, 0))
        return self.logits(states[..., None, :] + before + self.places)


@register_model("vq_image_prior", dataclass=VQImagePriorConfig)
class VQImagePrior(BaseFairseqModel):
    """p(codes), the product of p(code | codes before it): place by place in raster order, slot by slot."""

    digest: Tensor

    def __init__(
        self, config: VQImagePriorConfig, codebook_size: int, codes_shape: tuple[int, ...], digest: int = 0
    ) -> None:
        """
        Args:
            config: sizes and options, checked.
            codebook_size: number of codes K.
            codes_shape: codes of an image: height and width of the grid, codes a place.
            digest: of the autoencoder whose codes these are; saved, so that no other is taken for it.
        """
        super().__init__()
        self.config, self.codebook_size, self.codes_shape = config, codebook_size, tuple(codes_shape)
        self.register_buffer("digest", torch.tensor(digest))
        dim = config.embed_dim
        rows, columns, slots = self.codes_shape
        self.embedding = nn.Embedding(slots * codebook_size, dim)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        self.start = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.rows = nn.Parameter(torch.randn(rows, dim) * dim**-0.5)
        self.columns = nn.Parameter(torch.randn(columns, dim) * dim**-0.5)
        self.stack = TransformerStack(
            config.layers, dim, config.ffn_dim, config.attention_heads, config.dropout
        )
        self.head = CodesHead(slots, codebook_size, dim, config.ffn_dim, config.head_layers, config.dropout)

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> "VQImagePrior":
        """Build the model for a task (fairseq's entry point).

        Raises:
            UsageError: an option is out of its range, or the task has no codes.
        """
        if getattr(task, "autoencoder", None) is None:
            missing = task_options("image_vq")
            raise UsageError(f"--arch vq_image_prior: add {missing} --codes-from CHECKPOINT")
        config = complete(VQImagePriorConfig, cfg)
        codes = task.autoencoder
        return cls(config, codes.config.codebook_size, codes.codes_shape, codes.digest())

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """Called by fairseq before a state is loaded.

        Raises:
            UsageError: it is of a prior over the codes of another autoencoder.
        """
        super().upgrade_state_dict_named(state_dict, name)
        digest = state_dict.get(f"{name}.digest" if name else "digest", self.digest)
        if int(digest) != int(self.digest):
            raise UsageError(
                "--codes-from: the prior was trained on the codes of another autoencoder; name that one, or "
                "another --save-dir"
            )

    def _positions(self) -> Tensor:
        """(places, dim)."""
        return (self.rows[:, None] + self.columns).flatten(0, 1)

    def _embed(self, codes: Tensor) -> Tensor:
        """Codes (..., slots) of places to (..., dim)."""
        return self.embedding(codes + self.head.offsets).sum(-2)

    def logits(self, codes: Tensor) -> Tensor:
        """Logits of codes given those before: (batch, *codes_shape) int64 to (batch, places, slots, K)."""
        flat = codes.flatten(1, 2)
        start = self.start.expand(codes.size(0), 1, -1)
        x = torch.cat([start, self._embed(flat[:, :-1])], 1) + self._positions()
        states, _ = self.stack(x, causal=True)
        return self.head(states, flat)

    def log_probability(self, codes: Tensor) -> Tensor:
        """log p(codes of an image) in nats: (batch, *codes_shape) int64 to (batch,)."""
        logits = self.logits(codes).float()
        nats = F.cross_entropy(logits.flatten(0, -2), codes.flatten(), reduction="none")
        return -nats.view(codes.size(0), -1).sum(1)

    def forward(self, codes: Tensor) -> ImageOutput:
        """Losses of one batch of codes, (batch, *codes_shape) of any integer type."""
        codes = codes.long()
        return ImageOutput({"codes": -self.log_probability(codes).sum()}, codes.numel(), {})

    @torch.no_grad()
    def sample(
        self, count: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw the codes of `count` images with cached keys and values: (count, *codes_shape) int64."""
        past: list[KeyValues] | None = None
        drawn = []
        x = self.start.expand(count, -1)
        for position in self._positions():
            states, past = self.stack((x + position)[:, None], past=past)
            known, place = states[:, 0], []
            for slot in range(self.head.slots):
                logits = self.head.logits(known + self.head.places[slot])
                probabilities = (logits.float() / temperature).softmax(-1)
                code = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
                place.append(code)
                known = known + self.head.embedding(code + self.head.offsets[slot])
            drawn.append(torch.stack(place, -1))
            x = self._embed(drawn[-1])
        return torch.stack(drawn, 1).view(count, *self.codes_shape)


register_sizes("vq_image_prior", SIZES)
