"""Exports of every format: refused before anything is traced, and put in place whole."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ultralytics import utils
from ultralytics.engine import exporter as exporters

from yolomix.hooks import exports, wanted
from yolomix.host import datasets, precisions, tools
from yolomix.ops import tracing

ALIASES = {"xml": "openvino"}  # Ultralytics has trt, mlmodel and others
MODEL = SimpleNamespace(yaml={"yaml_file": "a.yaml"}, pt_path="a.pt", task="detect", modules=lambda: [exports])


class Exporter:
    """Writes a file, or a folder, and perhaps fails in the middle."""

    def __init__(self, format: str = "onnx", error: BaseException | None = None, **args) -> None:
        self.args = SimpleNamespace(format=format, **args)
        self.file, self.error = Path("a.pt"), error

    def __call__(self, model):
        written = getattr(self, f"export_{ALIASES.get(self.args.format, self.args.format)}")()
        return written[0] if isinstance(written, tuple) else written

    def export_onnx(self):
        file = self.file.with_suffix(".onnx")
        file.write_text("half")
        if self.error is not None:
            raise self.error
        file.write_text("whole")
        utils.LOGGER.info(f"saved as '{file}' (0.1 MB)")
        return str(file), None

    def export_openvino(self):
        self.export_onnx()
        folder = Path(str(self.file).replace(self.file.suffix, "_openvino_model/"))
        folder.mkdir()
        (folder / "a.xml").write_text("whole")
        return f"{folder}/"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tools, "refusal", lambda form: None)
    return tmp_path


def written() -> dict[str, str]:
    return {str(file): file.read_text() for file in Path().rglob("*") if file.is_file()}


def export(**given) -> str:
    return exports.export(Exporter.__call__, Exporter(**given), MODEL)


@pytest.mark.parametrize("before", ["an earlier file", None])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "no space left")])
def test_an_export_that_is_cut_leaves_what_was_there(error, before):
    if before:
        Path("a.onnx").write_text(before)
    with pytest.raises(type(error)):
        export(error=error)
    assert written() == ({"a.onnx": before} if before else {})
    assert [*Path().iterdir()] == ([Path("a.onnx")] if before else [])


@pytest.mark.parametrize("format", ["openvino", "xml"])
def test_files_and_folders_are_put_in_place_with_what_was_made_on_the_way(format):
    assert export() == "a.onnx"
    Path("a_openvino_model").mkdir()
    Path("a_openvino_model", "old.xml").write_text("old")
    assert export(format=format) == "a_openvino_model"
    assert written() == {"a.onnx": "whole", str(Path("a_openvino_model/a.xml")): "whole"}
    assert len([*Path().iterdir()]) == 2


class Asking(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        longest = tracing.longest_sort()
        return x - 1 if longest is None else x + longest


class Recording(Exporter):
    def __call__(self, model):
        self.graph = torch.jit.trace(Asking(), torch.zeros(1), check_trace=False)
        return "a"


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("format", "longest"), [("ncnn", 0), ("litert", 0), ("engine", 3839), ("torchscript", -1), ("coreml", -1)]
)
def test_graphs_are_recorded_for_what_their_runtimes_sort(format, longest):
    exporter = Recording(format=format)
    exports.export(Recording.__call__, exporter, MODEL)
    assert exporter.graph(torch.zeros(1)) == longest


def test_the_log_has_the_final_name_and_the_command_that_verifies_unless_who_exports_does_it():
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    utils.LOGGER.addHandler(handler)
    try:
        export()
        with exports.asked(verifies=True):
            export()
    finally:
        utils.LOGGER.removeHandler(handler)
    saved = f"saved as '.{os.sep}a.onnx' (0.1 MB)"
    assert said == [saved, "Verify:          yolomix verify model=a.pt file=a.onnx", saved]
    assert utils.LOGGER.filters == []


@pytest.mark.skipif("Arguments" not in exporters.export_formats(), reason="Ultralytics 8.3.0 lists no arguments")
@pytest.mark.parametrize(("name", "form"), [("nms", "ncnn"), ("dynamic", "ncnn"), ("nms", "paddle")])
def test_what_a_format_has_not_is_refused(name, form):
    with pytest.raises(ValueError, match=rf"^format={form} has no {name}=True; formats that have it: .*onnx"):
        export(format=form, **{name: True})
    assert written() == {}


NOTHING = {
    "quantize": None,
    "half": False,
    "int8": False,
    "device": None,
    "split": "val",
    "fraction": 1.0,
    "data": None,
}


def refused(format: str, asked_for: str, **given) -> str:
    """What an export in a precision is refused with, asked for in the words of the Ultralytics that is here."""
    if "quantize" in utils.DEFAULT_CFG_DICT:
        given["quantize"] = {"FP16": 16, "INT8": 8}[asked_for]
    else:
        given[precisions.SWITCHES[asked_for]] = True
    with pytest.raises(ValueError) as error:
        export(format=format, **{**NOTHING, **given})
    assert written() == {}
    return str(error.value)


def test_a_precision_that_a_format_lacks_is_refused():
    found = refused("torchscript", "INT8").partition("; formats that have it: ")
    assert found[0] == "format=torchscript has no INT8"
    assert "openvino" in found[2].split(", ")
    assert refused("paddle", "FP16").startswith("format=paddle has no FP16; formats that have it: ")


@pytest.mark.skipif("quantize" in utils.DEFAULT_CFG_DICT, reason="newer Ultralytics write it on a CPU")
def test_fp16_that_an_old_ultralytics_leaves_out_on_a_cpu_is_refused():
    assert refused("onnx", "FP16").endswith(
        "writes FP16 into ONNX files on a GPU alone, device=0; newer ones write it on a CPU, too: "
        "pip install -U ultralytics"
    )


def test_int8_without_calibration_data_is_refused():
    assert refused("openvino", "INT8") == (
        "INT8 for format=openvino is calibrated on at least 16 images, and there is no data=: give the dataset of the "
        "model, data=your.yaml, of which the split val is taken"
    )


def test_int8_with_too_few_images_is_refused(monkeypatch):
    monkeypatch.setattr(datasets, "described", lambda data, task: {"val": "images"})
    monkeypatch.setattr(datasets, "images", lambda place: [Path("a.png")] * 30)
    said = "INT8 for format=openvino is calibrated on at least 16 images, and the split val of a.yaml gives {}: take "
    said += "another split, say split=train, more of it by fraction=, or more images"
    assert refused("openvino", "INT8", data="a.yaml", fraction=0.5) == said.format(15)
    assert refused("openvino", "INT8", data="a.yaml", split="test") == said.replace("val", "test").format(0)


def test_models_without_our_blocks_are_calibrated_as_ever():
    stock = SimpleNamespace(task="detect", modules=lambda: [torch.nn.ReLU()])
    wanted.check(Exporter(format="openvino", **{**NOTHING, "int8": True}), "openvino", stock)


def test_a_missing_tool_is_named_before_anything_is_traced(monkeypatch):
    monkeypatch.setattr(exports.utils, "AUTOINSTALL", False)
    monkeypatch.setattr(
        tools, "refusal", lambda form: f"format={form}: openvino is not installed: pip install openvino"
    )
    with pytest.raises(
        ModuleNotFoundError, match=r"^format=openvino: openvino is not installed: pip install openvino$"
    ):
        export(format="openvino")
