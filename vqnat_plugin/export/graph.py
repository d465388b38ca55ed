"""Building an ONNX graph node by node: the layers of our models, in fp32 or with int8 weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ..files import write_atomically

OPSET, IR_VERSION = 17, 8
# Operators of ONNX Runtime's own: attention, and products with int8 weights, each as one node.
CONTRIB = "com.microsoft"
FLOAT, INT64, INT32, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL
# Largest numbers of int8 tables, and of int8 weights: processors without instructions for such products, as
# VNNI, add two of them, with activations of 0 to 255, in 16 bits, which hold no more than 2 * 255 * 64.
MOST_ENTRY, MOST_WEIGHT = 127, 64
# Added to the scores of what may not be seen; the softmax of it is 0.
HIDDEN = -1e9


class Graph:
    """A graph under construction; values are known by their names."""

    def __init__(self, name: str, precision: str) -> None:
        """
        Args:
            name: of the graph.
            precision: `fp32`, or `int8` for weights and tables with a scale a channel or row.
        """
        self.name, self.precision, self.int8 = name, precision, precision == "int8"
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._multiplied: dict[int, tuple[Tensor, str, str]] = {}

    def input(self, name: str, kind: int, *shape: str | int) -> str:
        """An input of the graph."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, value: str, name: str, kind: int, *shape: str | int) -> None:
        """Make a value an output of the graph."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def constant(self, value: Any) -> str:
        """A weight, or whatever else is part of the graph."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = f"{self.name}_c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node with one output, whose name is returned."""
        return self.add_several(1, operator, *inputs, domain=domain, **attributes)[0]

    def add_several(
        self, outputs: int, operator: str, *inputs: str, domain: str = "", **attributes: Any
    ) -> list[str]:
        """A node with several outputs."""
        names = [f"{self.name}_{len(self._nodes)}_{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, domain=domain, **attributes))
        return names

    def linear(self, x: str, weight: Tensor, bias: Tensor | None = None) -> str:
        """`x @ weight.T + bias`, weight (out, in) as in `nn.Linear`; see `lookup` on tables."""
        if weight.data_ptr() in self._multiplied:
            _, rows, scale = self._multiplied[weight.data_ptr()]
            columns = self.add("Transpose", rows, perm=[1, 0])
        elif self.int8:
            numbers, scales = quantize_rows(weight, MOST_WEIGHT)
            columns, scale = self.constant(numbers.T), self.constant(scales)
        else:
            columns = self.constant(weight.t())
        if self.int8:
            zeros = self.constant(np.zeros(len(weight), np.int8))
            extra = () if bias is None else (self.constant(bias),)
            return self.add("DynamicQuantizeMatMul", x, columns, scale, zeros, *extra, domain=CONTRIB)
        product = self.add("MatMul", x, columns)
        return product if bias is None else self.add("Add", product, self.constant(bias))

    def layers(self, x: str, *layers: Any) -> str:
        """Linear layers of the same input as one; their outputs are side by side."""
        weights, biases = ([getattr(each, name) for each in layers] for name in ("weight", "bias"))
        return self.linear(x, torch.cat(weights), torch.cat(biases))

    def lookup(self, table: Tensor, rows: str, multiplied: bool = False) -> str:
        """Rows of `table` (rows, dim); if `linear` is to multiply it as well, it is stored once."""
        most = MOST_WEIGHT if multiplied else MOST_ENTRY
        numbers, scales = quantize_rows(table, most) if self.int8 else (table, None)
        stored, scale = self.constant(numbers), "" if scales is None else self.constant(scales)
        if multiplied:
            self._multiplied[table.data_ptr()] = table, stored, scale
        found = self.add("Gather", stored, rows)
        if not self.int8:
            return found
        by_row = self.add("Unsqueeze", self.add("Gather", scale, rows), self.constant([-1]))
        return self.add("Mul", self.add("Cast", found, to=FLOAT), by_row)

    def norm(self, x: str, norm: nn.LayerNorm) -> str:
        """A layer norm over the last axis."""
        weight, bias = self.constant(norm.weight), self.constant(norm.bias)
        return self.add("LayerNormalization", x, weight, bias, epsilon=norm.eps)

    def attend(
        self,
        heads: int,
        query: str,
        keys: str,
        values: str,
        mask: str = "",
        causal: bool = False,
        past: tuple[str, str] | None = None,
    ) -> tuple[str, str, str]:
        """Attention with all its heads.

        Args:
            query: (rows, positions, dim).
            keys, values: (rows, positions, dim), or cut into heads, (rows, heads, positions, head dim).
            mask: int32, 1 where a position may be seen, (rows, positions of the keys).
            past: keys and values of the positions before, cut into heads.

        Returns:
            (rows, positions, dim); with `past` also all keys and values, cut into heads, else empty names.
        """
        inputs = [query, keys, values, "", mask, "", *(past or ("", ""))]
        while not inputs[-1]:
            inputs.pop()
        found = self.add_several(
            3 if past else 1,
            "MultiHeadAttention",
            *inputs,
            domain=CONTRIB,
            num_heads=heads,
            mask_filter_value=HIDDEN,
            unidirectional=int(causal),
        )
        return (found[0], found[1], found[2]) if past else (found[0], "", "")

    def choose(self, condition: str, branches: tuple["Graph", "Graph"]) -> list[str]:
        """The outputs of one of two graphs, the first if a bool is true; both see the values of this one."""
        count = len(branches[0]._outputs)
        then, otherwise = (branch._graph() for branch in branches)
        return self.add_several(count, "If", condition, then_branch=then, else_branch=otherwise)

    def _graph(self) -> Any:
        return helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, self._constants)

    def save(self, path: Path) -> None:
        """Check the graph and write it."""
        graph = self._graph()
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="vqnat")
        onnx.checker.check_model(model)
        write_atomically(path, lambda part: onnx.save_model(model, part))


def build(model: nn.Module, precision: str, **parts: Callable[[Graph, Any], None]) -> dict[str, Graph]:
    """Graphs of a model by name, each filled by its function."""
    graphs = {name: Graph(name, precision) for name in parts}
    with torch.no_grad():
        for name, fill in parts.items():
            fill(graphs[name], model)
    return graphs


def quantize_rows(weight: Tensor, most: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers from -most to most, like `weight` (rows, columns), and a scale for each row."""
    values = weight.detach().float().cpu().numpy()
    scale = np.abs(values).max(1) / most
    scale[scale == 0] = 1
    numbers = np.rint(values / scale[:, None])
    return numbers.astype(np.int8), scale.astype(np.float32)
