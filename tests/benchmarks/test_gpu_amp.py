"""The comparison of AMP with float32 as far as a CPU can run it: real training steps of a detector, and its verdict."""

from __future__ import annotations

import csv
import math

import pytest
import torch

from benchmarks import gpu_amp
from tests.tiny import write_dataset


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A few training steps on images of 32 pixels."""
    data = write_dataset(tmp_path / "data")
    monkeypatch.setattr("yolomix.data.sample_dataset", lambda: data)
    return gpu_amp.RECIPE | {"imgsz": 32, "batch": 2, "device": "cpu"}


def test_steps_of_a_detector_have_losses(recipe):
    found = gpu_amp.losses("yolo11n-mlla", 5, amp=False, **recipe)
    assert len(found) == 5
    assert min(found) > 0


def test_a_training_that_fails_costs_the_others_nothing(recipe, tmp_path, capsys):
    assert gpu_amp.compare(tmp_path / "amp.csv", ("yolo11n-mlla",), 1, **recipe) == 1
    assert "yolo11n-mlla: RuntimeError: Ultralytics switched AMP off" in capsys.readouterr().out  # as on every CPU


def test_losses_become_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_amp, "losses", lambda name, steps, amp: [1.0 + amp] * steps)
    assert gpu_amp.compare(tmp_path / "amp.csv", ("one", "two"), 2) == 0
    with (tmp_path / "amp.csv").open() as file:
        assert list(csv.reader(file))[1:] == [[m, str(i), "1.0", "2.0"] for m in ("one", "two") for i in range(2)]
    assert "one: float32 1.000 -> 1.000, AMP 2.000 -> 2.000, 0 losses missing" in capsys.readouterr().out


@pytest.mark.parametrize("found", [[1.0, math.nan, 1.0], [1.0, 1.0]], ids=["not finite", "stopped early"])
def test_a_loss_that_is_missing_or_not_finite_fails(tmp_path, monkeypatch, capsys, found):
    monkeypatch.setattr(gpu_amp, "losses", lambda name, steps, amp: found if amp else [1.0] * 3)
    assert gpu_amp.compare(tmp_path / "amp.csv", ("a model",), 3) == 1
    assert "1 losses missing or not finite" in capsys.readouterr().out


def test_without_a_gpu_it_says_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_amp.main(["--out", str(tmp_path / "x.csv")]) == 2
    assert "needs a GPU" in capsys.readouterr().err
