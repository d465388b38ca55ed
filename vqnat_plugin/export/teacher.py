"""The graphs of an autoregressive Transformer of fairseq that ranks candidates: encoder and scorer.

The scorer reads candidates as they are and gives the log-probability of each of their words; what the runtime
gives and gets is in `runtime/rescoring.py`.
"""

from collections.abc import Callable
from typing import Any

from fairseq.models.transformer import TransformerDecoderBase, TransformerEncoderBase
from fairseq.models.transformer.transformer_decoder import TransformerDecoder
from fairseq.models.transformer.transformer_encoder import TransformerEncoder
from torch import nn

from ..errors import CheckpointError
from ..options import flag
from .graph import FLOAT, INT32, INT64, Graph, build

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
    x = _embed(g, encoder, g.lookup(encoder.embed_tokens.weight, source))
    for layer in encoder.layers:
        x = _self_attention(g, layer, x, mask=mask)
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
    """Candidates, padded on the right, to the log-probabilities of their words, given those before.

    Of the words, counted through all rows, those at `places`: the large product is made for no padding.
    """
    decoder = model.decoder
    dim, attention = decoder.embed_dim, decoder.layers[0].encoder_attn
    tokens = g.input("tokens", INT64, "rows", "words")
    places = g.input("places", INT64, "real")
    memory = [
        [
            g.input(
                f"memory_{kind}_{number}", FLOAT, "batch", attention.num_heads, "source", attention.head_dim
            )
            for kind in ("keys", "values")
        ]
        for number in range(len(decoder.layers))
    ]
    mask = g.input("mask", INT32, "batch", "source")
    by_sentence = g.add("Concat", g.add("Shape", mask, start=0, end=1), g.constant([-1, dim]), axis=0)
    # Read from the end of a sentence on: each word sees those before it.
    first = g.constant([0, 1, 0, 0])
    before = g.add("Pad", tokens, first, g.constant(decoder.dictionary.eos()))
    before = g.add("Slice", before, g.constant([0]), g.constant([-1]), g.constant([1]))
    x = _embed(g, decoder, g.lookup(decoder.embed_tokens.weight, before))
    shape = g.add("Shape", x)
    for layer, (keys, values) in zip(decoder.layers, memory, strict=True):
        x = _self_attention(g, layer, x, causal=True)
        x = _cross_attention(g, layer, x, keys, values, mask, by_sentence, shape)
        x = _feed_forward(g, layer, x)
    flat = g.add("Reshape", _final(g, decoder, x), g.constant([-1, decoder.output_embed_dim]))
    logits = g.linear(g.add("Gather", flat, places), decoder.output_projection.weight)
    words = g.add("Gather", g.add("Reshape", tokens, g.constant([-1, 1])), places)
    found = g.add("GatherElements", g.add("LogSoftmax", logits, axis=-1), words, axis=1)
    g.output(g.add("Squeeze", found, g.constant([1])), "log_probabilities", FLOAT, "real")


def _embed(g: Graph, part: Any, x: str) -> str:
    """Looked-up tokens to the input of the first layer."""
    positions = g.input("positions", FLOAT, "positions", part.embed_tokens.embedding_dim)
    x = g.add("Add", g.add("Mul", x, g.constant(float(part.embed_scale))), positions)
    return x if part.layernorm_embedding is None else g.norm(x, part.layernorm_embedding)


def _final(g: Graph, part: Any, x: str) -> str:
    return x if part.layer_norm is None else g.norm(x, part.layer_norm)


def _sublayer(g: Graph, x: str, norm: nn.LayerNorm, before: bool, inner: Callable[[str], str]) -> str:
    """`inner` around which `x` is led, with a layer norm before it or behind all."""
    y = g.add("Add", x, inner(g.norm(x, norm) if before else x))
    return y if before else g.norm(y, norm)


def _self_attention(g: Graph, layer: Any, x: str, mask: str = "", causal: bool = False) -> str:
    attention = layer.self_attn

    def inner(y: str) -> str:
        joined = g.layers(y, attention.q_proj, attention.k_proj, attention.v_proj)
        query, keys, values = g.add_several(3, "Split", joined, axis=-1)
        found, _, _ = g.attend(attention.num_heads, query, keys, values, mask=mask, causal=causal)
        return g.layers(found, attention.out_proj)

    return _sublayer(g, x, layer.self_attn_layer_norm, layer.normalize_before, inner)


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
