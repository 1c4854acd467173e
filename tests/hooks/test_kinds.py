"""What kind of model a YAML is, its last row says, whatever the file is called: ``YOLO`` and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import ultralytics
import yaml
from ultralytics import RTDETR, YOLO
from ultralytics.nn import tasks

import yolomix
from tests.hooks.own_heads import OWN
from tests.hooks.test_heads import written
from yolomix import models
from yolomix.hooks.rows import RowError
from yolomix.host import names, weights

OLDEST = ultralytics.__version__.startswith("8.3.")
ROW = [[14, 17, 20], 1, "RTDETRDecoder", ["nc", 256, 100, 4, 4, 3, 512]]
SMALL = [[4, 6], 1, "RTDETRDecoder", ["nc", 64, 8, 4, 4, 1, 64]]


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    """Mamba-YOLO-T with the decoder of RT-DETR, in a file without its letters."""
    model = yaml.safe_load((models.FOLDER / "mamba-yolo.yaml").read_text("utf-8"))
    model["scales"] = {"t": model["scales"]["t"]}
    model["head"][-1] = ROW
    file = tmp_path_factory.mktemp("scan") / "scan-detr.yaml"
    file.write_text(yaml.safe_dump(model))
    return file


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """The tiny model with that decoder."""
    from tests.tiny import TINY

    file = tmp_path_factory.mktemp("small") / "any.yaml"
    model = yaml.safe_load(TINY)
    model["head"][-1] = SMALL
    file.write_text(yaml.safe_dump(model))
    return file


@pytest.mark.parametrize("cls", [YOLO, yolomix.YOLO, RTDETR], ids=lambda cls: cls.__module__)
def test_rt_detr_in_a_file_of_another_name(cls, scan):
    model = cls(str(scan))
    assert isinstance(model, RTDETR)
    assert (type(model.model), model.task) == (tasks.RTDETRDetectionModel, "detect")
    assert sum(p.numel() for p in model.model.parameters()) == 8_272_248
    assert type(weights.from_yaml(scan)) is tasks.RTDETRDetectionModel


def test_an_object_for_rt_detr_builds_what_the_file_holds(tiny):
    model = RTDETR(tiny.with_name("yolo0n-tiny.yaml"))
    assert (type(model), type(model.model)) == (YOLO, tasks.DetectionModel)


@pytest.mark.parametrize("name", ["yolo0n-tiny.yaml", "yolo0n-tiny+MLLABlock@p3.yaml"])
def test_a_task_that_is_not_that_of_the_head_is_refused(tiny, name):
    with pytest.raises(ValueError, match=r"tiny.*\.yaml is a model for detect, its last row is Detect\. Leave"):
        YOLO(tiny.with_name(name), task="segment")
    with pytest.raises(ValueError, match=r"no task 'segmentation'; there are classify, "):
        YOLO(tiny.with_name(name), task="segmentation")
    assert YOLO(tiny.with_name(name), task="detect").task == "detect"


def test_a_packaged_model_for_another_task_is_named():
    with pytest.raises(ValueError, match=r"such as model='yolo11s-seg\+MLLAttention@head-inputs:plain\.yaml'$"):
        YOLO("yolo11s-mlla.yaml", task="segment")


def test_a_head_with_masks_can_be_trained_to_detect():
    assert type(YOLO("yolo11n-seg.yaml", task="detect").model) is tasks.DetectionModel


def test_a_graft_into_such_a_model(small):
    model = YOLO(small.with_name("any+MLLABlock@p3.yaml"))
    assert (type(model), type(model.model)) == (RTDETR, tasks.RTDETRDetectionModel)


@pytest.mark.skipif(OLDEST, reason="the loss of RT-DETR in 8.3.0 needs scipy, which is not installed for it here")
def test_the_command_line_trains_it_and_its_checkpoint_opens(small, settings, tmp_path, capsys):
    from yolomix.cli import main

    words = [f"{key}={value}" for key, value in settings.items()]
    assert main(["train", f"model={small}", "epochs=1", f"project={tmp_path}", "name=run", *words]) == 0
    capsys.readouterr()
    model = YOLO(tmp_path / "run/weights/best.pt")
    assert (type(model), model.task, model.model.model[-1].nc) == (RTDETR, "detect", 2)
    (result,) = model.predict(torch.rand(1, 3, 64, 64), verbose=False, conf=0.0)
    assert torch.isfinite(result.boxes.data).all()


@pytest.mark.skipif(OLDEST, reason="the loss of RT-DETR in 8.3.0 needs scipy, which is not installed for it here")
def test_an_own_decoder_whose_name_says_nothing(tmp_path, settings):
    model = yolomix.YOLO(written(tmp_path, "RTDETRDecoder"))
    assert isinstance(model, RTDETR)
    assert type(model.model) is tasks.RTDETRDetectionModel
    model.train(**settings, epochs=1, project=str(tmp_path), name="run")
    found = YOLO(model.trainer.best)
    assert (type(found), type(found.model.model[-1]), found.task) == (RTDETR, OWN["RTDETRDecoder"], "detect")


TEXT = {"yolov8-world": "YOLOWorld", "yoloe-11": "YOLOE", "yoloe-11-seg": "YOLOE"}  # YAMLs of Ultralytics


@pytest.mark.parametrize("name", [*TEXT][: 1 if OLDEST else None])  # 8.3.0 has no YOLOE
@pytest.mark.parametrize("own", [False, True], ids=["head of Ultralytics", "own head"])
def test_models_that_read_a_text(name, own, tmp_path):
    model = names.described(f"{name}.yaml")
    head = model["head"][-1]
    parent = head[2]
    if own:
        head[2] = OWN[parent].__name__
    file = tmp_path / "any.yaml"
    file.write_text(yaml.safe_dump({key: model[key] for key in ("nc", "scales", "backbone", "head")}))
    built = YOLO(str(file))
    assert type(built) is getattr(ultralytics, TEXT[name])
    assert type(built.model.model[-1]) is (OWN[parent] if own else getattr(tasks, parent))


def test_a_missing_file_says_what_it_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file"):
        YOLO(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([-1, 1, "Conv", [8]], r"odd\.yaml: its last row \[-1, 1, 'Conv', \[8\]\] is no head"),
        ([-1, 1, ["nc"], "Classify"], r"odd\.yaml.*a row is \[from, repeats, name, \[arguments\]\]|is no head"),
        ({}, r"odd\.yaml.*a row is \[from, repeats, name, \[arguments\]\]|is no head"),
    ],
)
def test_a_model_without_a_head(row, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [row]}
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(rows))
    with pytest.raises(ValueError, match=said):
        yolomix.YOLO("odd.yaml")


def test_a_first_row_that_is_none_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {"nc": 2, "backbone": [{"from": -1}, [-1, 1, "Conv", [8]]], "head": [[[1], 1, "Detect", ["nc"]]]}
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(rows))
    with pytest.raises(RowError, match=r"odd\.yaml, row 0 .*: a row is \[from, repeats, name, \[arguments\]\]"):
        yolomix.YOLO("odd.yaml")
