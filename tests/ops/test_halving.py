"""ONNX graphs in FP16: every node has one precision, what stays in FP32 is not rounded on its way, and all is valid."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from yolomix.ops._onnx.halving import halve, name_nodes
from yolomix.ops._onnx.lower import LoweringError

FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16


def model(nodes, weights=(), x=FLOAT, y=FLOAT, shape=(1, 4), opset=18):
    """A model from x to y, both of a shape; weights by their names."""
    inputs = [helper.make_tensor_value_info("x", x, shape)]
    outputs = [helper.make_tensor_value_info("y", y, [None] * len(shape))]
    initializers = [numpy_helper.from_array(array, name) for name, array in dict(weights).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    name_nodes(made.graph)
    return made


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def types(halved) -> dict[str, int]:
    """The types of all values."""
    inferred = onnx.shape_inference.infer_shapes(halved, check_type=True, strict_mode=True).graph
    found = {
        one.name: one.type.tensor_type.elem_type for one in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    return found | {one.name: one.data_type for one in inferred.initializer}


def run(halved, x) -> np.ndarray:
    return onnxruntime.InferenceSession(halved.SerializeToString()).run(None, {"x": x})[0]


def test_neighbours_in_fp32_hand_over_fp32():
    """70000 is no FP16 number; where it passes a cast to FP16 the result is infinite."""
    weights = {"big": np.array([70000], np.float32)}
    nodes = [node("Mul", "x big", "a"), node("Neg", "a", "b"), node("Div", "b big", "c"), node("Neg", "c", "y")]
    halved = halve(model(nodes, weights), {"a", "b", "c"})
    assert [one.op_type for one in halved.graph.node] == ["Mul", "Neg", "Div", "Cast", "Neg", "Cast"]
    assert types(halved)["big"] == FLOAT
    x = np.array([[1, 2, 3, 4]], np.float32)
    np.testing.assert_array_equal(run(halved, x), x)


def test_what_moves_numbers_has_the_precision_of_what_it_reads():
    weights = {"big": np.array([70000], np.float32), "w": np.ones((4, 4), np.float32)}
    nodes = [
        node("Mul", "x big", "a"),
        node("Transpose", "a", "b"),
        node("Div", "b big", "c"),
        node("Transpose", "w", "transposed"),
        node("MatMul", "transposed c", "d"),
        node("Transpose", "d", "y"),
    ]
    halved = halve(model(nodes, weights), {"a", "c"})
    found = types(halved)
    assert [found[name] for name in ("a", "b", "c", "w/float16", "d")] == [FLOAT, FLOAT, FLOAT, FLOAT16, FLOAT16]
    np.testing.assert_array_equal(run(halved, np.array([[1, 0, 0, 0]], np.float32)), np.ones((1, 4), np.float32))


def test_a_weight_that_both_read_is_written_in_both_types():
    weights = {"w": np.array([1.0001, 2, 3, 4], np.float32)}
    nodes = [node("Mul", "x w", "a"), node("Mul", "a w", "y")]
    halved = halve(model(nodes, weights), {"a"})
    found = {one.name: numpy_helper.to_array(one) for one in halved.graph.initializer}
    assert [one.dtype for one in found.values()] == [np.float32, np.float16]
    assert found["w"][0] == np.float32(1.0001)


def test_finite_weights_stay_finite_and_infinite_ones_infinite():
    weights = {"mask": np.array([-1e9, 1e9, -np.inf, 0.1], np.float32)}
    halved = halve(model([node("Add", "x mask", "y")], weights), ())
    (mask,) = (numpy_helper.to_array(one) for one in halved.graph.initializer)
    np.testing.assert_array_equal(mask, np.array([-65504, 65504, -np.inf, 0.1], np.float16))


def test_what_is_computed_from_sizes_stays_exact():
    """Positions up to 4099: FP16 has no odd number above 2048."""
    nodes = [
        node("Shape", "x", "shape"),
        node("Cast", "shape", "sizes", to=FLOAT),
        node("Add", "sizes one", "more"),
        node("Cast", "more", "whole", to=TensorProto.INT64),
        node("ReduceMax", "x", "m", keepdims=0),
        node("Expand", "m whole", "y"),
    ]
    made = model(nodes, {"one": np.ones(1, np.float32)}, shape=("batch", "n"))
    halved = halve(made, ())
    assert run(halved, np.ones((1, 4099), np.float32)).shape == (2, 4100)
    assert types(halved)["m"] == FLOAT16


def test_a_body_stays_in_fp32_with_all_that_it_reads_from_around():
    state = [helper.make_tensor_value_info(name, FLOAT, [1]) for name in ("h", "next")]
    step = [helper.make_tensor_value_info(name, FLOAT, [1]) for name in ("u", "out")]
    inner = [node("Mul", "h outer", "hw"), node("Add", "hw u", "next"), node("Identity", "next", "out")]
    body = helper.make_graph(inner, "steps", [state[0], step[0]], [state[1], step[1]])
    nodes = [
        node("Neg", "w", "negative"),
        node("Mul", "x negative", "column"),
        node("ReduceMean", "column", "outer", keepdims=0),
        node("Transpose", "column", "time"),
        helper.make_node("Scan", ["start", "time"], ["last", "ys"], name="scan", body=body, num_scan_inputs=1),
        node("Neg", "ys", "y"),
    ]
    weights = {"w": np.full(1, -1, np.float32), "start": np.zeros(1, np.float32)}
    halved = halve(model(nodes, weights, shape=(1, 4)), ())
    found = types(halved)
    assert (found["ys"], found["column"], found["start"]) == (FLOAT, FLOAT16, FLOAT)
    x = np.array([[1, 2, 3, 4]], np.float32)
    want, h = [], 0.0
    for u in x[0]:
        h = 2.5 * h + u
        want.append([-h])
    np.testing.assert_allclose(run(halved, x), want)


def test_scales_of_a_resize_and_constants_of_any_kind():
    image = {"x": FLOAT, "shape": (1, 1, 2, 2)}
    twice = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32))
    nodes = [
        node("Constant", "", "twice", value=twice),
        helper.make_node("Resize", ["x", "", "twice"], ["y"], name="r"),
    ]
    halved = halve(model(nodes, **image), ())
    assert types(halved)["twice"] == FLOAT
    assert run(halved, np.ones((1, 1, 2, 2), np.float32)).shape == (1, 1, 4, 4)


def test_a_graph_that_was_traced_in_half_keeps_its_ends():
    nodes = [node("Exp", "x", "a"), node("Neg", "a", "y")]
    halved = halve(model(nodes, x=FLOAT16, y=FLOAT16), {"a"})
    found = types(halved)
    assert (found["x"], found["a"], found["y"]) == (FLOAT16, FLOAT, FLOAT16)


def test_an_output_that_others_read_has_its_type_and_they_have_theirs():
    made = model([node("Neg", "x", "y"), node("Exp", "y", "z")])
    made.graph.output.append(helper.make_tensor_value_info("z", FLOAT, (1, 4)))
    halved = halve(made, ())
    found = types(halved)
    assert (found["y"], found["z"], found["y/float16"]) == (FLOAT, FLOAT, FLOAT16)
    assert run(halved, np.ones((1, 4), np.float32)).dtype == np.float32


def test_what_is_not_valid_is_said():
    broken = model([node("Neg", "x", "a"), node("NoSuchOperator", "a", "y")])
    with pytest.raises(
        LoweringError, match=r"^the graph in FP16 is not valid ONNX: (?s:.*); export it with quantize=32$"
    ):
        halve(broken, ())


def test_nodes_get_names_of_their_own():
    made = model(
        [helper.make_node("Neg", [a], [b], name=n) for a, b, n in [("x", "a", "n"), ("a", "b", "n"), ("b", "y", "")]]
    )
    assert [one.name for one in made.graph.node] == ["n", "n_1", "y"]
