"""The life of a model with our blocks in stock Ultralytics, from training to export, and what bad input says."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import ultralytics
from torch import nn
from ultralytics import YOLO
from ultralytics.cfg import get_cfg

from tests.full import full
from tests.tiny import TINY
from yolomix.hooks import sample
from yolomix.nn import common

OLDEST = ultralytics.__version__.startswith("8.3.")
FORMATS = ["torchscript"] if OLDEST else ["torchscript", "onnx"]  # 8.3.0 with torch >= 2.9 also needs onnxscript
OURS = {"HaloAttention", "C2PSAMLLA", "MLLAttention"}

CLI = """
import sys
from ultralytics.cfg import entrypoint
for line in sys.argv[1:]:
    sys.argv[:] = ["yolo", *line.split("|")]  # the list that Ultralytics holds
    entrypoint()
assert "yolomix.hooks.build" in sys.modules
"""


def blocks(model: YOLO) -> set[str]:
    return {type(m).__name__ for m in model.model.modules()} & OURS


def raw(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The predictions of an eval-mode model, (B, 4 + classes, anchors) of pictures (B, 3, H, W)."""
    with torch.no_grad():
        out = model.eval()(x)
    return out[0] if isinstance(out, (list, tuple)) else out


def test_the_stock_command_line_knows_our_checkpoint(trained, dataset, python, tmp_path):
    picture = dataset.parent / "images/val/2.png"
    size = "imgsz=64|device=cpu"
    said = python(
        CLI,
        f"predict|model={trained}|source={picture}|{size}|project={tmp_path}|name=seen",
        f"train|model={trained}|data={dataset}|epochs=1|batch=3|plots=False|{size}|project={tmp_path}|name=more",
        f"val|model={tmp_path}/more/weights/best.pt|data={dataset}|batch=3|plots=False|{size}|project={tmp_path}",
    )
    assert (tmp_path / "seen" / "2.jpg").exists() or (tmp_path / "seen" / "2.png").exists()
    assert blocks(YOLO(tmp_path / "more/weights/best.pt")) == OURS
    assert "yolomix.nn.mlla.C2PSAMLLA" in said
    assert "2 parameters of token mixers" in said


def test_interrupted_and_resumed_in_a_fresh_process(tiny, settings, python, tmp_path):
    def interrupt(trainer):
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    model = YOLO(tiny)
    model.add_callback("on_train_epoch_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.train(**settings, epochs=2, val=False, project=str(tmp_path), name="run")
    last = tmp_path / "run/weights/last.pt"
    before = torch.load(last, weights_only=False)
    python(CLI, f"train|resume=True|model={last}")
    rows = list(csv.reader((tmp_path / "run/results.csv").open()))
    assert [row[0].strip() for row in rows] == ["epoch", "1", "2"]
    assert before["epoch"] == 0
    assert len(before["optimizer"]["param_groups"]) == 4
    assert blocks(YOLO(last)) == OURS


@pytest.mark.parametrize("rect", [True, False])
def test_val_of_maps_that_nothing_divides(trained, settings, rect, tmp_path):
    metrics = YOLO(trained).val(**settings | {"imgsz": 96}, rect=rect, project=str(tmp_path))
    assert 0 <= metrics.box.map50 <= 1
    assert set(metrics.speed) >= {"inference"}


@pytest.mark.parametrize("shape", [(1, 1, 3), (70, 33, 3), (37, 120, 3)])
def test_predict_any_size_of_picture(trained, shape, tmp_path):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, shape, dtype=np.uint8)
    (result,) = YOLO(trained).predict(picture, imgsz=64, conf=0.0, verbose=False, project=str(tmp_path))
    assert result.orig_shape == shape[:2]
    assert torch.isfinite(result.boxes.data).all()


@pytest.mark.skipif(OLDEST, reason="tracking in 8.3.0 needs scipy, which is not installed for it here")
def test_track(trained, dataset, tmp_path):
    results = YOLO(trained).track(str(dataset.parent / "images/train"), imgsz=64, conf=0.001, project=str(tmp_path))
    assert len(results) == 6


def test_fuse_folds_the_norms_in_our_blocks(trained):
    model, x = YOLO(trained).model, torch.rand(1, 3, 64, 96)
    before = raw(model, x)
    convs = [m for m in model.modules() if isinstance(m, common.Conv)]
    assert all(isinstance(m.bn, nn.BatchNorm2d) for m in convs)
    after = raw(model.fuse(verbose=False), x)
    assert len(convs) == 6
    assert all(isinstance(m.bn, nn.Identity) for m in convs)
    assert (after - before).abs().max() < 2e-4
    assert torch.equal(raw(model.fuse(verbose=False), x), after)


@pytest.mark.parametrize("format", FORMATS)
def test_export(trained, tmp_path, format):
    file = Path(shutil.copy(trained, tmp_path / "m.pt"))
    x = torch.rand(1, 3, 64, 96)
    want = raw(YOLO(file).model, x)
    exported = YOLO(file).export(format=format, imgsz=(64, 96), verbose=False, device="cpu")
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
        got = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    else:
        got = torch.jit.load(exported)(x)
    assert (got - want).abs().max() < 1e-4


@full
@pytest.mark.skipif(OLDEST, reason="the tuner of 8.3.0 stops in an argmax of its own after one iteration")
def test_tune(trained, settings, tmp_path):
    tuning = {k: v for k, v in settings.items() if k != "exist_ok"}
    YOLO(trained).tune(**tuning, epochs=1, iterations=1, optimizer="AdamW", project=str(tmp_path), name="tuned")
    assert blocks(YOLO(tmp_path / "tuned/weights/best.pt")) == OURS


def test_segmentation(dataset, settings, tmp_path):
    root = shutil.copytree(dataset.parent, tmp_path / "polygons")
    for file in (root / "labels").rglob("*.txt"):
        file.write_text("0 0.1 0.1 0.4 0.1 0.4 0.4 0.1 0.4\n")
    (root / "data.yaml").write_text(dataset.read_text().replace(str(dataset.parent), str(root)))
    head = "Segment, [nc, 8, 16]"
    (tmp_path / "yolo0-tiny-seg.yaml").write_text(TINY.replace("Detect, [nc]", head))
    model = YOLO(tmp_path / "yolo0s-tiny-seg.yaml")
    data = {"data": str(root / "data.yaml")}
    model.train(**settings | data, epochs=1, rect=True, project=str(tmp_path))
    assert model.task == "segment"
    assert blocks(YOLO(model.trainer.best)) == OURS


def test_data_sample_in_train_and_val(tiny, dataset, settings, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(sample, "sample_dataset", lambda task: asked.append(task) or dataset)
    model = YOLO(tiny)
    model.train(**settings | {"data": "sample"}, epochs=1, val=False, project=str(tmp_path))
    model.val(**settings | {"data": "sample"}, project=str(tmp_path))
    assert set(asked) == {"detect"}
    assert str(model.trainer.args.data) == str(dataset)


def test_data_sample_in_arguments(monkeypatch):
    monkeypatch.setattr(sample, "sample_dataset", lambda task: Path(f"/of/{task}/data.yaml"))
    assert get_cfg(overrides={"data": "sample", "task": "segment"}).data == str(Path("/of/segment/data.yaml"))
    assert get_cfg(overrides={"data": "sample.yaml"}).data == "sample.yaml"


def test_data_sample_of_a_task_it_has_no_labels_for():
    with pytest.raises(ValueError, match=r"sample dataset .* detect and segment, not for 'pose'"):
        get_cfg(overrides={"data": "sample", "task": "pose"})


def spoil(root: Path) -> None:
    """One picture that is none, one of one pixel, one label of three columns, one missing label."""
    images, labels = root / "images/train", root / "labels/train"
    (images / "0.png").write_bytes(b"no picture")
    cv2.imwrite(str(images / "1.png"), np.zeros((1, 1, 3), np.uint8))
    (labels / "2.txt").write_text("0 0.5 0.5\n")
    (labels / "3.txt").unlink()


def test_bad_pictures_and_labels_are_skipped_with_a_count(dataset, tiny, settings, python, tmp_path):
    root = shutil.copytree(dataset.parent, tmp_path / "spoilt", ignore=shutil.ignore_patterns("*.cache"))
    spoil(root)
    (root / "data.yaml").write_text(dataset.read_text().replace(str(dataset.parent), str(root)))
    changed = settings | {"data": str(root / "data.yaml"), "project": str(tmp_path), "epochs": 1}
    said = python(f"import yolomix; yolomix.YOLO({str(tiny)!r}).train(**{changed!r})")
    assert "3 images, 1 backgrounds, 3 corrupt" in said
    assert "1.png: ignoring corrupt image/label: image size (1, 1) <10 pixels" in said.replace("WARNING ⚠️ ", "")
    assert "labels require 5 columns" in said


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_dataset_says_where(dataset, tiny, settings, tmp_path, split):
    root = shutil.copytree(dataset.parent, tmp_path / "empty", ignore=shutil.ignore_patterns("*.cache"))
    (root / "data.yaml").write_text(dataset.read_text().replace(str(dataset.parent), str(root)))
    for picture in (root / f"images/{split}").iterdir():
        picture.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{split}: .*Error loading data from .*images/{split}"):
        YOLO(tiny).train(**settings | {"data": str(root / "data.yaml")}, epochs=1, project=str(tmp_path))
