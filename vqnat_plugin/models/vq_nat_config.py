"""Every option of the translation model with its help and range; sizes of the named architectures."""

from dataclasses import dataclass
from typing import Any, Optional

from fairseq.dataclass import ChoiceEnum

from ..options import MOST_LAYERS, MOST_WIDTH, option, require
from .quantized import BottleneckConfig


@dataclass
class VQNATConfig(BottleneckConfig):
    """Options of `--arch vq_nat_em`; the default sizes are those of the paper's base model."""

    embed_dim: int = option(512, "width of the model", least=1, most=MOST_WIDTH)
    ffn_dim: int = option(4096, "hidden width of the feed-forward layers", least=1, most=MOST_WIDTH)
    attention_heads: int = option(4, "attention heads; they have to divide the width", least=1)
    encoder_layers: int = option(6, "Transformer layers of the source encoder", least=1, most=MOST_LAYERS)
    predictor_layers: int = option(6, "Transformer layers of the latent predictor", least=1, most=MOST_LAYERS)
    decoder_layers: int = option(6, "Transformer layers of the parallel decoder", least=1, most=MOST_LAYERS)
    compressor_layers: int = option(
        0,
        "Transformer layers with attention to the source in front of the compressor's convolutions",
        least=0,
        most=MOST_LAYERS,
    )
    dropout: float = option(
        0.1, "dropout in embeddings, attention and feed-forward outputs", least=0, below=1
    )
    attention_dropout: float = option(0.0, "dropout on attention weights", least=0, below=1)
    conv_dropout: float = option(
        0.2, "dropout in the convolutions of compressor and upsampler", least=0, below=1
    )

    compress_steps: int = option(
        3, "halvings of the target (n_c): one latent stands for 2^n_c words", least=0, most=6
    )
    decoder_attention: ChoiceEnum(["bidirectional", "causal"]) = option(  # type: ignore[valid-type]
        "bidirectional",
        "self-attention of the parallel decoder: 'bidirectional' sees all latents at once; 'causal' with "
        "--gold-mixing-updates is the paper's reference code",
    )
    gold_mixing_updates: int = option(
        0,
        "with --decoder-attention causal: updates over which true target words in the decoder's input give "
        "way to latents (the reference code: 50000); 0: latents only",
        least=0,
    )
    latent_weight: float = option(1.0, "weight of the latent predictor's loss", least=0)
    latent_start: int = option(0, "update from which on the latent predictor is trained", least=0)
    predictor_gradient: ChoiceEnum(["detached", "joint"]) = option(  # type: ignore[valid-type]
        "detached",
        "whether the latent predictor's loss also trains the compressor, through its input ('joint')",
    )
    label_smoothing: float = option(0.0, "label smoothing of the word loss", least=0, below=1)
    init_from_teacher: Optional[str] = option(  # noqa: UP045 (fairseq reads this annotation)
        None,
        "start from this autoregressive Transformer (pre-norm, same width and dictionary): its encoder, "
        "embeddings, and its decoder layers for decoder and predictor",
    )

    def check(self) -> None:
        """Raise `UsageError` for options that do not go together."""
        super().check()
        require(
            self, "attention_heads", self.embed_dim % self.attention_heads == 0, "a divisor of --embed-dim"
        )
        # The compressor normalises vectors: one value is always 0, and two are +-1.
        wide = (self.code_dim or self.embed_dim) > 2
        require(self, "code_dim", wide, "at least 3, since vectors are normalised")
        mixes = self.gold_mixing_updates == 0 or self.decoder_attention == "causal"
        require(self, "gold_mixing_updates", mixes, "--decoder-attention causal")


_SMALL: dict[str, Any] = dict(
    embed_dim=256, ffn_dim=1024, encoder_layers=3, predictor_layers=3, decoder_layers=3,
    codebook_size=512, compress_steps=2, em_decay=0.99,
)  # fmt: skip
# Shapes for speed are named by their layers: encoder, predictor, decoder. One pass of an encoder costs little
# beside the predictor's steps. Hidden widths are those of Transformers of the same size.
SIZES: dict[str, dict[str, Any]] = {
    "vq_nat_em_tiny": dict(
        embed_dim=128, ffn_dim=512, encoder_layers=2, predictor_layers=2, decoder_layers=2,
        codebook_size=256, compress_steps=2, em_decay=0.99,
    ),
    "vq_nat_em_small": _SMALL,
    "vq_nat_em_small_6_1_3": _SMALL | dict(encoder_layers=6, predictor_layers=1),
    "vq_nat_em_small_6_2_3": _SMALL | dict(encoder_layers=6, predictor_layers=2),
    "vq_nat_em_6_1_3": dict(ffn_dim=2048, encoder_layers=6, predictor_layers=1, decoder_layers=3),
    "vq_nat_em_big": dict(embed_dim=1024, ffn_dim=4096, attention_heads=16, dropout=0.3),
}  # fmt: skip
