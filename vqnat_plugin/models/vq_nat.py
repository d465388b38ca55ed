"""The latent translation model: encoder, compressor, bottleneck, latent predictor, upsampler, decoder."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.models import register_model
from torch import Tensor, nn

from ..errors import UsageError
from ..launch import task_options
from ..modules.attention import KeyValues, TransformerStack
from ..modules.compressor import Compressor
from ..modules.embedding import TokenEmbedding
from ..modules.latent_predictor import LatentPredictor
from ..modules.storage import store_by_input
from ..modules.upsampler import Upsampler
from .checkpoints import Checkpoint, Kind
from .hub import Belongings, find_checkpoint, require_options
from .latent_loss import latent_loss
from .options import complete, register_sizes
from .quantized import QuantizedModel
from .vq_nat_config import SIZES, VQNATConfig


@dataclass
class Memory:
    """An encoded source: states (batch, source positions, dim) and a mask, true at real tokens."""

    states: Tensor
    mask: Tensor

    @property
    def lengths(self) -> Tensor:
        """Real tokens of each sentence, (batch,)."""
        return self.mask.sum(1)


@dataclass
class VQNATOutput:
    """What a training batch returns.

    Attributes:
        losses: sums in nats by name: `words` over target tokens, `latents` over latents and end symbols,
            `commitment` over target positions. Their sum, divided by the target tokens, is what is minimised.
        counts: over how many items each loss was summed, for reports per item.
        metrics: 0-d tensors of this batch.
    """

    losses: dict[str, Tensor]
    counts: dict[str, Tensor]
    metrics: dict[str, Tensor]


def gold_share(update: int, updates: int) -> float:
    """Share of latents in the causal decoder's input, 1e-4 at update 0 and 1 from `updates` on.

    A linear ramp times an exponential one of a quarter its length, as in the paper's reference code.
    """
    if updates == 0:
        return 1.0
    linear = 0.01 + 0.99 * min(1.0, update / updates)
    quarter = updates / 4
    return linear * 0.01 ** max(0.0, 1 - update / quarter)


@register_model("vq_nat_em", dataclass=VQNATConfig)
class VQNAT(QuantizedModel):
    """Non-autoregressive translation through discrete latents (Roy et al., 2018; Kaiser et al., 2018).

    The target is compressed to one latent vector for 2^n_c words and quantised; a parallel decoder writes all
    words from the codes and the source; an autoregressive predictor learns to write the codes from the source
    alone.
    """

    def __init__(self, config: VQNATConfig, source_tokens: nn.Embedding, target_tokens: nn.Embedding) -> None:
        """
        Args:
            config: sizes and options, checked.
            source_tokens: embedding of the source; may be the same object as `target_tokens`.
            target_tokens: embedding of the target, also the output layer. Both carry their padding index.
        """
        super().__init__()
        self.config: VQNATConfig = config
        dim, code_dim = config.embed_dim, config.code_dim or config.embed_dim
        self.source_embedding = TokenEmbedding(source_tokens)
        self.target_embedding = TokenEmbedding(target_tokens)
        self.pad = int(target_tokens.padding_idx or 0)
        self.encoder = self._stack(config.encoder_layers)
        attention = self._stack(config.compressor_layers, cross=True) if config.compressor_layers else None
        self.compressor = Compressor(dim, code_dim, config.compress_steps, config.conv_dropout, attention)
        # A divergence counts once a latent, where words weigh a bottleneck's loss here.
        self.quantizer = self.build_quantizer(code_dim, 1 / (1 << config.compress_steps))
        self.predictor = LatentPredictor(
            config.codebook_size, code_dim, dim, self._stack(config.predictor_layers, cross=True)
        )
        self.upsampler = Upsampler(code_dim, dim, config.compress_steps, config.conv_dropout)
        self.decoder = self._stack(config.decoder_layers, cross=True)
        # Tables of positions grow as each process needs: DistributedDataParallel is not to exchange them.
        self._ddp_params_and_buffers_to_ignore = [
            name for name, _ in self.named_buffers() if name.endswith("positions.table")
        ]

    def _stack(self, layers: int, cross: bool = False) -> TransformerStack:
        c = self.config
        return TransformerStack(
            layers, c.embed_dim, c.ffn_dim, c.attention_heads, c.dropout, c.attention_dropout, cross
        )

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> "VQNAT":
        """Build the model for a task (fairseq's entry point).

        Raises:
            UsageError: an option is out of its range, or the task cannot drive this model.
        """
        if not getattr(task, "drives_vq_nat", False):
            name = getattr(task.cfg, "_name", type(task).__name__)
            missing = task_options("translation_vq")
            raise UsageError(f"--arch vq_nat_em cannot be driven by --task {name}: add {missing}")
        config = complete(VQNATConfig, cfg)
        source, target = task.source_dictionary, task.target_dictionary
        target_tokens = _embedding(len(target), config.embed_dim, target.pad())
        source_tokens = (
            target_tokens if source == target else _embedding(len(source), config.embed_dim, source.pad())
        )
        return cls(config, source_tokens, target_tokens)

    @classmethod
    def from_pretrained(
        cls,
        model_name_or_path: str | Path,
        checkpoint_file: str | None = None,
        data_name_or_path: str | Path | None = None,
        **overrides: Any,
    ) -> Any:
        """A trained model with its dictionaries, ready to translate.

        Args:
            model_name_or_path: a checkpoint, or the folder that a training wrote.
            checkpoint_file: its name in that folder; by default that of the best, else of the last one.
            data_name_or_path: folder with the dictionaries; by default that of the training data, or one
                beside the checkpoint. Where `text.json` lies there too, raw text is treated as the training
                text was; elsewhere it has to be given that way.
            overrides: other options of fairseq by name, such as `tokenizer` or `rescore_with`.

        Returns:
            fairseq's `GeneratorHubInterface`, as `TranslationHub`: `translate(text, beam=4)` and `cuda()` are
            what one needs.

        Raises:
            DataError: the checkpoint, a dictionary or the languages are missing.
            CheckpointError: the checkpoint cannot be read, or is of another kind of model.
            UsageError: there is no option of such a name.
        """
        path = find_checkpoint(Path(model_name_or_path), checkpoint_file)
        checkpoint = Checkpoint(path, Kind("latent translation model", cls))
        require_options(path, checkpoint.config, overrides)
        data = None if data_name_or_path is None else Path(data_name_or_path)
        languages = overrides.get("source_lang"), overrides.get("target_lang")
        found = Belongings.find(path, checkpoint.task, data, languages)
        checkpoint.check_data(found.data, found.languages)
        options = {**found.overrides(), **overrides, "data": str(found.data)}
        model, config, task = checkpoint.build(**options)
        # Not at the top: generation knows models.
        from ..generation.hub import TranslationHub

        return TranslationHub(config, task, [model])

    def max_positions(self) -> tuple[int, int]:
        """Longest source and target; positions are sinusoidal, so only the task limits them."""
        return (1 << 16, 1 << 16)

    def prepare_for_inference_(self, cfg: Any) -> None:
        """Called by fairseq before a model decodes."""
        super().prepare_for_inference_(cfg)
        store_by_input(self)

    @property
    def output_weight(self) -> Tensor:
        """The output layer, (target vocabulary, dim), tied to the target embedding."""
        return self.target_embedding.tokens.weight

    def encode(self, src_tokens: Tensor) -> Memory:
        """Encode source tokens (batch, source positions), padded on either side."""
        mask = src_tokens.ne(self.pad)
        states, _ = self.encoder(self.source_embedding(src_tokens, mask), mask)
        return Memory(states, mask)

    def compress(self, target: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Target tokens (batch, positions), padded on the right, to latent vectors and their mask (z_e)."""
        mask = target.ne(self.pad)
        return self.compressor(self.target_embedding(target, mask), mask, memory.states, memory.mask)

    def decode(
        self,
        latents: Tensor,
        mask: Tensor,
        memory: list[KeyValues],
        memory_mask: Tensor,
        gold: Tensor | None = None,
    ) -> Tensor:
        """All decoder states at once.

        Args:
            latents: code vectors, (batch * groups, latents, code_dim).
            mask: true at real latents.
            memory: `self.decoder.project(memory.states)`; see `Attention.forward` on groups.
            memory_mask: true at real source positions, (batch, source positions).
            gold: target tokens (batch, positions) to mix into a causal decoder's input, see `gold_share`.

        Returns:
            (batch * groups, latents * 2^n_c, dim); words are `states @ output_weight.T`.
        """
        x, position_mask = self.upsampler(latents, mask)
        if self.config.decoder_attention == "bidirectional":
            states, _ = self.decoder(x, position_mask, memory=memory, memory_mask=memory_mask)
            return states
        if gold is not None:
            x = self._mix(x, gold)
        # Shifted right: position i must not see its own word, of which the input may hold the embedding.
        shifted = F.pad(x, (0, 0, 1, 0))[:, :-1]
        states, _ = self.decoder(shifted, causal=True, memory=memory, memory_mask=memory_mask)
        return states

    def _mix(self, latents: Tensor, gold: Tensor) -> Tensor:
        share = gold_share(self.num_updates, self.config.gold_mixing_updates)
        padded = F.pad(gold, (0, latents.size(1) - gold.size(1)), value=self.pad)
        words = self.target_embedding(padded, padded.ne(self.pad)).to(latents.dtype)
        keep = torch.rand(latents.shape[:2], device=latents.device) < share
        return torch.where(keep.unsqueeze(-1), latents, words)

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor,
        prev_output_tokens: Tensor,
        target: Tensor,
        accumulate: bool = True,
    ) -> VQNATOutput:
        """Losses of one batch.

        Args:
            src_tokens: (batch, source positions).
            src_lengths: (batch,); unused, padding is found in the tokens.
            prev_output_tokens: unused: no word depends on the words before it.
            target: (batch, target positions), ended by EOS, padded on the right.
            accumulate: whether the batch counts for the codebook's M step; false for a dummy batch.
        """
        memory = self.encode(src_tokens)
        z, mask = self.compress(target, memory)
        out = self.bottleneck(z, mask, accumulate)
        latents = self.latents(z, out)
        predictor_input = latents if self.config.predictor_gradient == "joint" else latents.detach()
        logits = self.predictor(predictor_input, memory.states, memory.mask)
        losses: dict[str, Tensor] = {}
        counts: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        gold = target if self.training and self.config.gold_mixing_updates else None
        states = self.decode(latents, mask, self.decoder.project(memory.states), memory.mask, gold)
        losses["words"], nll = self._word_loss(states[:, : target.size(1)], target)
        metrics["words_nll"] = self.comparable({"words": nll})["words"]
        counts["words"] = target.ne(self.pad).sum()
        losses["latents"], counts["latents"], correct = latent_loss(logits, mask, out)
        metrics["latent_nll"] = losses["latents"]
        trained = out is not None and self.num_updates >= self.config.latent_start
        metrics["predictor_correct"] = correct
        if self.training:
            losses["latents"] = losses["latents"] * (self.config.latent_weight if trained else 0.0)
        if out is not None:
            counts["commitment"] = mask.sum() << self.config.compress_steps
            losses["commitment"] = out.commitment_loss * counts["commitment"]
            metrics.update(self.codebook_metrics(out))
        return VQNATOutput(self.comparable(losses), counts, metrics)

    def _word_loss(self, states: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, in training of smoothed labels, and what plain ones cost: batch sums in nats."""
        logits = F.linear(states.flatten(0, 1), self.output_weight)
        # A sum over a batch leaves the range of half precision.
        log_probs = F.log_softmax(logits.float(), -1)
        nll = F.nll_loss(log_probs, target.flatten(), reduction="sum", ignore_index=self.pad)
        smoothing = self.config.label_smoothing if self.training else 0.0
        if not smoothing:
            return nll, nll
        uniform = -log_probs.mean(-1).masked_fill(target.flatten().eq(self.pad), 0.0).sum()
        return (1 - smoothing) * nll + smoothing * uniform, nll


def _embedding(size: int, dim: int, pad: int) -> nn.Embedding:
    embedding = nn.Embedding(size, dim, padding_idx=pad)
    nn.init.normal_(embedding.weight, std=1 / math.sqrt(dim))
    with torch.no_grad():
        embedding.weight[pad].zero_()
    return embedding


register_sizes("vq_nat_em", SIZES)
