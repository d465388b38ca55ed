"""Ranking candidates with an autoregressive model (noisy parallel decoding; Gu et al., 2018, section 5)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq.modules import LearnedPositionalEmbedding
from torch import Tensor, nn

from ..errors import CheckpointError, DataError
from ..models.checkpoints import AUTOREGRESSIVE, Checkpoint, training_data
from .latent_search import MOST_LOGITS, mean_log_probabilities


def load_rescorer(path: Path, model: nn.Module, task: Any, flag: str = "--rescore-with") -> nn.Module:
    """An autoregressive model with the dictionaries of the task, where the latent model is.

    Raises:
        CheckpointError: the file is missing or damaged, its model or dictionaries are others, or its decoder
            gives no logits.
        DataError: the languages of the task are not known, or a dictionary is missing.
    """
    checkpoint = Checkpoint(path, AUTOREGRESSIVE, f"{flag} {path}")
    checkpoint.check_data(training_data(task.cfg), (task.cfg.source_lang, task.cfg.target_lang))
    # The folder that it was trained on may be gone.
    rescorer, _, _ = checkpoint.build(data=task.cfg.data)
    if getattr(rescorer.decoder, "adaptive_softmax", None) is not None:
        raise CheckpointError(
            f"{flag} {path}: has an adaptive softmax (--adaptive-softmax-cutoff); needs a plain one"
        )
    first = next(model.parameters())
    return rescorer.to(device=first.device, dtype=first.dtype)


def encode(teacher: Any, net_input: dict[str, Any]) -> Any:
    """What the encoder of an autoregressive model makes of a batch, see `rescore`.

    Raises:
        DataError: a sentence is longer than the model reads.
    """
    sources, lengths = net_input["src_tokens"], net_input["src_lengths"]
    most = _learnt_positions(teacher.encoder)
    if sources.size(1) > most and (longest := int(lengths.max())) > most:
        raise DataError(f"a sentence of {longest} tokens: the teacher reads {most} at most")
    return teacher.encoder.forward_torchscript({"src_tokens": sources, "src_lengths": lengths})


def _learnt_positions(part: Any) -> float:
    """How many positions an encoder or decoder has learnt; computed ones have no end."""
    learnt = isinstance(getattr(part, "embed_positions", None), LearnedPositionalEmbedding)
    return part.embed_positions.max_positions if learnt else math.inf


@torch.no_grad()
def rescore(
    teachers: Sequence[Any], net_input: dict[str, Any], tokens: Tensor, pad: int
) -> tuple[Tensor, Tensor]:
    """Log-probability of every candidate under an autoregressive model, in one teacher-forced pass.

    Args:
        teachers: fairseq encoder-decoder models; several are an ensemble.
        net_input: the batch's `src_tokens` and `src_lengths`.
        tokens: candidates, (batch, beam, positions), each ended by EOS and padded with `pad`.

    Raises:
        DataError: a source or a candidate is longer than a teacher can read.

    Returns:
        Scores (batch, beam) and token log-probabilities (batch, beam, positions), nats; 0 at padding.
    """
    batch, beam, positions = tokens.shape
    # Different latents often give the same words.
    rows = torch.arange(batch, device=tokens.device).repeat_interleave(beam)
    different, places = torch.unique(
        torch.cat([rows[:, None], tokens.flatten(0, 1)], 1), dim=0, return_inverse=True
    )
    rows, flat = different[:, 0], different[:, 1:]
    # fairseq's decoders read EOS first, then the words.
    shifted = torch.cat(
        [flat.new_full((flat.size(0), 1), teachers[0].decoder.dictionary.eos()), flat[:, :-1]], 1
    )
    steps = []
    for teacher in teachers:
        encoded = encode(teacher, net_input)
        if positions > (most := _learnt_positions(teacher.decoder)):
            raise DataError(
                f"a candidate of {positions} tokens: the teacher writes {most} at most (--max-len-b)"
            )
        size = max(1, MOST_LOGITS // (positions * len(teacher.decoder.dictionary)))
        found = []
        for some, words, row in zip(shifted.split(size), flat.split(size), rows.split(size), strict=True):
            states = teacher.encoder.reorder_encoder_out(encoded, row)
            logits, _ = teacher.decoder(some, encoder_out=states)
            logits = logits.float()
            found.append(logits.gather(-1, words[..., None]).squeeze(-1) - logits.logsumexp(-1))
        steps.append(torch.cat(found))
    every = mean_log_probabilities(steps)[places].view(batch, beam, positions)
    per_token = every.masked_fill(tokens == pad, 0.0)
    return per_token.sum(-1), per_token
