"""What TensorRT does not take of an ONNX graph, by a written list: tensorrt.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

LIST = tomllib.loads(Path(__file__).with_name("tensorrt.toml").read_text(encoding="utf-8"))
TAKEN = {operator: group["types"] for group in LIST["taken"] for operator in group["operators"]}
LIMITS = LIST["limits"]
STANDARD = ("", "ai.onnx")  # domains
TYPES = {
    TensorProto.FLOAT: "FP32", TensorProto.FLOAT16: "FP16", TensorProto.BFLOAT16: "BF16", TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64", TensorProto.INT8: "INT8", TensorProto.UINT8: "UINT8", TensorProto.BOOL: "BOOL",
    TensorProto.DOUBLE: "FP64",
}  # fmt: skip


class Values:
    """Types, shapes and constants of a graph by name."""

    def __init__(self, graph: Any) -> None:
        self.types = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.input, *graph.output)}
        self.constants = {one.name: one for one in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = node.attribute[0].t

    def type_of(self, name: str) -> str:
        """``FP32``, ``INT64`` and others."""
        number = self.constants[name].data_type if name in self.constants else self.types[name].elem_type
        return TYPES.get(number, TensorProto.DataType.Name(number))

    def rank_of(self, name: str) -> int:
        """Its number of dimensions; 0 of what has none, or of what nobody can infer."""
        if name in self.constants:
            return len(self.constants[name].dims)
        return len(self.types[name].shape.dim) if name in self.types else 0

    def length_of(self, name: str, axis: int) -> int:
        """Its size along an axis; 0 of what nobody can infer."""
        return int(self.types[name].shape.dim[axis].dim_value) if name in self.types else 0


def faults(model: Any) -> Iterator[str]:
    """What of an ONNX file TensorRT does not take, or takes badly."""
    low, high = LIST["opset"]
    for opset in model.opset_import:
        if opset.domain not in STANDARD:
            yield f"operators of {opset.domain}"
        elif not low <= opset.version <= high:
            yield f"opset {opset.version}"
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = Values(graph)
    for node in graph.node:
        kind, inputs = node.op_type, [*node.input]
        data = inputs[1] if kind == "Where" else inputs[0] if inputs else node.output[0]
        if node.domain not in STANDARD:
            yield f"{kind} of {node.domain}"
            continue
        if kind in LIMITS["unwanted"] or kind not in TAKEN:
            yield kind
        elif values.type_of(data) not in TAKEN[kind]:
            yield f"{kind} of {values.type_of(data)}"
        for output in filter(None, node.output):
            if values.rank_of(output) > LIST["rank"]:
                yield f"{kind} of rank {values.rank_of(output)}"
        place = LIMITS["constant"].get(kind)
        if place is not None and place < len(inputs) and inputs[place] not in values.constants:
            yield f"{kind} with an input {place} that is not constant"
        yield from _attributes(node, values)


def _attributes(node: Any, values: Values) -> Iterator[str]:
    kind = node.op_type
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    given = {name: value.decode() if isinstance(value, bytes) else value for name, value in given.items()}
    for name, wanted in LIMITS["only"].get(kind, {}).items():
        if given.get(name, wanted) != wanted:
            yield f"{kind} with {name}={given[name]}"
    if kind == "TopK":
        rank = values.rank_of(node.input[0])
        if given.get("axis", -1) % rank < rank - LIMITS["topk_axes"]:
            yield f"TopK along axis {given['axis']} of {rank}"
        count = values.length_of(node.output[0], given.get("axis", -1))
        if count >= LIMITS["topk"]:
            yield f"TopK of {count} elements"
    if kind == "Resize":
        for name, known in LIMITS["resize"].items():
            if given.get(name, known[0]) not in known:
                yield f"Resize with {name}={given[name]}"
