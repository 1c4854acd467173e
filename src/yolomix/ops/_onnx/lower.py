"""Marked nodes of an ONNX graph, replaced by nodes that a runtime has."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper
from onnx.reference import ReferenceEvaluator

from yolomix.ops._onnx.graph import Graph, Size
from yolomix.ops.marking import DOMAIN

PLAIN = "set YOLOMIX_BACKEND=eager to export plain operators instead"


class LoweringError(RuntimeError):
    """What is marked cannot be replaced; the text names layer, operator and remedy."""


@dataclass(frozen=True)
class Call:
    """A marked node: what a form is written from.

    Args:
        graph: where the form goes.
        target: for what the file is made, a value of ``format=``.
        inputs: names of the values that were given, by the names of the operator's inputs.
        known: the shape of the first input, None if it is known where the graph runs alone.
        flags: the inputs that are no tensors.
        constants: what reads values that do not depend on the image.
    """

    graph: Graph
    target: str
    inputs: dict[str, str]
    known: Sequence[int] | None
    flags: dict[str, int]
    constants: Constants

    def sizes(self, *axes: int) -> list[Size]:
        """Sizes of the first input along some of its axes."""
        if self.known is not None:
            return [self.known[axis] for axis in axes]
        at_run_time = self.graph.op("Shape", next(iter(self.inputs.values())))
        return [self.graph.op("Gather", at_run_time, self.graph.ints(axis)) for axis in axes]

    def array(self, name: str) -> np.ndarray[Any, Any]:
        """The content of an input that has to be a weight.

        Raises:
            LoweringError: it depends on the image.
        """
        found = self.constants.find(self.inputs[name])
        if found is None:
            raise LoweringError(f"its {name} depends on the image, and a file takes it as a constant")
        return found


def lower(
    model: ModelProto, form: str, target: str, simplify: Callable[[ModelProto], ModelProto] | None = None
) -> ModelProto:
    """A model with every marked node replaced; the one that is given is not to be used any more.

    Args:
        model: the graph that an ONNX exporter made while operators were marked.
        form: which form takes their places, a file ``ops/<operator>/export/onnx_<form>.py``; any where none is marked.
        target: for what the file is made, a value of ``format=``.
        simplify: what the graph goes through before, while it is small.

    Raises:
        LoweringError: a node cannot be replaced, or what came out is no valid ONNX model.
    """
    _infer_shapes(model)
    if simplify is not None:
        model = simplify(model)
    graph, constants = model.graph, Constants(model)
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.domain != DOMAIN:
            nodes.append(node)
            continue
        written = Graph(f"{node.name or node.output[0]}/")
        try:
            y = _write(written, node, constants, form, target)
        except LoweringError as error:
            raise LoweringError(f"{_layer(node)}: {node.op_type} cannot be exported: {error}; {PLAIN}") from error
        nodes += [*written.nodes, helper.make_node("Identity", [y], list(node.output), name=f"{written.prefix}output")]
        graph.initializer.extend(written.initializers)
    del graph.node[:]
    graph.node.extend(nodes)
    _remove_unused(graph)
    for domain in [one for one in model.opset_import if one.domain == DOMAIN]:
        model.opset_import.remove(domain)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise LoweringError(f"the graph with its scans in place is not valid ONNX: {error}; {PLAIN}") from error
    return model


def _infer_shapes(model: ModelProto) -> None:
    """Note the shapes of all values: ONNX cannot infer any behind a marked node, which has those of its first input."""
    seen_through = ModelProto()
    seen_through.CopyFrom(model)
    for node in seen_through.graph.node:
        if node.domain == DOMAIN:
            node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output))
    inferred = onnx.shape_inference.infer_shapes(seen_through, data_prop=True)
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)


class Constants:
    """Values of a graph that do not depend on its inputs, computed when they are asked for."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.opsets = {one.domain: one.version for one in model.opset_import if one.domain != DOMAIN}
        self.known = {one.name: one for one in graph.initializer}
        self.made_by = {name: node for node in graph.node for name in node.output}
        self.values = {one.name: one.type.tensor_type for one in (*graph.input, *graph.value_info)}

    def shape(self, name: str) -> list[int] | None:
        """The shape of a value; None if it is known where the graph runs alone."""
        sizes = self.values[name].shape.dim if name in self.values else []
        known = [size.dim_value for size in sizes if size.HasField("dim_value")]
        return known if known and len(known) == len(sizes) else None

    def find(self, name: str) -> np.ndarray[Any, Any] | None:
        """The content of a value; None if it depends on an input."""
        if name in self.known:
            return np.asarray(onnx.numpy_helper.to_array(self.known[name]))
        nodes, weights = dict[int, NodeProto](), dict[str, Any]()
        if not self._gather(name, nodes, weights):
            return None
        asked = onnx.ValueInfoProto(name=name)
        part = helper.make_graph(list(nodes.values()), "constant", [], [asked], list(weights.values()))
        return np.asarray(ReferenceEvaluator(part, opsets=self.opsets).run(None, {})[0])

    def _gather(self, name: str, nodes: dict[int, NodeProto], weights: dict[str, Any]) -> bool:
        """Collect, in order, what a value is computed from; whether that is weights alone."""
        if name in self.known:
            weights[name] = self.known[name]
            return True
        node = self.made_by.get(name)
        if node is None or node.domain == DOMAIN:
            return False
        found = all(self._gather(given, nodes, weights) for given in node.input if given)
        nodes[id(node)] = node
        return found


def _write(g: Graph, node: NodeProto, constants: Constants, form: str, target: str) -> str:
    """The nodes of a form; the name of its output."""
    flags = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    inputs = dict(zip(flags.pop("names").decode().split(","), node.input, strict=True))
    call = Call(g, target, inputs, constants.shape(node.input[0]), flags, constants)
    y: str = importlib.import_module(f"yolomix.ops.{node.op_type}.export.onnx_{form}").write(call)
    return y


def _layer(node: NodeProto) -> str:
    """The module that called, ``model.4.m.0``, as either exporter writes it."""
    scopes = next((one.value for one in node.metadata_props if one.key.endswith("name_scopes")), None)
    if scopes is not None:  # "['', 'model.4', 'model.4.m.0', '_symbolic']"
        return str(ast.literal_eval(scopes)[-2]) or "the model"
    # "/model.4/m.0/op/ss2d/ss2d": the call has a scope of its own
    scope = node.name.removesuffix(f"/{node.op_type}").split("/")[1:-1]
    return ".".join(scope) or "the model"


def _remove_unused(graph: GraphProto) -> None:
    """Remove the nodes, the weights and the shapes of values that nothing reads any more."""
    read = {one.name for one in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            kept.append(node)
            read.update(_reads(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for described in (graph.initializer, graph.value_info):
        for one in [one for one in described if one.name not in read]:
            described.remove(one)


def _reads(node: NodeProto) -> Iterator[str]:
    """The names that a node reads, also those inside the graphs that it holds."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            for inner in attribute.g.node:
                yield from _reads(inner)
