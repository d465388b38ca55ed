"""The graphs of an autoregressive Transformer of fairseq that judges translations: encoder and scorer.

The scorer reads translations as they are and gives the log-probability of each of their words, and where it
is asked for the most probable ones; what the runtime gives and gets is in `runtime/teacher.py`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from fairseq.models.transformer import TransformerDecoderBase, TransformerEncoderBase
from fairseq.models.transformer.transformer_decoder import TransformerDecoder
from fairseq.models.transformer.transformer_encoder import TransformerEncoder
from torch import nn

from ..errors import CheckpointError
from ..options import flag
from ..runtime.exported import SPECIALS
from .graph import BOOL, FLOAT, INT32, INT64, Graph, build
from .symbols import best_symbol, symbols_alone

# What the graphs compute; other values of fairseq's options make another model.
OPTIONS = {
    "activation_fn": "relu",
    "encoder_learned_pos": False,
    "decoder_learned_pos": False,
    "no_token_positional_embeddings": False,
    "no_cross_attention": False,
    "cross_self_attention": False,
    "adaptive_softmax_cutoff": None,
    "adaptive_input": False,
    "base_layers": 0,
    "quant_noise_pq": 0,
    "scale_attn": False,
    "scale_heads": False,
    "scale_fc": False,
    "scale_resids": False,
}


def check_teacher(model: Any, who: str) -> None:
    """Raise `CheckpointError`, which begins with `who`, for a model that computes something else."""
    parts = (model.encoder, model.decoder)
    kinds = ((TransformerEncoderBase, TransformerEncoder), (TransformerDecoderBase, TransformerDecoder))
    if any(type(part) not in each for part, each in zip(parts, kinds, strict=True)):
        raise CheckpointError(
            f"{who}: is a {type(model).__name__}; only a Transformer of fairseq can be exported"
        )
    config = model.decoder.cfg
    widths = dict.fromkeys(("decoder_input_dim", "decoder_output_dim"), config.decoder_embed_dim)
    for name, value in {**OPTIONS, **widths}.items():
        found = getattr(config, name, value)
        if (found or value) != value:
            raise CheckpointError(f"{who}: its {flag(name)} is {found}; to be exported it needs {value}")


def build_teacher(model: Any, precision: str) -> dict[str, Graph]:
    """The two graphs of a model that `check_teacher` has passed, by name."""
    return build(model, precision, teacher_encoder=_encoder, teacher_scorer=_scorer)


def _encoder(g: Graph, model: Any) -> None:
    """Source tokens to the keys and values that the scorer needs of them."""
    encoder, attentions = model.encoder, [layer.encoder_attn for layer in model.decoder.layers]
    source = g.input("source", INT64, "batch", "positions")
    real = g.add("Not", g.add("Equal", source, g.constant(encoder.padding_idx)))
    mask = g.add("Cast", real, to=INT32)
    x = _embed(g, encoder, g.lookup(encoder.embed_tokens.weight, source), "positions")
    for layer in encoder.layers:
        x, *_ = _self_attention(g, layer, x, mask=mask)
        x = _feed_forward(g, layer, x)
    x = _final(g, encoder, x)
    x = g.layers(x, *(linear for each in attentions for linear in (each.k_proj, each.v_proj)))
    heads, head = attentions[0].num_heads, attentions[0].head_dim
    count = 2 * len(attentions)
    x = g.add("Reshape", x, g.constant([0, 0, count, heads, head]))
    x = g.add("Transpose", x, perm=[2, 0, 3, 1, 4])
    g.output(x, "memory", FLOAT, count, "batch", heads, "positions", head)
    g.output(mask, "mask", INT32, "batch", "positions")


def _scorer(g: Graph, model: Any) -> None:
    """Words, padded on the right, to their log-probabilities, given those before and the source.

    Of the words, counted through all rows, those at `places`: the large product is made for no padding. Where
    it is asked for, also the most probable words there. What was read before need not be read again: its keys
    and values are given, and where each row may see them and what it reads now.
    """
    decoder = model.decoder
    dim, attention = decoder.embed_dim, decoder.layers[0].encoder_attn
    # What is read is what is scored, a place to the right of it: each word sees those before it.
    before, tokens = (g.input(name, INT64, "rows", "words") for name in ("before", "tokens"))
    places = g.input("places", INT64, "real")
    heads, head = attention.num_heads, attention.head_dim

    def keys_and_values(what: str, number: int, *axes: str) -> tuple[str, str]:
        shape = axes[0], heads, axes[1], head
        return (
            g.input(f"{what}_keys_{number}", FLOAT, *shape),
            g.input(f"{what}_values_{number}", FLOAT, *shape),
        )

    mask = g.input("mask", INT32, "batch", "source")
    by_sentence = g.add("Concat", g.add("Shape", mask, start=0, end=1), g.constant([-1, dim]), axis=0)
    seen = g.input("seen", INT32, "rows", "read")
    x = g.lookup(decoder.embed_tokens.weight, before, multiplied=True)
    x = _embed(g, decoder, x, "rows_or_one", "words")
    shape = g.add("Shape", x)
    for number, layer in enumerate(decoder.layers):
        past = keys_and_values("past", number, "rows", "read_before")
        x, *present = _self_attention(g, layer, x, mask=seen, causal=True, past=past)
        for kind, value in zip(("keys", "values"), present, strict=True):
            g.output(value, f"present_{kind}_{number}", FLOAT, "rows", heads, "read", head)
        keys, values = keys_and_values("memory", number, "batch", "source")
        x = _cross_attention(g, layer, x, keys, values, mask, by_sentence, shape)
        x = _feed_forward(g, layer, x)
    flat = g.add("Reshape", _final(g, decoder, x), g.constant([-1, decoder.output_embed_dim]))
    logits = g.linear(g.add("Gather", flat, places), decoder.output_projection.weight)
    words = g.add("Gather", g.add("Reshape", tokens, g.constant([-1, 1])), places)
    found = g.add("LogSoftmax", logits, axis=-1)
    of_words = g.add("GatherElements", found, words, axis=1)
    g.output(g.add("Squeeze", of_words, g.constant([1])), "log_probabilities", FLOAT, "real")
    _best(g, found, len(decoder.output_projection.weight))


def _best(g: Graph, log_probabilities: str, symbols: int) -> None:
    """Outputs: the most probable words, and their log-probabilities; empty where they are not asked for."""
    extra = g.input("extra", FLOAT, "real_or_none", SPECIALS)
    searched, silent = Graph("searched", g.precision), Graph("silent", g.precision)
    rows = searched.add("Unsqueeze", log_probabilities, searched.constant([0]))
    alone, last = searched.constant([symbols_alone(symbols)]), searched.constant([-1])
    rest = searched.add("Slice", rows, searched.constant([0]), alone, last)
    many = searched.add("Slice", rows, alone, searched.constant([symbols]), last)
    token, best = best_symbol(searched, rest, many, extra, symbols)
    searched.output(searched.add("Reshape", token, last), "found", INT64, "real")
    searched.output(searched.add("Reshape", best, last), "score", FLOAT, "real")
    silent.output(silent.constant(np.zeros(0, np.int64)), "no_found", INT64, 0)
    silent.output(silent.constant(np.zeros(0, np.float32)), "no_score", FLOAT, 0)
    chosen = g.choose(g.input("search", BOOL, 1), (searched, silent))
    for name, kind, value in zip(("best", "best_log_probabilities"), (INT64, FLOAT), chosen, strict=True):
        g.output(value, name, kind, "searched")


def _embed(g: Graph, part: Any, x: str, *axes: str) -> str:
    """Looked-up tokens to the input of the first layer; axes of their positions."""
    positions = g.input("positions", FLOAT, *axes, part.embed_tokens.embedding_dim)
    x = g.add("Add", g.add("Mul", x, g.constant(float(part.embed_scale))), positions)
    return x if part.layernorm_embedding is None else g.norm(x, part.layernorm_embedding)


def _final(g: Graph, part: Any, x: str) -> str:
    return x if part.layer_norm is None else g.norm(x, part.layer_norm)


def _sublayer(g: Graph, x: str, norm: nn.LayerNorm, before: bool, inner: Callable[[str], str]) -> str:
    """`inner` around which `x` is led, with a layer norm before it or behind all."""
    y = g.add("Add", x, inner(g.norm(x, norm) if before else x))
    return y if before else g.norm(y, norm)


def _self_attention(
    g: Graph,
    layer: Any,
    x: str,
    mask: str = "",
    causal: bool = False,
    past: tuple[str, str] | None = None,
) -> tuple[str, str, str]:
    """What comes out, and with `past` all keys and values."""
    attention, present = layer.self_attn, ("", "")

    def inner(y: str) -> str:
        nonlocal present
        joined = g.layers(y, attention.q_proj, attention.k_proj, attention.v_proj)
        query, keys, values = g.add_several(3, "Split", joined, axis=-1)
        found, *kept = g.attend(attention.num_heads, query, keys, values, mask=mask, causal=causal, past=past)
        present = kept[0], kept[1]
        return g.layers(found, attention.out_proj)

    x = _sublayer(g, x, layer.self_attn_layer_norm, layer.normalize_before, inner)
    return x, *present


def _cross_attention(
    g: Graph, layer: Any, x: str, keys: str, values: str, mask: str, by_sentence: str, shape: str
) -> str:
    attention = layer.encoder_attn

    def inner(y: str) -> str:
        queries = g.add("Reshape", g.layers(y, attention.q_proj), by_sentence)
        found, _, _ = g.attend(attention.num_heads, queries, keys, values, mask=mask)
        return g.add("Reshape", g.layers(found, attention.out_proj), shape)

    return _sublayer(g, x, layer.encoder_attn_layer_norm, layer.normalize_before, inner)


def _feed_forward(g: Graph, layer: Any, x: str) -> str:
    def inner(y: str) -> str:
        return g.layers(g.add("Relu", g.layers(y, layer.fc1)), layer.fc2)

    return _sublayer(g, x, layer.final_layer_norm, layer.normalize_before, inner)
