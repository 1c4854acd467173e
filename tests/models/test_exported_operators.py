"""No exported graph has an operator or a shape that a runtime lacks: ``runtimes.toml`` says which do."""

from __future__ import annotations

import io
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from tests.models.test_zoo import FACTS, ZOO, build

RUNTIMES = tomllib.loads(Path(__file__).with_name("runtimes.toml").read_text(encoding="utf-8"))

KNOWN = {("ncnn", "yolo11-assg"): {"aten::argsort", "aten::scatter"}}
"""Faults that are still there, by runtime and model; one that is mended has to be taken out."""

INT64 = onnx.TensorProto.INT64


def exported(name: str) -> tuple[Any, Any]:
    """The TorchScript graph of a model at its smallest scale, inlined, and its ONNX graph with all shapes."""
    model = build(ZOO[name], next(iter(FACTS[name].parameters))).eval().fuse(verbose=False).requires_grad_(False)
    head = model.model[-1]
    head.export, head.format = True, "onnx"
    x, file = torch.rand(1, 3, 64, 64), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model(x)  # anchors are made before a graph is recorded
        traced = torch.jit.trace(model, x, check_trace=False, strict=False)
        torch.onnx.export(model, (x,), file, opset_version=18, dynamo=False)
    return traced.inlined_graph, onnx.shape_inference.infer_shapes(onnx.load_from_string(file.getvalue())).graph


def torchscript_faults(graph: Any, limits: dict[str, Any]) -> Iterator[str]:
    """What a TorchScript graph has that a runtime lacks."""
    for node in graph.nodes():
        kind, inputs = node.kind(), [*node.inputs()]
        if kind in limits["lacks"]:
            yield kind
        for output in node.outputs():
            sizes = output.type().sizes() if output.type().kind() == "TensorType" else None
            if sizes is not None and len(sizes) > limits["rank"]:
                yield f"{kind} of rank {len(sizes)}"
        if kind == "aten::slice" and not limits.get("step", True) and inputs[4].toIValue() not in (None, 1):
            yield "aten::slice with a step"
        if kind == "aten::expand" and not limits.get("batch_expand", True):
            before, after = inputs[0].type().sizes(), node.output().type().sizes()
            if len(after) > 2 and from_input(inputs[0]):
                yield f"aten::expand of {before} to {after}"


def from_input(value: Any) -> bool:
    """Whether a value of the graph has the values of the image in it; what is made of sizes alone is constant."""
    seen, waiting = set(), [value]
    while waiting:
        value = waiting.pop()
        node = value.node()
        if value.debugName() in seen or node.kind() == "aten::size":
            continue
        seen.add(value.debugName())
        if node.kind() == "prim::Param" and value.type().kind() == "TensorType":
            return True
        waiting += node.inputs()
    return False


def onnx_faults(graph: Any, limits: dict[str, Any]) -> Iterator[str]:
    """What an ONNX graph has that a runtime lacks."""
    values = {value.name: value.type.tensor_type for value in graph.value_info}
    for node in graph.node:
        kind = node.op_type
        if kind == "TopK" and values[node.input[0]].elem_type == INT64:
            kind = "TopK int64"
        if kind in limits["lacks"]:
            yield kind
        for output in node.output:
            rank = len(values[output].shape.dim) if output in values else 0
            if rank > limits.get("rank", rank):
                yield f"{kind} of rank {rank}"


@pytest.mark.parametrize("name", FACTS)
def test_a_graph_has_only_what_the_runtimes_have(name):
    script, file = exported(name)
    for runtime, limits in RUNTIMES.items():
        faults = torchscript_faults(script, limits) if limits["graph"] == "torchscript" else onnx_faults(file, limits)
        assert set(faults) == KNOWN.get((runtime, name), set()), runtime


class Faulty(torch.nn.Module):
    def forward(self, x):
        y = torch.addcmul(x, x, x)[..., ::2].view_as(x[..., ::2])
        return y, x[:, None].expand(-1, 2, -1, -1, -1), x.unflatten(3, (2, 1, 2)), (100 * x).long().argsort(dim=1) % 3


def test_faults_are_found():
    x, file = torch.rand(1, 3, 4, 4), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(Faulty(), x).inlined_graph
        torch.onnx.export(Faulty(), (x,), file, opset_version=18, dynamo=False)
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(file.getvalue())).graph
    assert set(torchscript_faults(script, RUNTIMES["ncnn"])) == {
        "aten::addcmul",
        "aten::argsort",
        "aten::view_as",
        "aten::slice with a step",
        "aten::unflatten of rank 6",
        "aten::expand of [1, 1, 3, 4, 4] to [1, 2, 3, 4, 4]",
    }
    assert set(onnx_faults(graph, RUNTIMES["tensorrt"])) == {"TopK int64", "Mod"}
