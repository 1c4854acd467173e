"""The graphs that ``format=engine`` hands to TensorRT, held against a written list of what its parser takes.

Neither TensorRT nor a GPU is needed: Ultralytics exports ONNX first, and that is recorded as for an engine.
"""

from __future__ import annotations

from typing import Any

import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper
from ultralytics.engine.exporter import Exporter

import yolomix
from tests.full import cases
from tests.models import tensorrt
from tests.models.test_exported import NARROW
from tests.models.test_zoo import FACTS, ZOO
from yolomix.hooks.exports import SORTED
from yolomix.host import tools

ALWAYS = ("yolo11-assg", "yolo11-mlla", "yolov8-vim")
"""The plain operations of every layer are held against it in test_exported.py; here is Ultralytics' way to them."""


@pytest.fixture
def handed_over(monkeypatch, tmp_path):
    """Makes the ONNX file from which an engine is built."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tools, "WRITERS", {})  # no TensorRT
    monkeypatch.setattr(Exporter, "export_engine", lambda self, *_, **__: self.export_onnx())  # and no GPU

    def made(name: str) -> Any:
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(ZOO[name]) | NARROW))
        torch.manual_seed(0)
        given = {"format": "engine", "imgsz": 32, "simplify": True, "device": "cpu", "verify": False}
        return onnx.load(yolomix.YOLO(file).export(**given))

    return made


@pytest.mark.parametrize("name", cases(FACTS, ALWAYS))
def test_an_engine_is_built_of_what_tensorrt_takes(name, handed_over):
    assert {*tensorrt.faults(handed_over(name))} == set()


def test_no_graph_sorts_more_than_tensorrt_does():
    assert SORTED["engine"] < tensorrt.LIMITS["topk"]


def graph(*nodes: Any, opset: int = 18, domain: str = "", kind: int = TensorProto.FLOAT, rank: int = 4) -> Any:
    """A graph from ``x`` to ``y``, whose constants are called by their values."""
    shape = [5000] + [1] * (rank - 1)
    value = helper.make_tensor_value_info
    constants = [
        helper.make_tensor("0", TensorProto.INT64, [1], [0]),
        helper.make_tensor("4000", TensorProto.INT64, [1], [4000]),
    ]
    made = helper.make_graph(
        nodes, "g", [value("x", kind, shape), value("k", TensorProto.INT64, [1])], [], constants,
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid(domain, opset)])


NODE = helper.make_node


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (graph(NODE("Abs", ["x"], ["y"])), set()),
        (graph(NODE("Abs", ["x"], ["y"]), opset=8), {"opset 8"}),
        (graph(NODE("Abs", ["x"], ["y"], domain="mine"), domain="mine"), {"operators of mine", "Abs of mine"}),
        (graph(NODE("Abs", ["x"], ["y"]), kind=TensorProto.DOUBLE), {"Abs of FP64"}),
        (graph(NODE("Abs", ["x"], ["y"]), rank=9), {"Abs of rank 9"}),
        (graph(NODE("Det", ["x"], ["y"])), {"Det"}),
        (graph(NODE("Softplus", ["x"], ["y"]), kind=TensorProto.INT64), {"Softplus of INT64"}),
        (graph(NODE("CumSum", ["x", "k"], ["y"])), {"CumSum with an input 1 that is not constant"}),
        (graph(NODE("TopK", ["x", "4000"], ["y", "i"], axis=0)), {"TopK of 4000 elements"}),
        (graph(NODE("Equal", ["x", "x"], ["y"]), kind=TensorProto.BOOL), {"Equal of BOOL"}),
        (
            graph(NODE("TopK", ["x", "0"], ["y", "i"], axis=0, sorted=0), rank=5),
            {"TopK with sorted=0", "TopK along axis 0 of 5"},
        ),
        (
            graph(NODE("ScatterElements", ["x", "x", "x"], ["y"], reduction="add")),
            {"ScatterElements with reduction=add"},
        ),
        (graph(NODE("Resize", ["x", "", "", "k"], ["y"], mode="cubic")), {"Resize with mode=cubic"}),
    ],
    ids=lambda value: ", ".join(sorted(value)) if isinstance(value, set) else "",
)
def test_faults_are_found(model, found):
    assert {*tensorrt.faults(model)} == found
