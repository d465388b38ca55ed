"""The criterion of the image models: sums the model's named losses, in nats of whole images."""

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
class VQVAELossConfig(FairseqDataclass):
    """No options: the weights belong to the model, which returns weighted losses."""


@register_criterion("vq_vae_loss", dataclass=VQVAELossConfig)
class VQVAELoss(FairseqCriterion):
    """loss = pixels + commitment, or codes for a prior, a dimension (one channel of one pixel)."""

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Loss (a sum over dimensions), sample size (dimensions) and logging output of one batch."""
        out = model(**sample["net_input"])
        dimensions = sample["ntokens"]
        losses = dict(out.losses)
        # A mean over latents, which therefore weighs as much as pixels do, a dimension.
        if "commitment" in losses:
            losses["commitment"] = losses["commitment"] * dimensions
        loss = torch.stack(list(losses.values())).sum()
        log: dict[str, Any] = {
            "loss": loss.detach(),
            "ntokens": dimensions,
            "nsentences": sample["nsentences"],
            "sample_size": dimensions,
            "codes": out.codes,
            "quantized": int("commitment" in losses),
        }
        log.update({f"{name}_loss": value.detach() for name, value in losses.items()})
        log.update({name: value.detach() for name, value in out.metrics.items()})
        return loss, dimensions, log

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, Any]]) -> None:
        """Aggregate the logs of all workers. Losses in bits a dimension, `code_bits` a code."""

        def total(name: str) -> float:
            return float(sum(log.get(name, 0) for log in logging_outputs))

        dimensions = total("ntokens")
        if dimensions == 0:
            return
        for name in ("loss", "pixels_loss", "commitment_loss", "codes_loss"):
            if any(name in log for log in logging_outputs):
                bits = total(name) / dimensions / math.log(2)
                metrics.log_scalar(name, bits, dimensions, round=4)
        if any("codes_loss" in log for log in logging_outputs):
            codes = total("codes")
            metrics.log_scalar("code_bits", total("codes_loss") / codes / math.log(2), codes, round=4)
        if total("quantized"):
            log_codebook(logging_outputs)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Every entry is a sum, so that workers exchange one tensor."""
        return True
