"""The most probable symbol, out of the logits of all.

The symbols are cut into groups, whose largest logits are found first: to search for the largest of all at
once is slow in ONNX Runtime. What is left over, the special symbols among it, stands alone in front.
"""

from ..runtime.exported import SPECIALS
from .graph import Graph

# Symbols of a group.
GROUP = 128


def symbols_alone(symbols: int) -> int:
    """How many of so many symbols are in no group."""
    return SPECIALS + (symbols - SPECIALS) % min(GROUP, symbols - SPECIALS)


def best_symbol(g: Graph, rest: str, many: str, extra: str, symbols: int) -> tuple[str, str]:
    """The number of the most probable symbol, and its logit with what was added: both (rows, words, 1).

    Args:
        rest: logits, or log-probabilities, of the symbols in no group, (rows, words, `symbols_alone`).
        many: of all others, (rows, words, others).
        extra: what is added to the logits of the special symbols, (words, special symbols).
        symbols: how many there are.
    """
    size, alone = min(GROUP, symbols - SPECIALS), symbols_alone(symbols)
    padded = g.add("Pad", extra, g.constant([0, 0, 0, alone - SPECIALS]))
    allowed = g.add("Add", rest, padded)
    rest_best = g.add("ReduceMax", allowed, axes=[-1], keepdims=1)
    cut = g.add("Reshape", many, g.constant([0, 0, (symbols - alone) // size, size]))
    largest = g.add("ReduceMax", cut, axes=[-1], keepdims=0)
    group = g.add("ArgMax", largest, axis=-1, keepdims=1)
    best = g.add("ReduceMax", largest, axes=[-1], keepdims=1)
    inside = g.add("ArgMax", g.add("GatherND", cut, group, batch_dims=2), axis=-1, keepdims=1)
    number = g.add("Add", g.add("Mul", group, g.constant([size])), g.add("Add", inside, g.constant([alone])))
    among = g.add("GreaterOrEqual", rest_best, best)
    token = g.add("Where", among, g.add("ArgMax", allowed, axis=-1, keepdims=1), number)
    return token, g.add("Max", rest_best, best)
