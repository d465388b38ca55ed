"""Values that fairseq writes as Python and would evaluate as such: literals, put together by + and *."""

import ast
from typing import Any


def evaluate(text: Any) -> Any:
    """What `eval` makes of a plain expression, such as "[(512, 3)] * 4 + [(1024, 1)]"; it runs nothing.

    Raises:
        ValueError: it is anything else.
    """
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (AttributeError, ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{text!r:.60} is no plain value: literals, + and * alone are evaluated") from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.List | ast.Tuple):
        values = [_value(each) for each in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        left, right = _value(node.left), _value(node.right)
        return left + right if isinstance(node.op, ast.Add) else left * right
    return ast.literal_eval(node)
