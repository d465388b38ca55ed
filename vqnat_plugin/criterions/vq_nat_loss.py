"""The criterion of the translation model: sums the model's named losses and logs each of them."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from torch import Tensor, nn

from .codebook_metrics import log_codebook


@dataclass
class VQNATLossConfig(FairseqDataclass):
    """No options: the weights belong to the model, which returns weighted losses."""


@register_criterion("vq_nat_loss", dataclass=VQNATLossConfig)
class VQNATLoss(FairseqCriterion):
    """loss = words + latents + commitment (Roy et al., 2018, section 3).

    Each is a sum over the batch in nats, with its weight, as the model returns it: of words over target
    tokens, of latents over latents and end symbols, of commitment over the 2^n_c target positions of every
    latent. The trainer divides the gradients by the number of target tokens.
    """

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Loss (a sum over tokens), sample size (target tokens) and logging output of one batch."""
        out = model(**sample["net_input"], target=sample["target"])
        loss = torch.stack(list(out.losses.values())).sum()
        log: dict[str, Any] = {
            "loss": loss.detach(),
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample["ntokens"],
        }
        for name, value in out.losses.items():
            log[f"{name}_loss"] = value.detach()
        log["latents_count"] = out.counts["latents"]
        for name, value in out.metrics.items():
            log[name] = value.detach()
        log["quantized"] = int("commitment" in out.losses)
        return loss, sample["ntokens"], log

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, Any]]) -> None:
        """Aggregate the logs of all workers. Losses in bits a target token, as everywhere in fairseq."""

        def total(name: str) -> float:
            return float(sum(log.get(name, 0) for log in logging_outputs))

        tokens, quantized = total("ntokens"), total("quantized")
        if tokens == 0:
            return
        per_token = tokens * math.log(2)
        metrics.log_scalar("loss", total("loss") / per_token, tokens, round=3)
        metrics.log_scalar("words_loss", total("words_loss") / per_token, tokens, round=3)
        metrics.log_scalar("_word_bits", total("words_nll") / per_token, tokens)
        metrics.log_derived("words_ppl", lambda meters: round(2 ** min(meters["_word_bits"].avg, 64), 2))
        metrics.log_scalar("latents_loss", total("latents_loss") / per_token, tokens, round=3)
        if not quantized:
            return
        metrics.log_scalar("commitment_loss", total("commitment_loss") / per_token, tokens, round=3)
        latents = total("latents_count")
        metrics.log_scalar("predictor_accuracy", total("predictor_correct") / latents, latents, round=3)
        metrics.log_scalar("_latent_bits", total("latent_nll") / latents / math.log(2), latents)
        metrics.log_derived(
            "predictor_ppl", lambda meters: round(2 ** min(meters["_latent_bits"].avg, 64), 2)
        )
        log_codebook(logging_outputs)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Every entry is a sum, so that workers exchange one tensor."""
        return True
