"""A right file is verified, and a wrong one is found out, whatever is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import ultralytics
from onnx import numpy_helper

import yolomix
from tests.verifying import inprocess
from tests.verifying.spread import GRAFT, spread
from yolomix.host.evaluating import Matched
from yolomix.host.exported import Contents
from yolomix.records import Conditions
from yolomix.verifying import accuracy, checks, verifying
from yolomix.verifying.values import Check, Verification

OLDEST = ultralytics.__version__ == "8.3.0"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    inprocess.use(monkeypatch)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A grafted model and its ONNX file."""
    folder, before = tmp_path_factory.mktemp("exported"), Path.cwd()
    os.chdir(folder)
    try:
        model = spread(GRAFT)
        file = model.export(format="onnx", imgsz=64, simplify=True, device="cpu", verify=False)
    finally:
        os.chdir(before)
    return model, folder / file


def changed(file: Path, folder: Path, change) -> Path:
    """A copy of an ONNX file with something done to it."""
    graph = onnx.load(file)
    change(graph)
    copy = folder / "changed.onnx"
    onnx.save(graph, copy)
    return copy


def test_a_right_file(exported, tmp_path):
    model, file = exported
    found = yolomix.verify(model, shutil.copy(file, tmp_path))
    assert found.verified is True
    assert [check.passed for check in found.checks] == [True] * 4
    assert found.checks[2].numbers["differences"]["scores"] <= found.checks[2].numbers["allowed"]["scores"]
    assert found.checks[3].numbers["compared"] > 20
    assert found.costs[0].latency.median > 0
    beside = tmp_path / f"{file.name}.verification"
    assert json.loads(Path(f"{beside}.json").read_text())["verified"] is True
    assert Path(f"{beside}.md").read_text().startswith(f"# {file.name}: verified\n")


def test_a_file_in_which_nothing_is_found(exported, tmp_path, monkeypatch):
    model, file = exported
    monkeypatch.setattr(checks, "CONF", 1.0)  # no score is above
    found = yolomix.verify(model, shutil.copy(file, tmp_path))
    assert found.checks[3].found == "neither side finds anything"
    assert [check.passed for check in found.checks] == [True, True, True, None]
    assert found.verified is True  # by its raw outputs, which nobody judges in half precision
    of = Contents.of
    monkeypatch.setattr(Contents, "of", lambda *args, **given: replace(of(*args, **given), precision="FP16"))
    found = yolomix.verify(model, tmp_path / file.name)
    assert found.verified is None
    assert found.advice == f"{tmp_path / file.name} is not verified: {verifying.NOTHING}"
    assert found.in_short() == f"{file.name}: not verified, {verifying.NOTHING}"


def test_a_failed_check_counts_where_nothing_is_found():
    found = Verification(
        Path("a.onnx"), "a.pt", Conditions.here(), checks=(Check("outputs", False, "NaN", "finite"),), refusal="nothing"
    )
    assert found.verified is False
    assert found.in_short() == "a.onnx: DIFFERS, outputs: NaN"
    assert found.advice.startswith("a.onnx differs from PyTorch: outputs: NaN, allowed finite. ")


def test_no_map_on_both_sides_says_nothing():
    nothing = Matched(
        metrics={}, images=["a.jpg", "b.jpg"], classes=["cat"], tp=np.zeros((0, 10), bool), conf=np.zeros(0),
        pred_cls=np.zeros(0), image=np.zeros(0, int), target_cls=np.zeros(2), target_image=np.arange(2),
        target_area=np.ones(2), other_tp={}, correct=np.zeros((0, 2), bool),
    )  # fmt: skip
    check = accuracy.judged(nothing, nothing, "FP32", ramp=True)
    assert (check.passed, check.numbers["file"]) == (None, 0.0)


def initializers(graph: onnx.ModelProto, part: str, change) -> None:
    """Change the weights whose name has that part."""
    found = [weight for weight in graph.graph.initializer if part in weight.name]
    assert found
    for weight in found:
        weight.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weight).copy()), weight.name))


def one_weight(graph: onnx.ModelProto) -> None:
    def _change(weight):
        weight.flat[0] += 0.1
        return weight

    initializers(graph, "model.16.cv1.conv.weight", _change)


def bgr(graph: onnx.ModelProto) -> None:
    initializers(graph, "model.0.conv.weight", lambda weight: weight[:, ::-1].copy())


def two_directions(graph: onnx.ModelProto) -> None:
    """Rows read forwards get what was learnt for columns."""

    def _change(weight):
        return weight[[1, 0, 2, 3]] if weight.ndim == 3 and len(weight) == 4 else weight

    initializers(graph, "/op/ss2d/", _change)


@pytest.mark.skipif(OLDEST, reason="8.3.0 with torch >= 2.9 names nodes and weights otherwise")
@pytest.mark.parametrize(
    ("change", "where"),
    [
        (one_weight, "The first layer that differs is model.16 (C2f), in it model.16.cv1.conv (Conv2d)"),
        (
            two_directions,
            "The first layer that differs is model.10 (SameWidth), in it model.10.block.op (Mamba",
        ),
        (bgr, "The first layer that differs is model.0 (Conv), in it model.0.conv (Conv2d)"),
    ],
)
def test_a_wrong_file_and_where(change, where, exported, tmp_path):
    model, file = exported
    found = yolomix.verify(model, changed(file, tmp_path, change))
    assert found.verified is False
    assert [check.passed for check in found.checks][:3] == [True, True, False]
    assert found.located.startswith(where)
    assert where in found.advice


def test_a_file_of_another_size(exported, tmp_path):
    model, file = exported
    found = yolomix.verify(model, file, imgsz=96)
    assert found.advice.startswith(f"{file} differs from PyTorch: metadata: its images are 64x64, not 96x96, allowed ")


def test_nobody_says_which_layer_where_nodes_have_other_names(exported, tmp_path):
    def _nameless(graph: onnx.ModelProto) -> None:
        bgr(graph)
        for node in graph.graph.node:
            node.name = ""

    model, file = exported
    found = yolomix.verify(model, changed(file, tmp_path, _nameless))
    assert found.located == (
        "Which layer differs cannot be told: the nodes of this file do not have the names of its modules"
    )
