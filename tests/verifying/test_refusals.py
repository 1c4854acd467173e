"""Bad input, missing packages and runtimes that hang: one clear message, and nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

import yolomix
from tests.tiny import description
from yolomix.host import tools, weights
from yolomix.host.exported import Contents
from yolomix.verifying import child, runtime, verifying
from yolomix.verifying.checks import says
from yolomix.verifying.runtime import MissingError, RefusedError, Runtime
from yolomix.verifying.values import VerificationError


class Stub(Runtime):
    """A process that does what a line of Python says."""

    code = ""

    def _start(self):
        native = subprocess.Popen

        def started(words, **more):
            return native([sys.executable, "-c", self.code], **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocess, "Popen", started)
            super()._start()


def stub(code: str) -> type[Stub]:
    return type("Stub", (Stub,), {"code": code})


def test_a_runtime_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(runtime, "PATIENCE", 0.3)
    with pytest.raises(RefusedError, match=r"^it did not answer within 0 s and was ended$"):
        stub("import time; time.sleep(60)")("a.onnx", 1)


def test_a_runtime_that_dies_leaves_its_last_words():
    with pytest.raises(RefusedError, match=r"^its process ended with 3: no such instruction$"):
        stub("import sys; sys.stderr.write('no such instruction'); sys.exit(3)")("a.onnx", 1)


def test_a_package_that_is_missing_is_named():
    with pytest.raises(MissingError, match=r"^openvino$"):
        stub("""print('{"missing": "openvino"}')""")("a_openvino_model", 1)


def answers(monkeypatch, **opened) -> None:
    """Let every file open, and say that."""
    told = {"metadata": {}, "dynamic": False, "half": False, "seconds": 0.0, "memory": 0.0, "runtime": "", **opened}
    monkeypatch.setattr(Runtime, "__init__", lambda self, *_: setattr(self, "opened", told))
    monkeypatch.setattr(Runtime, "close", lambda self: None)


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = weights.from_rows(description())
    made.task = "detect"
    weights.write(made, "a.pt")
    Path("a.onnx").write_bytes(b"not a model")
    return yolomix.YOLO("a.pt")


def test_a_file_that_is_not_there(model):
    with pytest.raises(FileNotFoundError, match=r"^no exported file b.onnx; `yolomix export model=a.pt format=onnx`"):
        yolomix.verify(model, "b.onnx")


def test_what_is_no_model():
    with pytest.raises(TypeError, match=r"^verify compares with a model in PyTorch, .*; got 3$"):
        yolomix.verify(3, "b.onnx")


def test_a_file_that_is_not_of_ultralytics(model, monkeypatch):
    answers(monkeypatch)
    with pytest.raises(ValueError, match=r"^a.onnx is no exported model: it does not say its task, names, imgsz, as "):
        yolomix.verify(model, "a.onnx")
    assert [*Path().glob("*verification*")] == []


def raising(error):
    def init(self, *_):
        raise error

    return init


def test_a_runtime_that_is_not_installed_is_no_verdict(model, monkeypatch):
    monkeypatch.setattr(Runtime, "__init__", raising(MissingError("openvino")))
    found = yolomix.verify(model, "a.onnx")
    assert found.verified is None
    assert found.advice == (
        "a.onnx is not verified: openvino is not installed: pip install 'yolomix[export]', "
        "then `yolomix verify model=a.pt file=a.onnx`"
    )


def test_a_file_that_does_not_open_differs(model, monkeypatch):
    monkeypatch.setattr(Runtime, "__init__", raising(RefusedError("Protobuf parsing failed.")))
    found = yolomix.verify(model, "a.onnx")
    assert found.verified is False
    assert found.advice.startswith(
        "a.onnx differs from PyTorch: opens: Protobuf parsing failed., allowed a file that its runtime opens. "
    )
    assert [*Path().glob("*verification*")] == []


def test_an_export_that_differs_raises_with_what_was_found(model, monkeypatch):
    monkeypatch.setattr(Runtime, "__init__", raising(RefusedError("no")))
    monkeypatch.setattr("ultralytics.engine.model.Model.export", lambda self, **_: "a.onnx")
    with pytest.raises(VerificationError, match=r"^a.onnx differs from PyTorch: opens: no") as caught:
        model.export(format="onnx")
    assert caught.value.verification.verified is False
    assert model.export(format="onnx", verify=False) == "a.onnx"


def test_a_runtime_that_hangs_ends_with_who_asked():
    """A caller that was killed closes the pipe, and nothing more."""
    hangs = "import time; from yolomix.verifying import child; child._open = lambda *_: time.sleep(600); child.main()"
    with subprocess.Popen([sys.executable, "-c", hangs], stdin=subprocess.PIPE, text=True) as process:
        process.stdin.write('{"file": "a.onnx", "device": "cpu", "threads": 1}\n')
        process.stdin.close()
        assert process.wait(60) == 0


CONTENTS = Contents("detect", {0: "0", 1: "1"}, (64, 64))


@pytest.mark.parametrize(
    ("contents", "told"),
    [
        (Contents("pose", {0: "0", 1: "1"}, (64, 64)), "its task is pose, not detect"),
        (Contents("detect", {0: "0"}, (64, 64)), "it has 1 classes, not 2"),
        (Contents("detect", {0: "0", 1: "dog"}, (64, 64)), "its class 1 is 'dog', not '1'"),
        (Contents("detect", {0: "0", 1: "1"}, (64, 96)), "its images are 64x96, not 64x64"),
        (Contents("detect", {0: "0", 1: "1"}, (64, 64), stride=64), "its stride is 64, not 32"),
    ],
)
def test_what_the_file_says_is_compared(contents, told):
    model = torch.nn.Module()
    model.task, model.names, model.stride = "detect", {0: "0", 1: "1"}, torch.tensor([8.0, 32.0])
    assert says(CONTENTS, model, (64, 64)).passed
    found = says(contents, model, (64, 64))
    assert (found.passed, found.found) == (False, told)


def test_a_stranger_among_onnx_files_says_nothing_about_itself(tmp_path, monkeypatch):
    """In its own runtime, without a process of its own."""
    monkeypatch.setattr(child.os, "sched_setaffinity", lambda *_: None, raising=False)
    node = helper.make_node("Identity", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "xy")
    graph = helper.make_model(
        helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    onnx.save(graph, tmp_path / "x.onnx")
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "x.onnx").read_bytes()[:40])

    def opened(name):
        return next(child._answers(iter([{"file": str(tmp_path / name), "device": "cpu", "threads": 1}])))

    assert opened("x.onnx")["metadata"] == {}
    assert "cut.onnx failed:Protobuf parsing failed" in opened("cut.onnx")["error"]


def test_a_format_without_its_tool_and_one_that_declares_another_pytorch(monkeypatch):
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: None)
    assert tools.refusal("openvino") == "format=openvino: openvino is not installed: pip install 'yolomix[export]'"
    assert tools.refusal("litert") == (
        "format=litert: litert_torch, ai_edge_litert are not installed: "
        "pip install 'litert-torch>=0.10.0' 'ai-edge-litert>=2.3.0'"
    )
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(tools.importlib.metadata, "requires", lambda name: ["torch<1.0", "numpy; extra == 'x'"])
    assert tools.refusal("litert").startswith(
        "format=litert needs litert-torch, which declares torch<1.0, and this is "
    )
    assert tools.refusal("torchscript") is None
    assert verifying.tools is tools


def test_a_format_whose_tool_is_of_another_version(monkeypatch):
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(tools.importlib.metadata, "requires", lambda name: [])
    monkeypatch.setattr(tools.importlib.metadata, "version", {"coremltools": "9.0", "numpy": "2.4.6"}.__getitem__)
    assert tools.refusal("coreml") == (
        "format=coreml needs numpy<=2.3.5, and this is 2.4.6: pip install 'numpy<=2.3.5', "
        "in an environment of its own if something else needs this one"
    )
    monkeypatch.setattr(tools.importlib.metadata, "version", {"coremltools": "9.0", "numpy": "2.3.5"}.__getitem__)
    assert tools.refusal("coreml") is None
