"""Every option of the translation model with its help and range; sizes of the named architectures."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass

from ..compat import UsageError

# The E step of each kind of bottleneck; None: without EM.
BOTTLENECKS = {"em": "monte_carlo", "hard": "hard", "posterior": "posterior", "gumbel": None}


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class VQNATConfig(FairseqDataclass):
    """Options of `--arch vq_nat_em`; the defaults are the paper's base model."""

    embed_dim: int = _option(512, "width of the model")
    ffn_dim: int = _option(4096, "hidden width of the feed-forward layers")
    attention_heads: int = _option(4, "attention heads; they have to divide the width")
    encoder_layers: int = _option(6, "Transformer layers of the source encoder")
    predictor_layers: int = _option(6, "Transformer layers of the latent predictor")
    decoder_layers: int = _option(6, "Transformer layers of the parallel decoder")
    compressor_layers: int = _option(
        0, "Transformer layers with attention to the source in front of the compressor's convolutions"
    )
    dropout: float = _option(0.1, "dropout in embeddings, attention and feed-forward outputs")
    attention_dropout: float = _option(0.0, "dropout on attention weights")
    conv_dropout: float = _option(0.2, "dropout in the convolutions of compressor and upsampler")

    bottleneck: ChoiceEnum(list(BOTTLENECKS)) = _option(  # type: ignore[valid-type]  # noqa: RUF009
        "em",
        "E step: 'em' draws --em-samples codes from the posterior, 'posterior' uses all of it, 'hard' takes "
        "the nearest code (K-means). 'gumbel' is a baseline without EM, Gumbel-softmax trained by gradients; "
        "it wants --unquantized-updates 0",
    )
    codebook_size: int = _option(4096, "number of codes (K)")
    code_dim: int = _option(0, "width of a code vector; 0: the width of the model")
    compress_steps: int = _option(3, "halvings of the target (n_c): one latent stands for 2^n_c words")
    em_samples: int = _option(10, "codes drawn from the posterior of each latent (m), with --bottleneck em")
    em_temperature: float = _option(
        1.0, "temperature of the posterior; larger is softer. Watch 'posterior_entropy' and 'distinct_codes'"
    )
    gumbel_temperature: float = _option(
        1.0, "temperature of the relaxed draw whose gradient is used, with --bottleneck gumbel"
    )
    em_decay: float = _option(0.999, "decay of the codes' moving averages, one M step an update (lambda)")
    em_epsilon: float = _option(1e-5, "Laplace smoothing of the codes' counts")
    commitment_weight: float = _option(0.25, "weight of the commitment loss (beta)")
    codebook_init: ChoiceEnum(["data", "random"]) = _option(  # type: ignore[valid-type]  # noqa: RUF009
        "data",
        "start of the codebook: K-means of encoder outputs ('data'), or random vectors with zero counts as "
        "in the paper's reference code ('random')",
    )
    code_revival: float = _option(
        0.1,
        "replace a code by an encoder output when its average count falls under this share of the mean "
        "count; 0: never",
    )
    code_revival_until: int = _option(0, "last update at which codes are replaced; 0: no end")
    unquantized_updates: int = _option(
        200,
        "updates that train the autoencoder without the bottleneck, at the start; with --codebook-init data "
        "at least one, since the codes start from the last of them",
    )

    decoder_attention: ChoiceEnum(["bidirectional", "causal"]) = _option(  # type: ignore[valid-type]  # noqa: RUF009
        "bidirectional",
        "self-attention of the parallel decoder: 'bidirectional' sees all latents at once; 'causal' with "
        "--gold-mixing-updates is the paper's reference code",
    )
    gold_mixing_updates: int = _option(
        0,
        "with --decoder-attention causal: updates over which true target words in the decoder's input give "
        "way to latents (the reference code: 50000); 0: latents only",
    )
    latent_weight: float = _option(1.0, "weight of the latent predictor's loss")
    latent_start: int = _option(0, "update from which on the latent predictor is trained")
    predictor_gradient: ChoiceEnum(["detached", "joint"]) = _option(  # type: ignore[valid-type]  # noqa: RUF009
        "detached",
        "whether the latent predictor's loss also trains the compressor, through its input ('joint')",
    )
    train_only: ChoiceEnum(["all", "predictor"]) = _option(  # type: ignore[valid-type]  # noqa: RUF009
        "all",
        "what is trained: 'predictor' leaves everything else as it is, for a run behind that of the whole "
        "model (with --finetune-from-model)",
    )
    label_smoothing: float = _option(0.0, "label smoothing of the word loss")
    init_from_teacher: Optional[str] = _option(  # noqa: UP045 (fairseq reads this annotation)
        None,
        "start from this autoregressive Transformer (pre-norm, same width and dictionary): its encoder, "
        "embeddings, and its decoder layers for decoder and predictor",
    )

    def check(self) -> None:
        """Raise `UsageError` for the first option that is out of its range."""
        at_least = {
            "embed_dim": 1, "ffn_dim": 1, "attention_heads": 1, "encoder_layers": 1, "predictor_layers": 1,
            "decoder_layers": 1, "compressor_layers": 0, "codebook_size": 1, "code_dim": 0,
            "compress_steps": 0, "em_samples": 1, "commitment_weight": 0,
            "code_revival_until": 0, "unquantized_updates": 0, "gold_mixing_updates": 0, "latent_weight": 0,
            "latent_start": 0,
        }  # fmt: skip
        for name, least in at_least.items():
            self._require(name, least <= getattr(self, name) < math.inf, f"at least {least}")
        below_one = "dropout attention_dropout conv_dropout em_decay code_revival label_smoothing"
        for name in below_one.split():
            self._require(name, 0 <= getattr(self, name) < 1, "a value from 0 to below 1")
        for name in ("em_temperature", "em_epsilon", "gumbel_temperature"):
            self._require(name, 0 < getattr(self, name) < math.inf, "a value above 0")
        self._require("compress_steps", self.compress_steps <= 6, "at most 6")
        self._require(
            "attention_heads", self.embed_dim % self.attention_heads == 0, "a divisor of --embed-dim"
        )
        self._require(
            "gold_mixing_updates",
            self.gold_mixing_updates == 0 or self.decoder_attention == "causal",
            "--decoder-attention causal",
        )

    def _require(self, name: str, holds: bool, needed: str) -> None:
        if not holds:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: needs {needed}")


SIZES: dict[str, dict[str, Any]] = {
    "vq_nat_em_tiny": dict(
        embed_dim=128, ffn_dim=512, encoder_layers=2, predictor_layers=2, decoder_layers=2,
        codebook_size=256, compress_steps=2, em_decay=0.99,
    ),
    "vq_nat_em_small": dict(
        embed_dim=256, ffn_dim=1024, encoder_layers=3, predictor_layers=3, decoder_layers=3,
        codebook_size=512, compress_steps=2, em_decay=0.99,
    ),
    "vq_nat_em_big": dict(embed_dim=1024, ffn_dim=4096, attention_heads=16, dropout=0.3),
}  # fmt: skip


def complete(args: Any) -> VQNATConfig:
    """A whole configuration from what fairseq passes: a namespace, or a configuration of its own kind."""
    config = VQNATConfig()
    for entry in dataclasses.fields(VQNATConfig):
        if entry.name != "_name" and getattr(args, entry.name, None) is not None:
            setattr(config, entry.name, getattr(args, entry.name))
    config.check()
    return config
