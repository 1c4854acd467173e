"""The comparison of AMP with float32 as far as a CPU can run it: real training steps of a detector, and its rows."""

from __future__ import annotations

import logging
import math
from concurrent.futures import Future

import pytest
from benchmarks.gpu_record import FAILED

from benchmarks import gpu_amp
from tests.tiny import write_dataset


@pytest.fixture(autouse=True)
def _log_as_before():
    """The benchmark quiets Ultralytics for its process, which here is that of other tests, too."""
    logger = logging.getLogger("ultralytics")
    level = logger.level
    yield
    logger.setLevel(level)


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


def test_amp_that_is_switched_off_fails(recipe):
    with pytest.raises(RuntimeError, match="Ultralytics switched AMP off"):  # as on every CPU
        gpu_amp.losses("yolo11n-mlla", 1, amp=True, **recipe)


def done(monkeypatch, result, steps=2):
    monkeypatch.setattr(gpu_amp, "STEPS", steps)
    job = Future()
    job.set_exception(result) if isinstance(result, Exception) else job.set_result(result)
    return gpu_amp.rows(job)


def test_losses_become_rows(monkeypatch):
    *steps, ends = done(monkeypatch, [2.0, 1.0])
    assert steps == [{"step": 0, "loss": "2"}, {"step": 1, "loss": "1"}]
    assert ends == {"note": "mean of 20 losses at each end: 1.500 -> 1.500"}


@pytest.mark.parametrize("found", [[1.0, math.nan, 1.0], [1.0, 1.0]], ids=["not finite", "stopped early"])
def test_a_loss_that_is_missing_or_not_finite_is_a_failure_beside_the_others(monkeypatch, found):
    *steps, last = done(monkeypatch, found, 3)
    assert len(steps) == len(found)
    assert "1 of 3 losses missing or not finite" in last[FAILED]


def test_a_training_that_fails_is_a_failure(monkeypatch):
    (row,) = done(monkeypatch, RuntimeError("no memory"))
    assert row["note"] == "failed: RuntimeError: no memory"
