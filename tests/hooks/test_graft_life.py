"""A graft in the life of a detector: the mAP of its checkpoint, training, resume and safe loading by stock YOLO."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import ultralytics
from torch import nn

import yolomix
from yolomix.hooks import load
from yolomix.host import weights

OLDEST = ultralytics.__version__.startswith("8.3.")
QUICK = dict.fromkeys(("mosaic", "fliplr", "hsv_h", "hsv_s", "hsv_v", "scale", "translate", "erasing"), 0)


def follow(trainer: Any) -> None:
    """Let the statistics of norms follow a training of a few steps."""
    for m in trainer.model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 0.3


@pytest.fixture(scope="module")
def learned(tiny: Path, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that finds some of the objects in its training images."""
    model = yolomix.YOLO(tiny)
    model.add_callback("on_train_start", follow)
    recipe = {"epochs": 20, "batch": 6, "nbs": 6, "optimizer": "AdamW", "lr0": 0.01, "warmup_epochs": 0, "val": False}
    project = str(tmp_path_factory.mktemp("learned"))
    model.train(**{**settings, **recipe, **QUICK}, project=project, name="run")
    return Path(model.trainer.last)


@pytest.fixture(scope="module")
def grafted(learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two blocks behind gates, one in a row of its own and one inside a row."""
    change = yolomix.graft(learned, "MLLABlock", 1).wrap("HaloAttention", "head-inputs", (2, 1, 8, 2))
    return change.apply(tmp_path_factory.mktemp("grafted") / "grafted.pt").file


def test_map_is_that_of_the_checkpoint_to_the_last_digit(
    learned: Path, grafted: Path, settings: dict[str, Any]
) -> None:
    results = [
        ultralytics.YOLO(file).val(**settings, split="train", rect=rect).results_dict
        for rect in (True, False)
        for file in (learned, grafted)
    ]
    assert results[0] == results[1]
    assert results[2] == results[3]
    assert results[0]["metrics/mAP50-95(B)"] > 0.1


def test_training_opens_the_gates(grafted: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    model = ultralytics.YOLO(grafted)
    model.train(**settings, epochs=2, nbs=3, project=str(tmp_path), name="run")
    trained = weights.read(model.trainer.last)
    before = weights.read(grafted).state_dict()
    gates = {k: v for k, v in trained.state_dict().items() if k.endswith(".gate")}
    assert len(gates) == 3
    assert all(v.any() for v in gates.values())
    inside = [k for k in before if ".block." in k and before[k].is_floating_point()]
    assert any(not torch.equal(before[k].half(), trained.state_dict()[k].half()) for k in inside)


def test_load_then_train_leaves_its_report_beside_the_weights(
    tiny: Path, learned: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    model = ultralytics.YOLO(f"{tiny}+MLLABlock@1.yaml").load(learned)
    model.train(**settings, epochs=1, project=str(tmp_path), name="run")
    text = (tmp_path / "run/weights/transfer.txt").read_text()
    assert f"{learned} -> {tiny}+MLLABlock@1.yaml" in text
    source = len(weights.read(learned).state_dict())
    assert f"{source} of {source} source tensors copied" in text


@pytest.mark.skipif(OLDEST, reason="Ultralytics 8.3 ignores pretrained= of a model from a YAML")
def test_pretrained_takes_a_checkpoint_of_other_layer_indices(
    tiny: Path, learned: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    model = ultralytics.YOLO(f"{tiny}+MLLABlock@1.yaml")
    seen = {}
    model.add_callback("on_train_start", lambda trainer: seen.update(report=load.report_of(trainer.model)))
    model.train(**settings, epochs=1, project=str(tmp_path), name="run", pretrained=str(learned))
    report = seen["report"]
    assert len(report.copied) == report.source_tensors == len(weights.read(learned).state_dict())
    assert (tmp_path / "run/weights/transfer.txt").is_file()


STOP = """
from pathlib import Path
from ultralytics import YOLO
def stop(trainer):
    if trainer.epoch == 0:
        raise SystemExit(0)
model = YOLO({file!r})
model.add_callback("on_model_save", stop)
model.train(data={data!r}, imgsz=64, epochs=3, batch=3, workers=0, plots=False, device="cpu",
            project=str(Path.cwd()), name="run")
"""
RESUME = """
from ultralytics import YOLO
model = YOLO("run/weights/last.pt")
model.train(resume=True)
assert model.trainer.start_epoch == 1, model.trainer.start_epoch
assert len(model.trainer.csv.read_text().splitlines()) == 4
kinds = {type(m).__name__ for m in model.model.modules()}
assert {"ZeroGate", "Chain", "MLLABlock"} <= kinds
"""


def test_stock_ultralytics_trains_and_resumes_it(grafted: Path, dataset: Path, python: Callable[..., str]) -> None:
    python(STOP.format(file=str(grafted), data=str(dataset)))
    python(RESUME)


SAFE = """
import yolomix
from ultralytics import YOLO
(result,) = YOLO({file!r}).predict({image!r}, imgsz=64, conf=0.001)
print("boxes", len(result.boxes))
"""


@pytest.mark.skipif(OLDEST, reason="ULTRALYTICS_SAFE_LOAD came with Ultralytics 8.4")
def test_weights_only_loading(grafted: Path, dataset: Path, python: Callable[..., str]) -> None:
    image = str(dataset.parent / "images/val/0.png")
    out = python(SAFE.format(file=str(grafted), image=image), ULTRALYTICS_SAFE_LOAD="1")
    assert "boxes" in out
