"""The matrix of models, formats and precisions: what is known stays known, and no cell takes the others with it."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from tests.tiny import TINY
from tests.verifying import inprocess
from yolomix.host import precisions, tools
from yolomix.matrix import child, filling, values
from yolomix.matrix.values import NOT_MEASURED, Cell, Key, Matrix

KNOWS = """
import json, sys
from pathlib import Path
Path(json.loads(sys.stdin.readline())["folder"], "found.json").write_text('{"converts": "True"}')
"""
NEW = hasattr(precisions.exporters, "FP16_FORMATS")


@pytest.mark.parametrize(
    ("code", "limit", "found"),
    [
        (KNOWS, 60, {"converts": "True"}),
        (
            f"{KNOWS}print('no such layer'); sys.exit(3)",
            60,
            {"converts": "True", "reason": "its process ended with 3; last said: no such layer"},
        ),
        ("import sys; sys.exit(3)", 60, {"reason": "its process ended with 3"}),
        ("import time; time.sleep(60)", 0.5, {"reason": "not done after 0 s"}),
    ],
)
def test_a_cell_that_crashes_or_hangs_is_a_row_like_others(monkeypatch, code, limit, found):
    monkeypatch.setattr(filling, "command", lambda: [sys.executable, "-c", code])
    assert filling.tried({}, limit) == found


def fill(path: Path, models=("yolov8n.yaml",), forms=("torchscript",), bits=(32,), data=None) -> Matrix:
    return filling.export_matrix(models, forms, bits, 64, 1, data, path)


def test_a_second_call_goes_on_where_the_first_ended(monkeypatch, tmp_path):
    asked = []

    def tried(request, limit):
        asked.append((request["model"], request["format"]))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"converts": "True"}

    monkeypatch.setattr(filling, "tried", tried)
    monkeypatch.setattr(tools, "WRITERS", {})
    given = {"models": ["yolov8n.yaml", "yolo11n-mlla.yaml"], "forms": ["onnx", "torchscript"]}
    file = tmp_path / "made" / "m.csv"
    with pytest.raises(KeyboardInterrupt):
        fill(file, **given)
    found = fill(file, **given)
    assert asked == [
        ("yolov8n.yaml", "onnx"),
        *[("yolov8n.yaml", "torchscript")] * 2,
        ("yolo11n-mlla.yaml", "onnx"),
        ("yolo11n-mlla.yaml", "torchscript"),
    ]
    assert fill(file, **given) == Matrix(tuple(values.read(file)))
    assert len(asked) == 5
    assert found.in_short() == "4 of 4 cells measured, 0 agree"
    assert [cell.found["packages"] for cell in found.cells][1] == filling.packages_of("torchscript") != ""
    assert "| `yolov8n` | converts; " in file.with_suffix(".md").read_text()


def refuse(*_):
    raise AssertionError("a process was begun")


def test_what_cannot_be_is_said_without_a_process_and_asked_again(monkeypatch, tmp_path):
    file = tmp_path / "m.csv"
    monkeypatch.setattr(filling, "tried", refuse)
    monkeypatch.setattr(tools, "WRITERS", {"onnx": ("nobody",)})
    found = fill(file, forms=["onnx"], bits=[32, 8])
    assert [cell.in_short() for cell in found.cells] == [
        f"{NOT_MEASURED}: nobody is not installed: pip install 'nobody'",
        f"{NOT_MEASURED}: INT8 is calibrated with images: data=your.yaml",
    ]
    assert fill(file, forms=["onyx"]).cells[0].in_short().endswith("has no format=onyx")
    monkeypatch.setattr(tools, "WRITERS", {})
    monkeypatch.setattr(filling, "tried", lambda request, _: {"reason": str(request["data"])})
    found = fill(file, forms=["onnx"], bits=[32, 8], data="sample")
    assert [cell.found["reason"] for cell in found.cells] == ["sample"] * 2
    assert len(values.read(file)) == 3


@pytest.mark.skipif(not NEW, reason="this Ultralytics does not say which precisions a format has")
@pytest.mark.parametrize(("form", "bits"), [("paddle", 16), ("ncnn", 8), ("edgetpu", 32)])
def test_a_precision_that_a_format_lacks(form, bits):
    wanted = f"Ultralytics {precisions.__version__} has no {precisions.NAMES[bits]} in format={form}"
    assert precisions.refusal(form, bits, "sample") == wanted


@pytest.mark.skipif(not NEW, reason="this Ultralytics does not say which formats take images")
@pytest.mark.parametrize("form", ["onnx", "imx", "axelera", "rknn"])
def test_ultralytics_is_never_left_to_download_images_for_int8(form):
    assert precisions.refusal(form, 8, None) == "INT8 is calibrated with images: data=your.yaml"
    assert precisions.refusal(form, 8, "sample") == ""


def test_a_file_that_changes_is_another_model(monkeypatch, tmp_path, tiny):
    mine = tmp_path / "mine.yaml"
    monkeypatch.setattr(filling, "tried", lambda *_: {"converts": "True"})
    for text in (TINY, f"{TINY}\n# changed", TINY):
        mine.write_text(text)
        fill(tmp_path / "m.csv", models=[str(mine)])
    assert len(values.read(tmp_path / "m.csv")) == 2


def test_models_and_files_that_are_none_are_refused(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("a.onnx").write_text("")
    with pytest.raises(
        ValueError, match=r"^export-matrix exports a checkpoint or a model YAML, and a.onnx is an exported"
    ):
        fill(Path("m.csv"), models=["a.onnx"])
    for name in ("none.pt", "none.yaml"):
        with pytest.raises(FileNotFoundError):
            fill(Path("m.csv"), models=[name])
    Path("other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(
        ValueError, match=r"^other.csv is no table of export-matrix: no column model, .*; give another out=$"
    ):
        fill(Path("other.csv"))
    assert not Path("m.csv").exists()


@pytest.mark.parametrize("name", ["best.pt", "sub/best.pt", "sub/best.pt+MLLABlock@p5"])
def test_nothing_is_written_beside_a_checkpoint(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    base = name.partition("+")[0]
    for folder in ("sub", "work"):
        Path(folder).mkdir()
    Path(base).write_text("weights")
    assert child.within(name, Path("work")) == name.removeprefix("sub/")
    assert Path("work/best.pt").read_text() == "weights"


def test_a_model_yaml_is_opened_where_it_lies_at_its_scale(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("yolo0-tiny.yaml").write_text(TINY)
    assert child.within("yolo0n-tiny.yaml", tmp_path) == str(tmp_path / "yolo0n-tiny.yaml")
    assert child.within("yolo11n-mlla.yaml", tmp_path) == "yolo11n-mlla.yaml"


@pytest.fixture
def work(monkeypatch, tmp_path):
    """A working folder, in which files are verified in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tools, "another_version", None)  # put back what a cell replaces
    monkeypatch.setattr(tools, "another_pytorch", None)
    inprocess.use(monkeypatch)
    return tmp_path


def test_a_cell_is_exported_and_verified(work, tiny):
    child.fill(str(tiny), "torchscript", 32, 64, None)
    row = json.loads((work / child.FOUND).read_text())
    cell = Cell.of({**Key("a.yaml", "", "torchscript", "FP32", "64")._asdict(), **row})
    assert (row["converts"], row["agrees"], row["delivered"], row["reason"]) == ("True", "True", "FP32", "")
    assert float(row["boxes"]) <= float(row["boxes_allowed"])
    assert float(row["cpu_ms"]) > 0
    assert float(row["cpu_ms_pytorch"]) > 0
    assert cell.in_short() == f"agrees {row['boxes']}, {row['cpu_ms']} ms, {row['mb']} MB"
    assert cell.to_dict()["mb"] == float(row["mb"])


def test_a_converter_that_fails_leaves_its_reason(work, tiny, monkeypatch):
    def export(*_, **given):
        raise SyntaxError(f"quantize\n  {given['imgsz']}")

    monkeypatch.setattr("yolomix.verifying.yolo.YOLO.export", export)
    child.fill(str(tiny), "ncnn", 16, 64, "sample")
    assert json.loads((work / child.FOUND).read_text()) == {"converts": "False", "reason": "SyntaxError: quantize 64"}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, NOT_MEASURED),
        (
            {"converts": "True", "agrees": "True", "delivered": "FP32", "boxes": "1e-3", "mb": "2.0"},
            "agrees 1e-3, is FP32, 2.0 MB",
        ),
        ({"converts": "True", "agrees": "False", "reason": "detections: 1 lost; mAP"}, "differs: detections: 1 lost"),
        ({"converts": "True", "agrees": "", "reason": "runs on macOS alone"}, "converts; runs on macOS alone"),
        ({"converts": "False", "reason": "SyntaxError: " + "a" * 80}, "no: SyntaxError: " + "a" * 44 + "..."),
    ],
)  # fmt: skip
def test_a_cell_in_words(found, words):
    assert Cell(Key("a.yaml", "", "onnx", "FP16", "64"), found).in_short() == words


def test_models_and_formats_of_which_nothing_is_known_stand_below_the_table():
    def cell(model, form, **found):
        return Cell(Key(model, "", form, "FP32", "64"), {**found, "packages": "x 1"} if found else {})

    cells = (cell("a.yaml", "onnx", converts="False", reason="a|b"), cell("a.yaml", "mnn"), cell("b.yaml", "onnx"))
    lines = Matrix(cells).markdown().splitlines()
    assert lines[:7] == [
        "| FP32 | onnx |",
        "|---|---|",
        "| `a` | no: a/b |",
        "",
        "FP32, not measured in any format: `b`.",
        "",
        "FP32, not measured in any model: mnn.",
    ]
    assert Matrix(cells[1:]).markdown().splitlines()[0] == "FP32, not measured: any model in any format."


def test_a_table_has_every_column_and_survives_being_read(tmp_path):
    key = Key("a,b.yaml", "", "onnx", "FP32", "64")
    values.write(tmp_path / "m.csv", [Cell(key, {"reason": 'said "no", twice'})])
    with (tmp_path / "m.csv").open(newline="") as file:
        assert next(csv.reader(file)) == [*values.COLUMNS]
    (read,) = values.read(tmp_path / "m.csv")
    assert (read.key, read.found["reason"], read.is_measured) == (key, 'said "no", twice', False)


def test_every_packaged_model_is_in_the_matrix():
    assert {"mamba-yolo-t.yaml", "yolo11n-assg.yaml", "yolov8n+VSSBlock@p5.yaml"} < {*filling.MODELS}
