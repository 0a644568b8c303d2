"""ONNX graphs, made node by node."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Value = str | bool | int | float | list[int] | Array | np.generic  # a name, or a constant

TYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
}
SMALL = 1024  # values that need not be stored in fewer bytes


class Graph:
    """Nodes and constants of a graph; inputs are names of earlier values, or constants.

    With `half` weights take as few bytes as they need.
    """

    def __init__(self, prefix: str = "", half: bool = False) -> None:
        self.prefix = prefix
        self.half = half
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}

    def __call__(self, op: str, *inputs: Value, **attributes: Any) -> str:
        """Add a node; returns the name of its output. The input "" is one that is left out."""
        return self.several(1, op, *inputs, **attributes)[0]

    def several(self, outputs: int, op: str, *inputs: Value, **attributes: Any) -> list[str]:
        """Add a node with several outputs; returns their names."""
        name = f"{self.prefix}{op}_{len(self.nodes)}"
        names = [f"{name}.{n}" if n else name for n in range(outputs)]
        given = [self.named(one) for one in inputs]
        self.nodes.append(helper.make_node(op, given, names, name, **attributes))
        return names

    def named(self, value: Value) -> str:
        """The name of a value; a number, list or array becomes a constant, floats in float32."""
        if isinstance(value, str):
            return value
        array = np.asarray(value, np.float32 if type(value) is float else None)
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self.constants:
            name = f"{self.prefix}constant_{len(self.constants)}"
            self.constants[key] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return self.constants[key].name

    def weights(self, values: Array) -> str:
        """A constant of float32; with `half` it is stored in float16 where that is exact.

        onnxruntime computes the conversion once, when it loads the file.
        """
        with np.errstate(over="ignore"):
            short = values.astype(np.float16)
        if self.half and values.size >= SMALL and np.array_equal(short, values):
            return self.cast(short, "float32")
        return self.named(values)

    def cast(self, value: Value, dtype: str) -> str:
        return self("Cast", value, to=TYPES[dtype])

    def size(self, value: Value, axis: int) -> str:
        """The size of one dimension, int64 of shape ()."""
        return self("Gather", self("Shape", value), axis)

    def shape(self, *sizes: Value) -> str:
        """Sizes of shape () as one vector."""
        return self("Concat", *(self("Reshape", one, [1]) for one in sizes), axis=0)

    def cut(self, value: Value, start: Value, stop: Value, axis: int) -> str:
        """`value[start:stop]` along one axis."""
        return self("Slice", value, self.shape(start), self.shape(stop), [axis])

    def mask(self, lengths: Value, size: Value) -> str:
        """True at positions before each length: (N,) → (N, size)."""
        return self("Less", self("Range", 0, size, 1), self("Unsqueeze", lengths, [1]))

    def gather(self, values: Value, positions: Value) -> str:
        """Values of each sequence at positions of its own: (N, L, …), (N, M) → (N, M, …)."""
        return self("GatherND", values, self("Unsqueeze", positions, [2]), batch_dims=1)

    def windows(self, signal: Value, count: Value, size: int, hop: int) -> str:
        """The first `count` windows of `size` samples, hop ≤ size: (N, S) → (N, count, size).

        Made of blocks of `hop` samples, and so several times faster than by indices. The signal
        needs ⌈size / hop⌉ · hop samples from the beginning of the last window.
        """
        blocks = -(-size // hop)
        last = self("Add", count, blocks - 1)
        signal = self.cut(signal, 0, self("Mul", last, hop), 1)
        rows = self("Reshape", signal, self.shape(0, last, hop))
        parts = [self.cut(rows, n, self("Add", count, n), 1) for n in range(blocks)]
        parts[-1] = self.cut(parts[-1], 0, size - (blocks - 1) * hop, 2)
        return self("Concat", *parts, axis=2)

    def output(self, name: str, value: Value) -> None:
        """Give a value the name of an output of the graph."""
        self.nodes.append(helper.make_node("Identity", [self.named(value)], [name], name))

    def made(
        self, name: str, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], **types: str
    ) -> onnx.GraphProto:
        """The graph with the shapes of inputs and outputs; `types` of those other than float32."""
        given, results = (
            [
                helper.make_tensor_value_info(key, TYPES[types.get(key, "float32")], shape)
                for key, shape in some.items()
            ]
            for some in (inputs, outputs)
        )
        return helper.make_graph(self.nodes, name, given, results, [*self.constants.values()])
