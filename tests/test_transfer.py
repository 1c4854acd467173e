"""Weights across architectures: all 499 of yolo11n arrive, by our function and by Ultralytics' own, and it is said."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import ultralytics
from torch import nn
from ultralytics.nn import tasks
from ultralytics.utils import LOGGER

import yolomix
from yolomix.hooks import load
from yolomix.host import original, weights
from yolomix.transferring import copy_weights

OLDEST = ultralytics.__version__.startswith("8.3.")
newer = pytest.mark.skipif(OLDEST, reason="counts of what fits are those of Ultralytics 8.4")
THREE = "yolo11n+MLLABlock@4,6,10.yaml"


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return weights.write(weights.from_yaml("yolo11n.yaml"), tmp_path_factory.mktemp("stock") / "stock.pt")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Ultralytics' logger is told, with its level."""
    told: list[str] = []
    monkeypatch.setattr(LOGGER, "info", lambda text, *a: told.append(f"info {text}"))
    monkeypatch.setattr(LOGGER, "warning", lambda text, *a: told.append(f"warning {text}"))
    return told


def arrived(source: Any, target: Any) -> int:
    """How many tensors of the source the target has, wherever they are."""
    have = [t for t in target.state_dict().values() if t.numel() > 1]
    return sum(any(t.shape == h.shape and torch.equal(t, h) for h in have) for t in source.state_dict().values())


def test_ultralytics_alone_loses_most_and_the_same_call_now_keeps_all(stock: Path, log: list[str]) -> None:
    source, target = weights.read(stock), weights.from_yaml(THREE)
    native = deepcopy(target)
    original.native(tasks, "BaseModel.load")(native, source)
    assert log == ["info Transferred 94/574 items from pretrained weights"]
    log.clear()
    ultralytics.YOLO(THREE).load(stock)
    assert log == [
        "info Transferred 499/574 items from pretrained weights",
        f"info yolomix: 499 of 499 source tensors copied, into a model of 574 ({THREE})",
    ]


def test_transfer_reports_every_tensor(stock: Path, tmp_path: Path) -> None:
    report = yolomix.transfer(stock, THREE, save=tmp_path / "new.pt")
    assert (len(report.copied), report.source_tensors, report.complete) == (499, 499, True)
    new = ultralytics.YOLO(tmp_path / "new.pt").model
    assert {t.name for t in report.tensors} == {*new.state_dict()}
    assert {t.layer for t in report.of("left at init")} == {5, 8, 13}
    assert (report.missing, report.explain_missing()) == ([], "")
    table = str(report).splitlines()
    assert table[0].split() == ["layer", "module", "copied", "shape", "differs", "left", "at", "init", "unused"]
    assert table[1].split() == ["0", "Conv", "6", "/", "497", "-", "-", "-"]
    assert table[-2].split()[:4] == ["all", "499", "/", "2,639,825"]
    assert (tmp_path / "new-transfer.txt").read_text().splitlines()[1] == f"{stock} -> {THREE}"


@newer
def test_another_class_count_is_left_to_ultralytics(stock: Path, log: list[str]) -> None:
    three = tasks.yaml_model_load(THREE)
    target = tasks.DetectionModel({**three, "nc": 3}, verbose=False)
    target.load(weights.read(stock))
    report = load.report_of(target)
    assert report is not None
    differs = report.of("shape differs")
    assert {t.layer for t in differs} == {26}
    assert len(differs) == 6
    assert len(report.copied) == 493
    line = "493 of 499 source tensors copied, 6 new for 3 classes instead of 80, into a model of 574"
    assert log[-1].startswith(f"info yolomix: {line}")
    assert (
        "26 Detect: 6 tensors shape differs: cv3.0.2.weight (80, 80, 1, 1) -> (3, 80, 1, 1)" in report.explain_missing()
    )


def test_shared_class_names_count_as_copied(stock: Path) -> None:
    source, target = weights.read(stock), weights.from_yaml(THREE)
    source.names = {i: f"thing {i}" for i in range(80)}
    target.names = {i: f"thing {79 - i}" for i in range(80)}
    report = copy_weights(source, target)
    assert report.complete
    row = "cv3.0.2.bias"
    got, want = target.model[-1].get_parameter(row), source.model[-1].get_parameter(row)
    assert torch.equal(got, want.flip(0))


def test_both_directions_of_a_wrap(stock: Path) -> None:
    source, wrapped = weights.read(stock), weights.from_yaml("yolo11n+MLLABlock@4,10:wrap.yaml")
    assert copy_weights(source, wrapped).complete
    back = copy_weights(wrapped, weights.from_yaml("yolo11n.yaml"))
    assert len(back.copied) == 499
    assert {t.layer for t in back.of("unused")} == {4, 10}
    again = copy_weights(wrapped, weights.from_yaml("yolo11n+MLLABlock@4,6,10:wrap.yaml"))
    assert again.complete


def test_a_graft_keeps_its_own_weights_when_another_comes(stock: Path) -> None:
    one, two = weights.from_yaml("yolo11n+MLLABlock@10.yaml"), weights.from_yaml("yolo11n+VSSBlock@4+MLLABlock@10.yaml")
    assert copy_weights(one, two).complete
    assert arrived(one, two) == len([t for t in one.state_dict().values() if t.numel() > 1])


def test_the_same_architecture_is_loaded_as_ever(stock: Path, log: list[str]) -> None:
    model = ultralytics.YOLO("yolo11n.yaml").load(stock)
    assert log == ["info Transferred 499/499 items from pretrained weights"]
    assert load.report_of(model.model) is None


@newer
def test_what_does_not_fit_is_a_warning_with_layers_and_reasons(stock: Path, log: list[str]) -> None:
    ultralytics.YOLO("yolo11s.yaml").load(stock)
    assert log[-1] == "info Transferred 119/499 items from pretrained weights"  # nothing moved: Ultralytics' own words
    ultralytics.YOLO("yolo11s+MLLABlock@4.yaml").load(stock)
    warning = log[-1].splitlines()
    assert warning[0].startswith("warning yolomix: 118 of 499 source tensors copied, into a model of")
    assert warning[0].endswith("; not:")
    assert "conv.weight (16, 3, 3, 3) -> (32, 3, 3, 3)" in warning[1]
    assert warning[-1].strip() == "and 10 more layers"


def test_nothing_copied_is_an_error() -> None:
    def tiny(width: int, kernel: int) -> Any:
        rows = {"nc": 1, "backbone": [[-1, 1, "Conv", [width, kernel, 2]]], "head": [[-1, 1, "Classify", ["nc"]]]}
        return tasks.ClassificationModel(rows, verbose=False)

    source, target = tiny(8, 3), tiny(16, 1)
    for model in (source, target):
        model.model[-1] = nn.Conv2d(4, 4, model.model[0].conv.kernel_size, bias=False)
    with pytest.raises(ValueError, match=r"no weight was copied from ClassificationModel into") as caught:
        target.load(source)
    assert "conv.weight (8, 3, 3, 3) -> (16, 3, 1, 1)" in str(caught.value)


def test_another_task_is_an_error_unless_wanted(stock: Path, tmp_path: Path) -> None:
    text = "the source is a detect model and the target a segment model; give any_task=True"
    with pytest.raises(ValueError, match=text):
        yolomix.transfer(stock, "yolo11n-seg.yaml", save=tmp_path / "a.pt")
    report = yolomix.transfer(stock, "yolo11n-seg+MLLABlock@4.yaml", save=tmp_path / "a.pt", any_task=True)
    assert report.complete  # a segment head has all of a detect head
    assert {t.layer for t in report.of("left at init")} == {5, 24}


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("stock", "yolo11n.yaml"), ValueError, "transfer into 'yolo11n.yaml' builds a model; give save='name.pt'"),
        (("stock", "yolo11n.yaml", "a.onnx"), ValueError, "a model with weights is saved as .pt, got 'a.onnx'"),
        ((3, "yolo11n.yaml", "a.pt"), TypeError, "the source is a file, a YOLO or its model, got int"),
        pytest.param(("missing.pt", "yolo11n.yaml", "a.pt"), FileNotFoundError, "missing.pt", marks=newer),
    ],
)
def test_bad_arguments(arguments: tuple, error: type[Exception], text: str, stock: Path) -> None:
    given = [stock if a == "stock" else a for a in arguments]
    with pytest.raises(error, match=text):
        yolomix.transfer(*given)


def test_the_source_is_never_written_over(stock: Path) -> None:
    before = stock.read_bytes()
    with pytest.raises(FileExistsError, match=r"stock.pt, which stays as it is; give another file name: save="):
        yolomix.transfer(stock, "yolo11n.yaml", save=stock)
    assert stock.read_bytes() == before
