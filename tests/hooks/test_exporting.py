"""ONNX files of whole models through Ultralytics' exporter: scans lowered, sizes open, nothing of ours left in them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from ultralytics import YOLO

import yolomix
from yolomix.hooks import exporting
from yolomix.ops._onnx.lower import Constants, LoweringError

NODES = {"mamba-yolo-t.yaml": 1700, "yolov8n-vmamba.yaml": 1000, "yolov8n-vim.yaml": 1300}
SCANS = {"mamba-yolo-t.yaml": 10, "yolov8n-vmamba.yaml": 6, "yolov8n-vim.yaml": 12}
GRAFT = "yolov8n+VSSBlock@p5.yaml"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the exporter writes the file of a model that has none


def made(name: str) -> YOLO:
    """A model whose norms and scores are not those of an untrained one, which are nearly equal everywhere."""
    torch.manual_seed(0)
    model = yolomix.YOLO(name)
    for module in model.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for branch in model.model.model[-1].cv3:
        branch[-1].bias.data.normal_()
    return model


def assert_equal(file: Path | str, model: YOLO, *shape: int) -> None:
    """The file gives what the model gives for an image (B, 3, H, W): boxes, as parts of the side, and scores."""
    x = torch.rand(*shape)
    with torch.no_grad():
        want = model.model.float().eval()(x)[0].numpy()
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    got = session.run(None, {"images": x.numpy()})[0]
    assert got.shape == want.shape
    assert np.ptp(want[:, 4:]) > 0.1
    assert np.abs(got - want)[:, :4].max() / max(shape) < 1e-4
    assert np.abs(got - want)[:, 4:].max() < 1e-4


def assert_lowered(file: Path | str, scans: int, nodes: int) -> None:
    model = onnx.load(file)
    onnx.checker.check_model(model)
    assert {one.domain for one in model.opset_import} | {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert [node.op_type for node in model.graph.node].count("Scan") == scans
    assert len(model.graph.node) <= nodes


@pytest.mark.parametrize("name", NODES)
def test_a_model_is_equal_at_every_size(name):
    model = made(name)
    file = model.export(format="onnx", imgsz=64, dynamic=True, simplify=True, device="cpu", verbose=False)
    assert_lowered(file, SCANS[name], NODES[name])
    for batch, height, width in [(1, 64, 64), (2, 96, 96), (4, 64, 160)]:
        assert_equal(file, model, batch, 3, height, width)


@pytest.mark.parametrize("simplify", [False, True])
def test_a_grafted_model_of_one_size(simplify):
    model = made(GRAFT)
    file = model.export(format="onnx", imgsz=64, simplify=simplify, device="cpu", verbose=False)
    assert_lowered(file, 1, 600)
    assert_equal(file, model, 1, 3, 64, 64)


def test_what_cannot_be_lowered_leaves_the_file_that_was_there(monkeypatch):
    model, file = made(GRAFT), Path(GRAFT).with_suffix(".onnx")
    file.write_bytes(b"an earlier file")
    monkeypatch.setattr(Constants, "find", lambda self, name: None)
    with pytest.raises(LoweringError, match=r"^model\.\d+\S*: ss2d cannot be exported: .*; set YOLOMIX_BACKEND=eager"):
        model.export(format="onnx", imgsz=64, device="cpu", verbose=False)
    assert file.read_bytes() == b"an earlier file"


@pytest.mark.parametrize(
    ("format", "block", "is_lowered"),
    [("onnx", yolomix.nn.GatedConv, True), ("onnx", nn.Conv2d, False)]
    + [(name, yolomix.nn.GatedConv, False) for name in ("engine", "mnn", "paddle", "saved_model", "rknn")],
)
def test_the_last_target_decides_and_other_models_export_as_before(format, block, is_lowered):
    exporter = SimpleNamespace(args=SimpleNamespace(format=format), model=nn.Sequential(block(8, 8, 1)))
    native = torch.onnx.export
    called = exporting.export_onnx(lambda _: torch.onnx.export, exporter)
    assert (called is not native) == is_lowered
    assert torch.onnx.export is native


def test_an_old_opset_keeps_plain_operators():
    model = made(GRAFT)
    file = model.export(format="onnx", imgsz=64, opset=12, simplify=False, device="cpu", verbose=False)
    assert "Scan" not in [node.op_type for node in onnx.load(file).graph.node]
