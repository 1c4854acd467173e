"""Nodes and initialisers of an ONNX graph, written one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from onnx import NodeProto, TensorProto, helper, numpy_helper

Size = int | str  # a size that is known, or the name of a value that holds it, int64, (1,)


class Graph:
    """Writes nodes; every value gets a name of its own, and an array that came before is not written again.

    >>> g = Graph("here/")
    >>> y = g.op("Add", "x", g.constant(np.ones(2, np.float32)))
    >>> [node.op_type for node in g.nodes], y
    (['Add'], 'here/Add_2')

    Args:
        prefix: what all names begin with.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._count = 0
        self._written: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def name(self, hint: str) -> str:
        """A name that nothing else has."""
        self._count += 1
        return f"{self.prefix}{hint}_{self._count}"

    def constant(self, array: ArrayLike) -> str:
        """The name of an initialiser with this content."""
        content = np.asarray(array)
        content = np.ascontiguousarray(content).reshape(content.shape)  # the first makes a vector of a number
        key = str(content.dtype), content.shape, content.tobytes()
        if key not in self._written:
            self._written[key] = self.name("constant")
            self.initializers.append(numpy_helper.from_array(content, self._written[key]))
        return self._written[key]

    def ints(self, *values: int) -> str:
        """The name of an initialiser with int64 values, (len(values),)."""
        return self.constant(np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Write a node with one output; its name."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Write a node with several outputs; their names."""
        names = [self.name(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], **attributes))
        return names

    def sizes(self, *sizes: Size) -> str:
        """The name of an int64 vector of sizes, some of which may be values."""
        if all(isinstance(size, int) for size in sizes):
            return self.ints(*(int(size) for size in sizes))
        values = [self.ints(size) if isinstance(size, int) else size for size in sizes]
        return self.op("Concat", *values, axis=0) if len(values) > 1 else values[0]

    def product(self, one: Size, other: Size) -> Size:
        """The product of two sizes."""
        if isinstance(one, int) and isinstance(other, int):
            return one * other
        return self.op("Mul", self.sizes(one), self.sizes(other))

    def reshape(self, x: str, *shape: Size) -> str:
        """The values of ``x`` in another shape, one size of which may be -1."""
        return self.op("Reshape", x, self.sizes(*shape))

    def split(self, x: str, widths: Sequence[int], axis: int) -> list[str]:
        """Parts of ``x``, as wide along an axis as is said."""
        if len(widths) == 1:
            return [x]
        return self.ops("Split", x, self.ints(*widths), outputs=len(widths), axis=axis)

    def reverse(self, x: str, axis: int) -> str:
        """``x`` backwards along an axis."""
        return self.op("Slice", x, self.ints(-1), self.ints(-(2**62)), self.ints(axis), self.ints(-1))

    def softplus(self, x: str, dtype: np.dtype[Any]) -> str:
        """log(1 + exp(x)), of parts that ONNX Runtime computes faster than its Softplus."""
        near = self.op("Exp", self.op("Neg", self.op("Abs", x)))
        return self.op(
            "Add", self.op("Relu", x), self.op("Log", self.op("Add", near, self.constant(np.ones((), dtype))))
        )
