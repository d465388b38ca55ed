"""Starting the latent model from an autoregressive Transformer (the distillation teacher)."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..modules.attention import TransformerStack
from .checkpoints import AUTOREGRESSIVE, Checkpoint, training_data

logger = logging.getLogger(__name__)

ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}

# What layers with the same weights have to agree in to compute the same.
TEACHER_OPTIONS = {
    "encoder_normalize_before": True,
    "decoder_normalize_before": True,
    "encoder_learned_pos": False,
    "decoder_learned_pos": False,
    "no_token_positional_embeddings": False,
    "no_scale_embedding": False,
    "layernorm_embedding": False,
    "activation_fn": "relu",
}


def _layer_names(cross: bool) -> dict[str, str]:
    """Our names of a layer's parts and fairseq's."""
    names = {
        "self_norm": "self_attn_layer_norm",
        "feed_norm": "final_layer_norm",
        "feed_forward.0": "fc1",
        "feed_forward.3": "fc2",
        **{f"self_attention.{ours}": f"self_attn.{theirs}" for ours, theirs in ATTENTION.items()},
    }
    if cross:
        names["cross_norm"] = "encoder_attn_layer_norm"
        names |= {f"cross_attention.{ours}": f"encoder_attn.{theirs}" for ours, theirs in ATTENTION.items()}
    return names


def _stack_state(
    teacher: dict[str, Tensor], side: str, stack: TransformerStack, cross: bool
) -> dict[str, Tensor]:
    """The teacher's encoder or decoder as a state dict of `stack`; its layers are spread evenly over ours."""
    theirs = len({name.split(".")[2] for name in teacher if name.startswith(f"{side}.layers.")})
    state = {}
    for number in range(len(stack.layers)):
        source = number * theirs // len(stack.layers)
        for our_name, their_name in _layer_names(cross).items():
            for kind in ("weight", "bias"):
                state[f"layers.{number}.{our_name}.{kind}"] = teacher[
                    f"{side}.layers.{source}.{their_name}.{kind}"
                ]
    for kind in ("weight", "bias"):
        state[f"norm.{kind}"] = teacher[f"{side}.layer_norm.{kind}"]
    return state


def _check_options(teacher: Any, heads: int) -> None:
    """Raise `ValueError` for an option under which the teacher's layers compute something else than ours."""
    needed = {**TEACHER_OPTIONS, "encoder_attention_heads": heads, "decoder_attention_heads": heads}
    for name, value in needed.items():
        found = getattr(teacher, name, value)
        if found != value:
            raise ValueError(f"its --{name.replace('_', '-')} is {found}, needed is {value}")


def start_from_teacher(model: Any, path: str, task: Any) -> None:
    """Copy the teacher's encoder, embeddings and decoder layers into the model.

    Decoder and latent predictor both start from its decoder; compressor, codebook and upsampler do not.

    Args:
        model: the latent model.
        path: checkpoint of a pre-norm fairseq Transformer of the same widths and dictionary.
        task: options of the task of the training, with its data and languages.

    Raises:
        UsageError: the two do not fit.
        CheckpointError: the file is missing, damaged, of another kind of model, or has other symbols.
        DataError: the languages of the training are not known, or a dictionary is missing.
    """
    checkpoint = Checkpoint(Path(path), AUTOREGRESSIVE, f"--init-from-teacher {path}")
    checkpoint.check_data(training_data(task), (task.source_lang, task.target_lang))
    teacher = checkpoint.state["model"]
    parts = [
        (model.source_embedding.tokens, {"weight": teacher.get("encoder.embed_tokens.weight")}),
        (model.target_embedding.tokens, {"weight": teacher.get("decoder.embed_tokens.weight")}),
    ]
    try:
        _check_options(checkpoint.config.model, model.config.attention_heads)
        if model.source_embedding.tokens is model.target_embedding.tokens:
            source, target = (state["weight"] for _, state in parts)
            if source is not None and target is not None and not torch.equal(source, target):
                raise ValueError("its --share-all-embeddings is False, needed is True")
            parts.pop()
        parts.append((model.encoder, _stack_state(teacher, "encoder", model.encoder, cross=False)))
        for stack in (model.decoder, model.predictor.stack):
            parts.append((stack, _stack_state(teacher, "decoder", stack, cross=True)))
        for part, state in parts:
            part.load_state_dict(state)
    except (ValueError, KeyError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UsageError(
            f"--init-from-teacher {path}: does not fit this model ({reason}). It has to be a Transformer "
            "trained with --encoder-normalize-before --decoder-normalize-before, with the same dictionary, "
            "--embed-dim, --ffn-dim and --attention-heads"
        ) from None
    written = teacher.get("decoder.output_projection.weight")
    if written is not None and not torch.equal(written, teacher["decoder.embed_tokens.weight"]):
        logger.warning(
            f"{path}: has an output layer of its own (no --share-decoder-input-output-embed), which is left "
            "out: this model writes with its embeddings"
        )
    copied = sum(parameter.numel() for part, _ in parts for parameter in part.parameters())
    logger.info(f"started from {path}: {copied:,} parameters copied")
