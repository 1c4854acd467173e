"""FP16 and INT8 files: what the table says stays in FP32 in every graph, and everything else is what was asked for."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from ultralytics.engine import exporter as exporters

from tests.hooks.test_exporting import assert_equal, export, made, with_openvino
from yolomix.hooks import exporting, precision
from yolomix.hooks.exports import PrecisionError
from yolomix.hooks.precision import Table
from yolomix.host import holding

new_enough = pytest.mark.skipif(
    not hasattr(exporters, "FP16_FORMATS"),
    reason="this Ultralytics writes no FP16 and no INT8 into ONNX files on a CPU",
)
with_nncf = pytest.mark.skipif(
    importlib.util.find_spec("nncf") is None, reason="INT8 NOT TRIED IN OPENVINO: nncf is not installed"
)
FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16
# What a small part of a graph looks like that has everything that the table names.
SCAN, NORM, SOFTMAX, BOXES = "/ss2d/", "LayerNormalization", "Softmax", "/model.5/"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def scanning(tmp_path_factory):
    return made(tmp_path_factory.mktemp("scanning"), "VSSBlock", "32")


@pytest.fixture(scope="module")
def routing(tmp_path_factory):
    return made(tmp_path_factory.mktemp("routing"), "ASSG")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Sixteen images of noise, as many as INT8 is calibrated on at least."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for i in range(16):
        for part in ("images", "labels"):
            (folder / part / "val").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / "val" / f"{i}.png"), random.integers(0, 256, (64, 64, 3), np.uint8))
        (folder / "labels" / "val" / f"{i}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    file = folder / "data.yaml"
    file.write_text(f"path: {folder}\ntrain: images/val\nval: images/val\nnames: [a, b]\n")
    return str(file)


def computed(model: onnx.ModelProto) -> dict[str, tuple[str, int]]:
    """The kind and the type of every node that computes with floats, by its name; casts and sizes are left out."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    kinds = {one.name: one.type.tensor_type.elem_type for one in (*inferred.value_info, *inferred.output)}
    found = {node.name: (node.op_type, kinds[node.output[0]]) for node in model.graph.node if node.op_type != "Cast"}
    assert len(found) == len([node for node in model.graph.node if node.op_type != "Cast"])
    return {name: one for name, one in found.items() if one[1] in (FLOAT, FLOAT16)}


def assert_in_fp32(found: dict[str, tuple[str, int]], *parts: str) -> None:
    """All nodes of these kinds, and of these places, are in FP32, and there are some."""
    for part in parts:
        kinds = {kind for name, (operation, kind) in found.items() if part in (operation,) or part in name}
        assert kinds == {FLOAT}, part


@new_enough
def test_an_onnx_file_in_fp16_computes_what_the_table_says_in_fp32(scanning, routing):
    file = export(scanning, "onnx", quantize=16)
    found = computed(onnx.load(file))
    assert_in_fp32(found, SCAN, NORM, SOFTMAX, "/dfl/")
    own = {kind for name, (_, kind) in found.items() if name.startswith(BOXES) and name.count("/") == 2}
    assert own == {FLOAT}
    others = Counter(kind for operation, kind in found.values() if operation in ("Conv", "Gemm", "Sigmoid"))
    assert others[FLOAT16] > 30 > 3 > others[FLOAT]  # the boxes' own conv and sigmoid
    assert "quantize': 16" in {one.key: one.value for one in onnx.load(file).metadata_props}["args"]
    assert_equal(file, scanning, 1, 3, 64, 64, limit=5e-3)
    found = computed(onnx.load(export(routing, "onnx", quantize=16)))
    assert_in_fp32(found, "/selective_scan/", "/route/", NORM, SOFTMAX)


@new_enough
def test_a_scan_whose_outputs_fp16_does_not_hold_reaches_its_norm(tmp_path):
    """As those of trained models do; in FP16 they are infinite, and the norm makes NaN of them."""
    model = made(tmp_path, "VSSBlock", "32")
    model.model.model[3].op.Ds.data.fill_(1e6)
    assert_equal(export(model, "onnx", quantize=16), model, 1, 3, 64, 64, limit=5e-3)


@new_enough
def test_a_graph_in_fp16_of_any_size_computes_positions_in_fp32(tmp_path):
    attending = made(tmp_path, "MLLAttention")
    file = export(attending, "onnx", quantize=16, dynamic=True)
    found = computed(onnx.load(file))
    assert {kind for operation, kind in found.values() if operation in ("Cos", "Sin", "Range")} == {FLOAT}
    assert_equal(file, attending, 2, 3, 96, 64, limit=5e-3)


@new_enough
def test_tensorrt_is_given_a_graph_of_plain_operations_with_its_precision_in_it(scanning, monkeypatch):
    """Strongly typed networks obey the graph. There is no TensorRT here, so the graph is read, and run elsewhere."""
    plan = exporting._plan

    def for_tensorrt(exporter):
        given = {**vars(exporter.args), "format": "engine", "quantize": 16}
        return plan(SimpleNamespace(model=exporter.model, im=exporter.im, args=SimpleNamespace(**given)))

    monkeypatch.setattr(exporting, "_plan", for_tensorrt)
    file = export(scanning, "onnx")
    found = computed(onnx.load(file))
    assert not any(operation in ("Scan", "Loop") for operation, _ in found.values())
    assert_in_fp32(found, SCAN, NORM, SOFTMAX, "/dfl/")
    assert sum(SCAN in name for name in found) > 50
    assert Counter(kind for operation, kind in found.values() if operation == "Conv")[FLOAT16] > 20
    assert_equal(file, scanning, 1, 3, 64, 64, limit=5e-3)


@new_enough
def test_an_onnx_file_in_int8_has_the_rest_as_it_was(scanning, data):
    file = export(scanning, "onnx", quantize=8, data=data)
    model = onnx.load(file)
    read = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    weighted = [node for node in model.graph.node if read.intersection(node.input[1:2])]
    quantised = {node.name: node.op_type for node in weighted}
    assert {"Conv", "MatMul"} <= {*quantised.values()}
    table = Table(scanning.model)
    assert [name for name, kind in quantised.items() if table.keeps(name, kind)] == []
    scans = [node for node in model.graph.node if node.op_type == "MatMul" and SCAN in node.name]
    assert len(scans) == 2
    assert holding.weights(file)["int8"] > holding.weights(file)["float32"]


@with_nncf
@with_openvino
@new_enough
def test_openvino_quantises_neither_what_the_table_names_nor_the_loop(scanning, data):
    import openvino

    file = export(scanning, "openvino", quantize=8, data=data)
    model = openvino.Core().read_model(next(file.glob("*.xml")))
    loops, quantised = 0, set()
    for one in model.get_ops():
        if one.get_type_name() == "TensorIterator":
            loops += 1
            assert "FakeQuantize" not in {inner.get_type_name() for inner in one.get_function().get_ops()}
        made_by = {port.get_source_output().get_node().get_type_name() for port in one.inputs()}
        if "FakeQuantize" in made_by:
            quantised.add((one.get_type_name(), one.get_friendly_name()))
    assert loops == 1
    assert len(quantised) > 10
    assert [name for kind, name in quantised if kind == "MatMul" and SCAN[1:-1] in name] == []
    assert [name for kind, name in quantised if kind in ("MVN", "Softmax")] == []
    assert holding.weights(file)["int8"] > holding.weights(file)["float32"]


@with_openvino
def test_tables_in_weights_are_told_from_feature_maps():
    import openvino
    from openvino import opset13 as operations

    x = operations.parameter([4, 2], np.float32)
    half = operations.convert(operations.constant(np.zeros((4, 2), np.float16)), "f32")
    places, axis = (operations.constant(np.array(value)) for value in ([1, 0], 0))
    gathers = [operations.gather(one, places, axis) for one in (x, half)]
    of_map, of_weights, of_both = (*gathers, operations.gather(gathers[1], places, axis))
    for one, name in ((of_map, "map"), (of_weights, "weights"), (of_both, "twice")):
        one.set_friendly_name(name)
    model = openvino.Model([operations.add(of_map, operations.add(of_weights, of_both))], [x])
    assert sorted(precision._tables(model)) == ["twice", "weights"]


def test_modelopt_leaves_the_graph_in_fp16_alone_and_is_told_what_not_to_quantise(scanning, tmp_path, monkeypatch):
    """ModelOpt is not here: a module of its name says what it was called with."""
    pytest.importorskip("ultralytics.utils.export.engine")
    from ultralytics.utils.export import engine

    said = []
    quantization = types.ModuleType("modelopt.onnx.quantization")
    quantization.quantize = lambda path, **given: said.append(given)
    for name in ("modelopt", "modelopt.onnx"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["modelopt.onnx"].quantization = quantization
    monkeypatch.setitem(sys.modules, "modelopt.onnx.quantization", quantization)

    def native(onnx_file, quantize, *args):
        return sys.modules["modelopt.onnx.quantization"].quantize(onnx_file, nodes_to_exclude=[r"/dfl/"])

    monkeypatch.setattr(engine, "modelopt_quantize_onnx", native)
    nodes = [onnx.helper.make_node("Exp", ["x"], ["y"], name="/model.3/op/ss2d/Exp")]
    ends = [onnx.helper.make_tensor_value_info(name, FLOAT, [1]) for name in "xy"]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])), tmp_path / "a.onnx")
    with precision.for_tensorrt(Table(scanning.model)):
        assert engine.modelopt_quantize_onnx("a.onnx", 16) == "a.onnx"
        assert said == []
        engine.modelopt_quantize_onnx(str(tmp_path / "a.onnx"), 8)
    excluded = ["/dfl/", r"^/model\.3/op/ss2d/Exp$"]
    assert said == [{"nodes_to_exclude": excluded, "high_precision_dtype": "fp32"}]
    assert engine.modelopt_quantize_onnx is native


@new_enough
def test_a_file_in_another_precision_is_an_error_and_the_earlier_file_stays(scanning, monkeypatch):
    Path("small.onnx").write_text("an earlier file")
    monkeypatch.setattr(precision, "written", lambda model, *_: model)
    said = (
        r"^format=onnx was asked for FP16, and the file has 100% of its weights in float32; it was not put in place\. "
        r"Export in FP32, or to another format$"
    )
    with pytest.raises(PrecisionError, match=said):
        export(scanning, "onnx", quantize=16)
    assert [(file.name, file.read_text()) for file in Path.cwd().iterdir()] == [("small.onnx", "an earlier file")]


@pytest.mark.parametrize(
    ("size", "precision", "said"),
    [(4000, "FP16", "4.0 bytes for each weight"), (2100, "FP16", ""), (2100, "INT8", "2.1 bytes for each weight")],
)
def test_what_only_its_runtime_reads_is_judged_by_its_size(size, precision, said, tmp_path):
    Path("a.mnn").write_bytes(bytes(size))
    assert holding.refusal(Path("a.mnn"), precision, parameters=1000) == said


def test_weights_of_torchscript_are_counted():
    layer = torch.nn.Linear(3, 2).half()
    torch.jit.trace(layer, torch.zeros(1, 3).half()).save("a.torchscript")
    assert holding.weights(Path("a.torchscript")) == Counter(float16=8)
    assert holding.refusal(Path("a.torchscript"), "INT8", 8) == "100% of its weights in float16"


def test_models_without_our_blocks_are_as_ultralytics_writes_them(monkeypatch):
    """Nothing is rehearsed and nothing replaced."""
    exporter = SimpleNamespace(
        model=torch.nn.Conv2d(3, 8, 1), im=torch.zeros(1, 3, 8, 8), args=SimpleNamespace(format="onnx", quantize=16)
    )
    monkeypatch.setattr(exporting, "replaced", None)
    assert exporting.export_onnx(lambda given: given, exporter) is exporter
