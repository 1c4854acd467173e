"""Models of Ultralytics: made alike, loaded by name, written and read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import ultralytics
from torch import nn
from ultralytics.nn import tasks

from tests.tiny import description
from yolomix.host import weights


@pytest.fixture
def model() -> tasks.DetectionModel:
    torch.manual_seed(0)
    made = tasks.DetectionModel(description(), verbose=False)
    made.task = "detect"  # what YOLO sets
    return made


def test_a_model_made_alike_has_other_rows_and_everything_else(model: tasks.DetectionModel) -> None:
    model.names, model.mine = {0: "cat", 1: "dog"}, "kept"
    model.pt_path, model.criterion = "old.pt", object()
    rows = {**model.yaml, "head": [*model.yaml["head"][:-1], [[3, 6], 1, "Detect", ["nc"]]]}
    made = weights.like(model, rows, seed=0)
    assert type(made) is tasks.DetectionModel
    assert (made.names, made.mine, made.training) == ({0: "cat", 1: "dog"}, "kept", False)
    assert not hasattr(made, "pt_path")
    assert getattr(made, "criterion", None) is None
    assert made.model[-1].f == [3, 6]
    assert torch.equal(made.stride, torch.tensor([8.0, 16.0]))


def test_the_seed_of_a_model_made_alike_is_its_own(model: tasks.DetectionModel) -> None:
    before = torch.get_rng_state()
    first, second, other = (weights.like(model, model.yaml, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_loading_by_name_is_ultralytics_own_and_silent(model: tasks.DetectionModel, monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(tasks.LOGGER, "info", told.append)
    target = tasks.DetectionModel(description(), verbose=False)
    weights.load_by_name(target, model)
    assert not told
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), model.parameters(), strict=True))


def test_what_is_written_is_a_finished_checkpoint(model: tasks.DetectionModel, tmp_path: Path) -> None:
    model.args = {"imgsz": 64}
    file = weights.write(model, tmp_path / "a.pt")
    assert weights.is_finished(file)
    read = weights.read(file)
    assert not read.training
    assert (read.task, read.args["imgsz"]) == ("detect", 64)
    assert all(torch.equal(a, b) for a, b in zip(read.parameters(), model.parameters(), strict=True))
    assert ultralytics.YOLO(file).task == "detect"


def test_a_checkpoint_with_the_state_of_a_training_is_not_finished(model: tasks.DetectionModel, tmp_path: Path) -> None:
    file = weights.write(model, tmp_path / "a.pt")
    content = torch.load(file, weights_only=False)
    torch.save({**content, "epoch": 3, "optimizer": {"state": {}}}, file)
    assert not weights.is_finished(file)


@pytest.mark.parametrize(
    ("name", "kind"), [("yolov8n-cls.yaml", "ClassificationModel"), ("yolo11n.yaml", "DetectionModel")]
)
def test_a_model_from_a_name(name: str, kind: str) -> None:
    assert type(weights.from_yaml(name)).__name__ == kind


@pytest.mark.parametrize(("other", "layered"), [(nn.Linear(1, 1), False), ("a.pt", False), (None, False)], ids=str)
def test_what_has_layers(other: object, layered: bool, model: tasks.DetectionModel) -> None:
    assert weights.is_layered(other) is layered
    assert weights.is_layered(model)
    assert not weights.is_layered(ultralytics.YOLO)
