"""Files of other runtimes, run in them. The packages are large, so each is tried where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from ultralytics.nn.autobackend import AutoBackend

from tests.hooks.test_exporting import made

PACKAGES = {"ncnn": ("ncnn", "pnnx"), "mnn": ("MNN",)}
CASES = [
    ("ncnn", "MLLAttention", ""),
    ("ncnn", "VSSBlock", "32"),
    ("ncnn", "ZeroGate", "MLLAttention"),
    ("ncnn", "ASSG", ""),
    ("mnn", "MLLAttention", ""),
    ("mnn", "HaloAttention", "2, 1, 8, 2"),
    ("mnn", "VSSBlock", "32"),
    ("mnn", "ASSG", ""),
]


@pytest.mark.parametrize(("format", "block", "argument"), CASES)
def test_a_file_gives_in_its_runtime_what_the_model_gives(format, block, argument, tmp_path, monkeypatch):
    for package in PACKAGES[format]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"ROUND TRIP NOT RUN: no {format} file of {block} was made, {package} is not installed")
    monkeypatch.chdir(tmp_path)
    model = made(tmp_path, block, argument)
    file = Path(model.export(format=format, imgsz=64, device="cpu", verbose=False))
    assert_same(AutoBackend(str(file), device=torch.device("cpu"), verbose=False), model)


def assert_same(runtime: AutoBackend, model) -> None:
    """Boxes as parts of the side and scores, for an image (1, 3, 64, 64)."""
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        want = model.model.float().eval()(x)[0].numpy()
    got = runtime(x)
    got = np.asarray(got[0] if isinstance(got, list | tuple) else got).reshape(want.shape)
    assert np.ptp(want[:, 4:]) > 0.1
    assert np.abs(got - want)[:, :4].max() / 64 < 1e-4
    assert np.abs(got - want)[:, 4:].max() < 1e-4
