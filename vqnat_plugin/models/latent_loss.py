"""The latent predictor's loss against hard or soft codes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bottleneck import QuantizerOutput


def latent_loss(logits: Tensor, mask: Tensor, out: QuantizerOutput | None) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy against the mean assignment, and against the end symbol behind the last latent.

    The labels carry no gradient (Roy et al., 2018, section 3). With m samples the label of a latent is the
    mean of their one-hots, so that its loss is the mean over the samples.

    Args:
        logits: (batch, latents + 1, codebook size + 1); the last class is the end symbol.
        mask: true at real latents, (batch, latents).
        out: the quantiser's output; None when there are no codes yet, then only end symbols count.

    Returns:
        The sum in nats over latents and end symbols, their number, and how many were the most probable class.
    """
    logits = logits.float()
    end = logits.size(-1) - 1
    lengths = mask.sum(1)
    steps = torch.arange(logits.size(1), device=logits.device)
    at_end = steps == lengths[:, None]
    counted = steps <= lengths[:, None]
    picked = logits[..., end]
    labels = torch.full_like(steps, end).expand(logits.shape[:2])
    if out is None:
        counted = at_end
    else:
        if out.samples is not None:
            expected = logits[:, :-1].gather(-1, out.samples).mean(-1)
        else:
            expected = (logits[:, :-1, :end] * out.soft_codes).sum(-1)
        picked = torch.where(at_end, picked, F.pad(expected, (0, 1)))
        labels = torch.where(at_end, end, F.pad(out.codes, (0, 1)))
    nll = (logits.logsumexp(-1) - picked) * counted
    correct = ((logits.argmax(-1) == labels) & counted).sum()
    return nll.sum(), counted.sum(), correct
