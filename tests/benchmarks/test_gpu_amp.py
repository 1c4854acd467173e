"""The comparison of AMP with float32 as far as a CPU can run it: real steps of a detector, and what its verdict says."""

from __future__ import annotations

import csv
import math

import pytest
import torch

from benchmarks import gpu_amp
from tests.host.conftest import write_dataset


def test_steps_of_a_detector_become_rows(tmp_path, monkeypatch, capsys):
    data = write_dataset(tmp_path / "data")
    monkeypatch.setattr("yolomix.data.sample_dataset", lambda: data)
    recipe = gpu_amp.RECIPE | {"imgsz": 32, "batch": 2, "device": "cpu"}
    assert gpu_amp.compare(tmp_path / "amp.csv", ("yolo11n-mlla",), 3, **recipe) == 0
    with (tmp_path / "amp.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["step"]) for row in rows] == [("yolo11n-mlla", str(i)) for i in range(3)]
    assert all(float(row["float32"]) == float(row["amp"]) > 0 for row in rows)  # there is no AMP on a CPU
    assert "yolo11n-mlla: float32" in capsys.readouterr().out


@pytest.mark.parametrize("found", [[1.0, math.nan, 1.0], [1.0, 1.0]], ids=["not a number", "stopped early"])
def test_a_loss_that_is_missing_or_not_a_number_fails(tmp_path, monkeypatch, capsys, found):
    monkeypatch.setattr(gpu_amp, "losses", lambda name, steps, amp: found if amp else [1.0] * 3)
    assert gpu_amp.compare(tmp_path / "amp.csv", ("a model",), 3) == 1
    assert "1 losses missing or not a number" in capsys.readouterr().out


def test_without_a_gpu_it_says_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_amp.main(["--out", str(tmp_path / "x.csv")]) == 2
    assert "needs a GPU" in capsys.readouterr().err
