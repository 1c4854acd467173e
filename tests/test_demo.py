"""The demo: the comparison of the exported file, the counts, and a small run of the real thing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.test_records import CONDITIONS
from yolomix import data, demo
from yolomix.demo import Exported
from yolomix.verifying.values import Check, Verification


def test_without_onnx_the_way_to_it_is_said(monkeypatch):
    monkeypatch.setattr(demo, "package_refusal", lambda name: f"{name} is not installed: pip install {name}")
    assert demo.compare(None) == Exported(refusal="onnx is not installed: pip install 'yolomix[export]'")
    assert Exported(refusal="none").agrees is None


def test_the_exported_file_is_verified(monkeypatch):
    model, asked = SimpleNamespace(export=lambda **_: "a.onnx"), []
    raw = Check("raw outputs", False, "", "", {"differences": {"boxes": 1e-7, "scores": 0.01}})
    found = Verification(Path("a.onnx"), "a.pt", CONDITIONS, checks=(raw,))
    monkeypatch.setattr(demo, "verify", lambda *given: asked.append(given) or found)
    exported = demo.compare(model)
    assert asked == [(model, Path("a.onnx"))]
    assert (exported.file, exported.agrees, exported.difference) == (Path("a.onnx"), False, 0.01)


def test_gflops_counts_two_per_multiplication():
    layer = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert demo.gflops(layer) == pytest.approx(2 * 3 * 5 * 9 * demo.FLOPS_SIZE**2 / 1e9)


@pytest.mark.slow
def test_end_to_end_on_a_few_images(tmp_path):
    file = data.render(tmp_path / "data", {"train": 8, "val": 4})
    steps = []
    threads = torch.get_num_threads()
    try:
        found = demo.run(tmp_path / "out", 0, 1, lambda *step: steps.append(step), data=file)
    finally:
        torch.set_num_threads(threads)
    assert found.parameters > 2_000_000
    assert found.gflops > 5
    assert found.latency_ms > 0
    metrics = found.record.metrics
    assert 0 <= metrics["metrics/mAP50-95(B)"] <= metrics["metrics/mAP50(B)"] <= 1
    assert found.weights == (tmp_path / "out" / "weights" / "best.pt")
    assert found.save_dir == tmp_path / "out"
    assert {image.parent for image in found.images} == {tmp_path / "out" / "images"}
    assert [image.name for image in found.images] == ["all.jpg", "0000.jpg", "0001.jpg", "0002.jpg", "0003.jpg"]
    assert all(image.stat().st_size > 1000 for image in found.images)
    assert found.onnx.file.is_file()
    assert found.onnx.agrees
    assert 0 < found.onnx.difference <= 1e-5
    batches = 8 // demo.RECIPE["batch"]
    assert [step[:2] for step in steps if step[2].startswith("training")] == [(k + 1, batches) for k in range(batches)]
