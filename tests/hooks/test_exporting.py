"""Files of models through Ultralytics' exporter: scans lowered, nothing of ours in them, no size frozen unsaid."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import onnxslim
import openvino
import pytest
import torch
import ultralytics
from torch import Tensor, nn
from ultralytics import YOLO

import yolomix
from tests.full import full
from yolomix.hooks import exporting
from yolomix.ops import selective_scan, use_backend
from yolomix.ops._onnx.lower import Constants, LoweringError

MODEL = """
nc: 2
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, {block}, [{width}]]
head:
  - [-1, 1, Conv, [32, 3, 2]]
  - [[3, 4], 1, Detect, [nc]]
"""


with_openvino = pytest.mark.skipif(
    ultralytics.__version__ == "8.3.0" and not hasattr(openvino, "runtime"),
    reason=f"Ultralytics 8.3.0 calls openvino.runtime, which OpenVINO {openvino.__version__} has no more",
)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the exporter writes the file of a model that has none


def made(folder: Path, block: str, width: str = "") -> YOLO:
    """A small model whose norms and scores are not those of an untrained one, which are nearly equal everywhere."""
    file = folder / "small.yaml"
    file.write_text(MODEL.format(block=block, width=width))
    torch.manual_seed(0)
    model = YOLO(file)
    for module in model.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for branch in model.model.model[-1].cv3:
        branch[-1].bias.data.normal_()
    return model


@pytest.fixture(scope="module")
def scanning(tmp_path_factory) -> YOLO:
    return made(tmp_path_factory.mktemp("scanning"), "VSSBlock", "32")


@pytest.fixture(scope="module")
def attending(tmp_path_factory) -> YOLO:
    return made(tmp_path_factory.mktemp("attending"), "MLLAttention")


def export(model: YOLO, format: str, **more) -> Path:
    return Path(model.export(format=format, imgsz=64, device="cpu", verbose=False, **more))


def run(file: Path, x: Tensor) -> np.ndarray:
    """The first output of a file for images (B, 3, H, W), in the runtime of its format."""
    if file.suffix == ".torchscript":
        with torch.no_grad():
            return torch.jit.load(file)(x).numpy()
    if file.suffix == ".onnx":
        return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"images": x.numpy()})[
            0
        ]
    core = openvino.Core()
    (read,) = file.glob("*.xml")
    return core.compile_model(core.read_model(read), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x.numpy())[0]


def assert_equal(file: Path, model: YOLO, *shape: int, limit: float = 1e-4) -> None:
    """The file gives what the model gives for images (B, 3, H, W): boxes, as parts of the side, and scores."""
    x = torch.rand(*shape)
    with torch.no_grad():
        want = model.model.float().eval()(x)[0].numpy()
    got = run(file, x)
    assert got.shape == want.shape
    assert np.ptp(want[:, 4:]) > 0.1
    assert np.abs(got - want)[:, :4].max() / max(shape) < limit
    assert np.abs(got - want)[:, 4:].max() < limit


@pytest.mark.parametrize("simplify", [False, True])
def test_an_onnx_file_of_one_size(scanning, simplify, monkeypatch):
    monkeypatch.setenv("ONNXSLIM_MAX_ITER", "1")
    file = export(scanning, "onnx", simplify=simplify)
    assert os.environ["ONNXSLIM_MAX_ITER"] == "1"
    model = onnx.load(file)
    assert any(node.op_type == "Constant" for node in model.graph.node) != simplify
    onnx.checker.check_model(model)
    assert {one.domain for one in model.opset_import} | {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert [node.op_type for node in model.graph.node].count("Scan") == 1
    assert_equal(file, scanning, 1, 3, 64, 64)


def test_a_simplifier_that_fails_is_told_and_the_file_is_right(scanning, monkeypatch):
    told = []

    def fails(model, *args):
        model.graph.ClearField("node")
        raise RuntimeError("no such pattern")

    monkeypatch.setattr(onnxslim, "slim", fails)
    monkeypatch.setattr(exporting.LOGGER, "warning", told.append)
    assert_equal(export(scanning, "onnx"), scanning, 1, 3, 64, 64)
    assert "yolomix: onnxslim failed, and the graph stays as it was recorded: no such pattern" in told


@full
@pytest.mark.skipif(not hasattr(torch.onnx, "ops"), reason="PyTorch records nodes of ours since 2.8")
def test_whichever_exporter_ultralytics_asks_for(scanning, monkeypatch):
    write = exporting._write
    monkeypatch.setattr(exporting, "_write", lambda *args, **given: write(*args, **{**given, "dynamo": True}))
    file = export(scanning, "onnx", simplify=False)
    assert [node.op_type for node in onnx.load(file).graph.node].count("Scan") == 1
    assert_equal(file, scanning, 1, 3, 64, 64)


@pytest.mark.parametrize("format", ["onnx", pytest.param("openvino", marks=with_openvino)])
def test_open_sizes(scanning, format):
    file = export(scanning, format, dynamic=True)
    for batch, height, width in [(1, 64, 64), (2, 96, 96), (4, 64, 160)]:
        assert_equal(file, scanning, batch, 3, height, width)


@with_openvino
def test_an_openvino_file_has_one_loop_and_what_ultralytics_writes(scanning):
    file = export(scanning, "openvino")
    assert_equal(file, scanning, 1, 3, 64, 64)
    assert "imgsz" in (file / "metadata.yaml").read_text()
    operations = openvino.Core().read_model(next(file.glob("*.xml"))).get_ordered_ops()
    assert [one.get_type_name() for one in operations].count("TensorIterator") == 1
    # Ultralytics leaves the operations of the head itself out of INT8 by these names.
    names = [one.get_friendly_name() for one in operations]
    last = [one.get_friendly_name() for one in operations if one.get_type_name() == "Sigmoid"][-1]
    assert last.split("/")[0] == "model.5"
    assert any(name.startswith("model.5.dfl") for name in names)
    assert any(name.startswith("model.5.cv2.0") for name in names)
    size = next(file.glob("*.bin")).stat().st_size
    file = export(scanning, "openvino", half=True)
    assert next(file.glob("*.bin")).stat().st_size < 0.51 * size
    assert_equal(file, scanning, 1, 3, 64, 64, limit=1e-2)


@pytest.mark.parametrize("dynamic", [False, True])
def test_torchscript_files_of_attention_take_every_size_and_of_scans_one(scanning, attending, dynamic):
    model = attending if dynamic else scanning
    file = export(model, "torchscript", dynamic=dynamic)
    assert_equal(file, model, 1, 3, 64, 64)
    if dynamic:
        assert_equal(file, model, 2, 3, 96, 160)


def test_what_cannot_be_lowered_leaves_the_file_that_was_there(scanning, monkeypatch):
    file = Path("small.onnx")
    file.write_bytes(b"an earlier file")
    monkeypatch.setattr(Constants, "find", lambda self, name: None)
    with pytest.raises(LoweringError, match=r"^model\.\d+\S*: ss2d cannot be exported: .*; set YOLOMIX_BACKEND=eager"):
        export(scanning, "onnx")
    assert file.read_bytes() == b"an earlier file"


def test_torchscript_of_a_scan_with_open_sizes_is_refused_before_anything_is_written(scanning):
    said = (
        r"^dynamic=True cannot be kept: model\.3\.op calls ss2d, whose plain operations hold one size, and "
        r"format=torchscript has plain operations alone\. Leave dynamic out, or export to onnx or openvino$"
    )
    with pytest.raises(ValueError, match=said):
        export(scanning, "torchscript", dynamic=True)
    assert [*Path.cwd().iterdir()] == []


class Own(nn.Module):
    """A block of somebody's own, none of whose layers is ours."""

    def __init__(self, last_state: bool = False):
        super().__init__()
        self.last_state = last_state

    def forward(self, x: Tensor) -> Tensor:
        u = x.flatten(2)
        done = selective_scan(
            u, u.sigmoid(), -torch.ones(u.shape[1], 4), u[:, :4], u[:, :4], None, None, None, False, self.last_state
        )
        return done[0] if self.last_state else done


def exporter(format: str, *layers: nn.Module, dynamic: bool = False, opset: int | None = None) -> SimpleNamespace:
    args = SimpleNamespace(format=format, dynamic=dynamic, opset=opset, simplify=True)
    return SimpleNamespace(args=args, model=nn.Sequential(*layers).eval(), im=torch.rand(1, 8, 4, 4))


@pytest.mark.parametrize(
    ("format", "layer", "is_lowered"),
    [("onnx", yolomix.nn.VSSBlock(8, 8), True), ("onnx", Own(), True), ("onnx", Own(last_state=True), False)]
    + [("onnx", yolomix.nn.MLLABlock(8), False), ("onnx", nn.Conv2d(8, 8, 1), False)]
    + [(name, yolomix.nn.VSSBlock(8, 8), False) for name in ("engine", "mnn", "paddle", "saved_model", "rknn")],
)
def test_the_last_target_decides_and_what_has_no_scan_exports_as_before(format, layer, is_lowered):
    native = torch.onnx.export
    called = exporting.export_onnx(lambda _: torch.onnx.export, exporter(format, layer))
    assert (called is not native) == is_lowered
    assert torch.onnx.export is native


@pytest.mark.parametrize("format", ["torchscript", "coreml", "engine", "mnn"])
@pytest.mark.parametrize("hook", [exporting.export_onnx, exporting.export_plain])
def test_no_format_of_plain_operations_takes_a_scan_with_open_sizes(format, hook):
    with pytest.raises(ValueError, match=f"1 calls selective_scan, .* format={format} has plain operations alone"):
        hook(None, exporter(format, nn.ReLU(), Own(), dynamic=True))
    called = hook(lambda _: "called", exporter(format, yolomix.nn.MLLABlock(8), dynamic=True))
    assert called == "called"


@pytest.mark.parametrize("hook", [exporting.export_onnx, exporting.export_openvino])
def test_a_scan_that_no_node_holds_is_refused_with_open_sizes_only(hook):
    said = (
        r"^dynamic=True cannot be kept: 0 calls selective_scan, whose plain operations hold one size, and a marked "
        r"node has one output, and the last state is a second one\. Leave dynamic out, or call it so that a node can "
        r"hold it$"
    )
    with pytest.raises(ValueError, match=said):
        hook(None, exporter("onnx", Own(last_state=True), dynamic=True))
    assert hook(lambda _: "called", exporter("onnx", Own(last_state=True))) == "called"


def test_a_backend_that_is_asked_for_is_refused_with_open_sizes_only():
    with use_backend("eager"):
        with pytest.raises(ValueError, match="the backend 'eager' is asked for"):
            exporting.export_onnx(None, exporter("onnx", Own(), dynamic=True))
        assert exporting.export_onnx(lambda _: "called", exporter("onnx", Own())) == "called"


def test_an_old_opset_is_refused_unless_plain_operations_are_asked_for():
    old = exporter("onnx", yolomix.nn.VSSBlock(8, 8), opset=12)
    said = (
        r"^opset=12 has no form of ss2d, which 0\.op calls: it needs opset 13 or newer\. "
        r"Leave opset out, or set YOLOMIX_BACKEND=eager to export plain operations$"
    )
    with pytest.raises(ValueError, match=said):
        exporting.export_onnx(None, old)
    with use_backend("eager"):
        assert exporting.export_onnx(lambda _: "called", old) == "called"
