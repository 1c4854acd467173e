"""An ONNX graph in FP16, but for the nodes that stay in FP32: every node has one precision, with casts between them.

The types are in the graph itself, so that a runtime that obeys them, as TensorRT 11 does, has no choice to make.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from yolomix.ops._onnx.lower import LoweringError

SINGLE, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
KINDS = {SINGLE: np.float32, HALF: np.float16}
LARGEST = float(np.finfo(np.float16).max)  # of a finite weight: a mask of -1e9 must not become -infinity
# Operators, and inputs of operators by their index, for which ONNX has no FP16.
SINGLE_NODES = ("Range", "NonMaxSuppression", "Upsample")
SINGLE_INPUTS = {"Resize": 2}  # the scales
SIZES = ("Shape", "Size")
# What moves numbers and computes none has the precision of what it reads: the cast is behind it, and perhaps needless.
# Outputs of trained scans pass 65504, and between them and the norm that follows is a Transpose.
MOVING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Identity", "Cast")


def halve(model: ModelProto, kept: Collection[str]) -> ModelProto:
    """The model with every float in FP16 but for those of some nodes; its inputs and outputs keep their types.

    What does not depend on the image, as positions do not, stays in FP32: FP16 has no odd number above 2048. So do
    nodes that hold a graph, as ``Scan`` does, together with it.

    >>> x, y = (helper.make_tensor_value_info(name, SINGLE, [2]) for name in "xy")
    >>> nodes = [helper.make_node("Exp", ["x"], ["e"], name="exp"), helper.make_node("Neg", ["e"], ["y"], name="neg")]
    >>> small = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)])
    >>> [node.op_type for node in halve(small, {"exp"}).graph.node]
    ['Exp', 'Cast', 'Neg', 'Cast']

    Args:
        model: of standard operators; it is not to be used any more.
        kept: the names of the nodes that stay in FP32.

    Raises:
        LoweringError: what comes out is no valid ONNX model.
    """
    _hoist_constants(model.graph)
    _Halving(model, kept).rewrite(model.graph)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise LoweringError(f"the graph in FP16 is not valid ONNX: {error}; export it with quantize=32") from error
    return model


def name_nodes(graph: GraphProto) -> None:
    """Give every node a name of its own: what stays in FP32, and what is not quantised, is said by names.

    >>> twins = [helper.make_node("Exp", ["x"], [y], name="exp") for y in "ab"]
    >>> graph = helper.make_graph(twins, "g", [], [])
    >>> name_nodes(graph)
    >>> [node.name for node in graph.node]
    ['exp', 'exp_1']
    """
    taken = set[str]()
    for node in graph.node:
        first = name = node.name or node.output[0]
        count = 0
        while name in taken:
            count += 1
            name = f"{first}_{count}"
        node.name = name
        taken.add(name)


class _Halving:
    """The type of every value, while nodes are rewritten one after the other."""

    def __init__(self, model: ModelProto, kept: Collection[str]) -> None:
        graph, inferred = model.graph, onnx.shape_inference.infer_shapes(model).graph
        self.kept, self.fixed = kept, {*_fixed(graph)}
        described = (*inferred.input, *inferred.value_info, *inferred.output)
        found = {one.name: one.type.tensor_type.elem_type for one in described}
        found |= {one.name: one.data_type for one in graph.initializer}
        self.type = {name: kind for name, kind in found.items() if kind in KINDS}
        self.weights = {one.name: one for one in graph.initializer if one.name in self.type}
        self.initializers = [one for one in graph.initializer if one.name not in self.weights]
        self.nodes: list[NodeProto] = []
        self.made = dict[tuple[str, int], str]()  # what holds a value in a type

    def rewrite(self, graph: GraphProto) -> None:
        """Replace the nodes and the weights of the graph."""
        for node in graph.node:
            self._node(node, self._kind(node))
        for one in graph.output:
            declared = one.type.tensor_type.elem_type
            if self.type.get(one.name, declared) != declared:
                self._cast_output(one.name, declared)
        for name, values in (("node", self.nodes), ("initializer", self.initializers), ("value_info", [])):
            graph.ClearField(name)
            getattr(graph, name).extend(values)

    def _kind(self, node: NodeProto) -> int:
        """The precision of a node."""
        if node.name in self.kept or node.op_type in SINGLE_NODES or any(_bodies(node)):
            return SINGLE
        first = node.input[0] if node.input else ""
        if node.op_type in MOVING and first in self.type:
            return HALF if first in self.weights else self.type[first]
        return SINGLE if node.name in self.fixed else HALF

    def _node(self, node: NodeProto, kind: int) -> None:
        for reader in (node, *_inside(node)):
            for i, name in enumerate(reader.input):
                if name in self.type and reader.op_type != "Cast":
                    is_single = SINGLE_INPUTS.get(reader.op_type) == i
                    reader.input[i] = self._as(name, SINGLE if is_single else kind)
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i in KINDS:
                attribute.i = kind
            if attribute.type == AttributeProto.TENSOR and attribute.t.data_type in KINDS:
                attribute.t.CopyFrom(_converted(attribute.t, kind, attribute.t.name))
        for name in self.type.keys() & set(node.output):
            self.type[name] = kind
        self.nodes.append(node)

    def _as(self, name: str, kind: int) -> str:
        """What holds a value in a type: a weight is written in it, anything else is cast."""
        key = name, kind
        if key not in self.made:
            same = self.type[name] == kind
            self.made[key] = name if same else f"{name}/{KINDS[kind].__name__}"
            if name in self.weights:
                self.initializers.append(_converted(self.weights[name], kind, self.made[key]))
            elif not same:
                self._cast(name, self.made[key], kind)
        return self.made[key]

    def _cast(self, name: str, to: str, kind: int) -> None:
        self.nodes.append(helper.make_node("Cast", [name], [to], name=f"{to}/Cast", to=kind))

    def _cast_output(self, name: str, kind: int) -> None:
        """Let an output have the type that it had; what made and what reads it goes by another name."""
        other = f"{name}/{KINDS[self.type[name]].__name__}"
        for node in self.nodes:
            for names in (node.input, node.output):
                for i, one in enumerate(names):
                    if one == name:
                        names[i] = other
        self._cast(other, name, kind)


def _converted(tensor: TensorProto, kind: int, name: str) -> TensorProto:
    """A weight in a type: finite values stay finite."""
    values = numpy_helper.to_array(tensor)
    if kind == HALF:
        values = np.where(np.isfinite(values), values.clip(-LARGEST, LARGEST), values)
    return numpy_helper.from_array(values.astype(KINDS[kind]), name)


def _hoist_constants(graph: GraphProto) -> None:
    """Make a weight of every node that is a constant."""
    nodes = []
    for node in graph.node:
        values = [one.t for one in node.attribute if node.op_type == "Constant" and one.name == "value"]
        for value in values:
            weight = graph.initializer.add()
            weight.CopyFrom(value)
            weight.name = node.output[0]
        if not values:
            nodes.append(node)
    graph.ClearField("node")
    graph.node.extend(nodes)


def _fixed(graph: GraphProto) -> Iterator[str]:
    """The names of the nodes whose outputs do not depend on what is in the image, but perhaps on its size."""
    dependent = {one.name for one in graph.input}
    for node in graph.node:
        reads = {*node.input} | {name for inner in _inside(node) for name in inner.input}
        if node.op_type not in SIZES and reads & dependent:
            dependent.update(node.output)
        else:
            yield node.name


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g


def _inside(node: NodeProto) -> Iterator[NodeProto]:
    """The nodes of the graphs that a node holds."""
    for body in _bodies(node):
        for inner in body.node:
            yield inner
            yield from _inside(inner)
