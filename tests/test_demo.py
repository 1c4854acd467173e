"""The demo: a small run of the real thing, and the table that people read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from yolomix import data, demo
from yolomix.cli import DONE, FAILED, main
from yolomix.cli import demo as verb

OUTCOME = demo.Outcome(
    parameters=1234567,
    gflops=7.25,
    ms=12.34,
    map50=0.61234,
    map=0.4,
    seconds=100.0,
    threads=2,
    weights=Path("best.pt"),
    pictures=(Path("all.jpg"),),
    onnx=Path("best.onnx"),
    difference=2e-6,
)


@pytest.fixture
def run(monkeypatch):
    """The demo's work replaced by its outcome; returns what it was asked for."""
    asked = []

    def fake(out, seed, epochs, progress):
        asked.append((out, seed, epochs))
        progress(1, 2, "training")
        print("noise of Ultralytics")
        return OUTCOME

    monkeypatch.setattr(demo, "run", fake)
    return asked


def test_one_table(run, tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "seed=3", "epochs=5", f"out={out}"]) == DONE
    assert run == [(out, 3, 5)]
    text = capsys.readouterr().out
    for cell in ("parameters", "GFLOPs at 640", "ms per image", "mAP50", "mAP50-95", "time"):
        assert cell in text
    for cell in ("1,234,567", "7.25", "12.3", "0.612", "0.400", "2.0e-06", "threads   2", "all.jpg", "best.onnx"):
        assert cell in text
    assert "noise" not in text
    assert (out / verb.LOG).read_text() == "noise of Ultralytics\n"


def test_json_for_programs(run, tmp_path, capsys):
    assert main(["demo", f"out={tmp_path}", "--json"]) == DONE
    assert run == [(tmp_path, 0, demo.EPOCHS)]
    found = json.loads(capsys.readouterr().out)
    assert found["map50"] == OUTCOME.map50
    assert found["weights"] == "best.pt"
    assert found["all_seconds"] > 0


def test_an_export_that_differs_is_a_failure(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "run", lambda *_: dataclasses.replace(OUTCOME, difference=0.01))
    assert main(["demo", f"out={tmp_path}"]) == FAILED
    assert "the ONNX file answers differently from PyTorch: by 1.0e-02" in capsys.readouterr().err


def test_without_onnx_the_way_to_it_is_said(monkeypatch):
    monkeypatch.setattr(demo, "package_refusal", lambda name: f"{name} is not installed: pip install {name}")
    assert demo.compare(None, Path()) == ("onnx is not installed: pip install 'yolomix[export]'", None)


def test_an_exported_file_that_is_wrong_is_found_out(monkeypatch, tmp_path):
    class Session:
        def __init__(self, *_, **__):
            self.get_inputs = lambda: [type("Input", (), {"name": "images"})]

        def run(self, _, given):
            return [2 * given["images"].repeat(2, axis=1)[:, :5] + shift]

    class Model(nn.Module):
        def fuse(self, verbose):
            return self

        def forward(self, x):
            return (2 * x.repeat_interleave(2, dim=1)[:, :5],)

    picture = tmp_path / "a.jpg"
    picture.write_bytes(cv2.imencode(".jpg", np.full((40, 40, 3), 200, np.uint8))[1].tobytes())
    model = type("Trained", (), {"model": Model(), "export": lambda self, **_: tmp_path / "a.onnx"})()
    monkeypatch.setattr(demo.importlib.import_module("onnxruntime"), "InferenceSession", Session)
    for box, score in ((0, 0), (0.008, 0), (0.8, 0), (0, 5e-5), (0, 2e-4)):
        shift = np.array([box] * 4 + [score], np.float32)[:, None, None]
        file, difference = demo.compare(model, picture)
        assert file == tmp_path / "a.onnx"
        assert difference == pytest.approx(max(box / demo.RECIPE["imgsz"], score), abs=1e-6)
        assert dataclasses.replace(OUTCOME, difference=difference).agrees == (max(box / 160, score) <= 1e-4)


def test_gflops_counts_two_per_multiplication():
    layer = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert demo.gflops(layer) == pytest.approx(2 * 3 * 5 * 9 * demo.FLOPS_SIDE**2 / 1e9)


@pytest.mark.slow
def test_the_whole_way_on_a_few_pictures(tmp_path):
    file = data.render(tmp_path / "data", {"train": 8, "val": 4})
    steps = []
    threads = torch.get_num_threads()
    try:
        found = demo.run(tmp_path / "out", 0, 1, lambda *step: steps.append(step), data=file)
    finally:
        torch.set_num_threads(threads)
    assert found.parameters > 2_000_000
    assert found.gflops > 5
    assert found.ms > 0
    assert 0 <= found.map <= found.map50 <= 1
    assert found.weights == (tmp_path / "out" / "weights" / "best.pt")
    assert [picture.name for picture in found.pictures] == ["all.jpg", "0000.jpg", "0001.jpg", "0002.jpg", "0003.jpg"]
    assert all(picture.stat().st_size > 1000 for picture in found.pictures)
    assert Path(found.onnx).is_file()
    assert found.agrees
    assert 0 < found.difference <= 1e-5
    batches = 8 // demo.RECIPE["batch"]
    assert [step[:2] for step in steps if step[2].startswith("training")] == [(k + 1, batches) for k in range(batches)]
