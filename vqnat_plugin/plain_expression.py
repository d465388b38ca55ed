"""Values that fairseq writes as Python and would evaluate as such: literals, put together by + and *."""

import ast
from typing import Any

# Characters of an expression, and entries of what it stands for.
MOST = 10_000


def evaluate(text: Any) -> Any:
    """What `eval` makes of a plain expression, such as "[(512, 3)] * 4 + [(1024, 1)]"; it runs nothing.

    Raises:
        ValueError: it is anything else, or too large.
    """
    if not isinstance(text, str) or len(text) > MOST:
        raise ValueError("no plain value, or a very long one")
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{text[:60]!r} is no plain value: literals, + and * alone are evaluated") from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.List):
        return [_value(each) for each in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(each) for each in node.elts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _limited(_value(node.left) + _value(node.right))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _value(node.left), _value(node.right)
        for several, times in ((left, right), (right, left)):
            if hasattr(several, "__len__") and isinstance(times, int) and len(several) * times > MOST:
                raise ValueError
        return _limited(left * right)
    return ast.literal_eval(node)


def _limited(value: Any) -> Any:
    if hasattr(value, "__len__") and len(value) > MOST:
        raise ValueError
    return value
