"""The graphs of a translation model: encoder, a step of the latent predictor, and the writer of all words.

What the runtime gives and gets is in `runtime/graphs.py`. Different from the model: queries, keys and values
of a layer come from one product, as do those of the source for all layers; a code is looked up in a table
that its linear layer has been applied to; a convolution of width 3 is a linear layer over three neighbours.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.vq_nat import VQNAT
from ..runtime.exported import EOS, SPECIALS
from .graph import BOOL, FLOAT, INT32, INT64, Graph, build
from .symbols import best_symbol, symbols_alone

Memory = list[tuple[str, str]]


def build_graphs(model: VQNAT, precision: str) -> dict[str, Graph]:
    """The three graphs of a model, by name."""
    return build(model, precision, encoder=_encoder, step=_step, writer=_writer)


def _encoder(g: Graph, model: VQNAT) -> None:
    """Source tokens to the keys and values that predictor and decoder need of them."""
    heads, dim = model.config.attention_heads, model.config.embed_dim
    source = g.input("source", INT64, "batch", "positions")
    positions = g.input("positions", FLOAT, "positions", dim)
    real = g.add("Not", g.add("Equal", source, g.constant(model.pad)))
    mask = g.add("Cast", real, to=INT32)
    embedding = model.source_embedding
    x = g.add("Add", g.lookup(embedding.tokens.weight * embedding.scale, source), positions)
    for layer in model.encoder.layers:
        x, _ = _self_attention(g, layer, x, mask)
        x = _feed_forward(g, layer, x)
    x = g.norm(x, model.encoder.norm)
    stacks = (model.predictor.stack, model.decoder)
    attentions: list[Any] = [layer.cross_attention for stack in stacks for layer in stack.layers]
    x = g.layers(x, *(linear for each in attentions for linear in (each.key, each.value)))
    count, head = 2 * len(attentions), dim // heads
    x = g.add("Reshape", x, g.constant([0, 0, count, heads, head]))
    x = g.add("Transpose", x, perm=[2, 0, 3, 1, 4])
    g.output(x, "memory", FLOAT, count, "batch", heads, "positions", head)
    g.output(mask, "mask", INT32, "batch", "positions")


def _step(g: Graph, model: VQNAT) -> None:
    """The code before and what came before it to the log-probabilities of the next code."""
    heads, dim = model.config.attention_heads, model.config.embed_dim
    predictor = model.predictor
    code = g.input("code", INT64, "rows", 1)
    position = g.input("position", FLOAT, dim)
    memory, mask = _memory(g, model, predictor.stack)
    by_sentence = _by_sentence(g, mask, dim)
    table = torch.cat([predictor.codes(model.quantizer.codebook), predictor.start[None]])
    x = g.add("Add", g.lookup(table, code), position)
    head = dim // heads
    for number, (layer, seen) in enumerate(zip(predictor.stack.layers, memory, strict=True)):
        names = [f"past_{kind}_{number}" for kind in ("keys", "values")]
        past = [g.input(name, FLOAT, "rows", heads, "past", head) for name in names]
        x, present = _self_attention(g, layer, x, past=(past[0], past[1]))
        for kind, value in zip(("keys", "values"), present, strict=True):
            g.output(value, f"present_{kind}_{number}", FLOAT, "rows", heads, "present", head)
        x = _cross_attention(g, layer, x, seen, mask, by_sentence, g.constant([-1, 1, dim]))
        x = _feed_forward(g, layer, x)
    x = g.layers(g.norm(x, predictor.stack.norm), predictor.output)
    g.output(g.add("LogSoftmax", x, axis=-1), "log_probabilities", FLOAT, "rows", 1, predictor.end + 1)


def _writer(g: Graph, model: VQNAT) -> None:
    """Codes to all words."""
    dim, upsampler = model.config.embed_dim, model.upsampler
    codes = g.input("codes", INT64, "rows", "latents")
    real = g.input("real", FLOAT, "rows", "latents", 1)
    latent_positions = g.input("latent_positions", FLOAT, "latents", dim)
    positions = g.input("positions", FLOAT, "words", dim)
    memory, mask = _memory(g, model, model.decoder)
    by_sentence = _by_sentence(g, mask, dim)
    x = g.add("Add", g.lookup(upsampler.project(model.quantizer.codebook), codes), latent_positions)
    for block, doubling in zip(upsampler.blocks, upsampler.doublings, strict=True):
        x = g.layers(_residual_block(g, block, x, real), doubling)
        x = g.add("Reshape", x, g.constant([0, -1, dim]))
        real = g.add("Reshape", g.add("Concat", real, real, axis=2), g.constant([0, -1, 1]))
    x = g.add("Add", x, positions)
    shape = g.add("Shape", x)
    causal = model.config.decoder_attention == "causal"
    if causal:
        x = _neighbours(g, x, 1)[0]
    word_mask = "" if causal else g.add("Cast", g.add("Squeeze", real, g.constant([2])), to=INT32)
    for layer, seen in zip(model.decoder.layers, memory, strict=True):
        x, _ = _self_attention(g, layer, x, word_mask, causal)
        x = _cross_attention(g, layer, x, seen, mask, by_sentence, shape)
        x = _feed_forward(g, layer, x)
    _words(g, model, g.norm(x, model.decoder.norm))


def _words(g: Graph, model: VQNAT, x: str) -> None:
    """The most probable symbol of each position; where it is asked for, what it and the end cost."""
    weight = model.output_weight
    alone = symbols_alone(len(weight))
    needed = g.input("needed", INT64, 1)
    extra = g.input("extra", FLOAT, "words_needed", SPECIALS)
    x = g.add("Slice", x, g.constant([0]), needed, g.constant([1]))
    rest, many = g.linear(x, weight[:alone]), g.linear(x, weight[alone:])
    token, best = best_symbol(g, rest, many, extra, len(weight))
    g.output(g.add("Squeeze", token, g.constant([2])), "tokens", INT64, "rows", "words_needed")

    # What all symbols weigh together, without the penalties.
    scored, silent = Graph("scored", g.precision), Graph("silent", g.precision)
    first = [scored.constant([place]) for place in (0, 1, -1)]
    ones = [scored.add("Slice", x, *first) for x in (many, scored.add("LogSoftmax", many, axis=-1))]
    of_many = scored.add("Sub", *ones)
    joined = scored.add("Concat", rest, of_many, axis=-1)
    weight_of_all = scored.add("ReduceLogSumExp", joined, axes=[-1], keepdims=1)
    end = scored.add("Slice", rest, *(scored.constant([place]) for place in (EOS, EOS + 1, -1)))
    for name, logit in (("chosen", best), ("end", end)):
        scored.output(scored.add("Sub", logit, weight_of_all), name, FLOAT, "rows", "words_needed", 1)
        silent.output(silent.constant(np.zeros((0, 0, 1), np.float32)), f"no_{name}", FLOAT, 0, 0, 1)
    costs = g.choose(g.input("scores", BOOL, 1), (scored, silent))
    for name, value in zip(("log_probabilities", "ends"), costs, strict=True):
        g.output(g.add("Squeeze", value, g.constant([2])), name, FLOAT, "scored_rows", "scored_words")


def _memory(g: Graph, model: VQNAT, stack: Any) -> tuple[Memory, str]:
    """Inputs: keys and values of the source for each layer, and its mask."""
    heads = model.config.attention_heads
    shape = ("batch", heads, "source", model.config.embed_dim // heads)
    memory = []
    for number in range(len(stack.layers)):
        keys, values = (g.input(f"memory_{kind}_{number}", FLOAT, *shape) for kind in ("keys", "values"))
        memory.append((keys, values))
    return memory, g.input("mask", INT32, "batch", "source")


def _by_sentence(g: Graph, mask: str, dim: int) -> str:
    """The shape (batch, -1, dim): candidates of a sentence are queries to one memory."""
    batch = g.add("Shape", mask, start=0, end=1)
    return g.add("Concat", batch, g.constant([-1, dim]), axis=0)


def _self_attention(
    g: Graph,
    layer: Any,
    x: str,
    mask: str = "",
    causal: bool = False,
    past: tuple[str, str] | None = None,
) -> tuple[str, tuple[str, str]]:
    attention = layer.self_attention
    joined = g.layers(g.norm(x, layer.self_norm), attention.query, attention.key, attention.value)
    parts = g.add_several(3, "Split", joined, axis=-1)
    found, keys, values = g.attend(
        attention.heads, parts[0], parts[1], parts[2], mask=mask, causal=causal, past=past
    )
    return g.add("Add", x, g.layers(found, attention.out)), (keys, values)


def _cross_attention(
    g: Graph,
    layer: Any,
    x: str,
    memory: tuple[str, str],
    mask: str,
    by_sentence: str,
    shape: str,
) -> str:
    attention = layer.cross_attention
    queries = g.add("Reshape", g.layers(g.norm(x, layer.cross_norm), attention.query), by_sentence)
    found, _, _ = g.attend(attention.heads, queries, *memory, mask=mask)
    return g.add("Add", x, g.add("Reshape", g.layers(found, attention.out), shape))


def _feed_forward(g: Graph, layer: Any, x: str) -> str:
    inner, *_, outer = layer.feed_forward
    hidden = g.add("Relu", g.layers(g.norm(x, layer.feed_norm), inner))
    return g.add("Add", x, g.layers(hidden, outer))


def _residual_block(g: Graph, block: Any, x: str, real: str) -> str:
    y = x
    for conv, norm in zip(block.convs, block.norms, strict=True):
        y = g.add("Mul", g.add("Relu", y), real)
        y = g.add("Concat", *_neighbours(g, y, 3), axis=2)
        y = g.norm(g.linear(y, _by_neighbour(conv.conv.weight), conv.conv.bias), norm)
    return g.add("Add", x, y)


def _neighbours(g: Graph, x: str, count: int) -> list[str]:
    """What stands before each position of `x` (rows, positions, dim), at it and behind it: the first `count`.

    Zeros stand outside.
    """
    padded = g.add("Pad", x, g.constant([0, 1, 0, 0, 1, 0]))
    ends = [(0, -2), (1, -1), (2, 1 << 40)][:count]
    axes = g.constant([1])
    return [g.add("Slice", padded, g.constant([start]), g.constant([end]), axes) for start, end in ends]


def _by_neighbour(weight: Tensor) -> Tensor:
    """The weight of a convolution (out, in, 3) as that of a linear layer over three neighbours."""
    return weight.transpose(1, 2).flatten(1)
