"""A plan with tiny models and a rendered dataset for every test here, and runs without processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.studying import runs
from tests.tiny import TINY
from yolomix.data import render
from yolomix.studying import guards, queue
from yolomix.studying.plan import Plan

TRAIN = {"epochs": 1, "imgsz": 32, "batch": 4, "workers": 0, "plots": False, "device": "cpu", "optimizer": "AdamW"}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset YAML of a few rendered images in three splits."""
    return render(tmp_path_factory.mktemp("small"), {"train": 8, "val": 4, "test": 6})


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Path) -> Callable[..., dict[str, Any]]:
    """The keys of a plan of a tiny base and a graft of it, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    Path("yolo0-tiny.yaml").write_text(TINY.replace("nc: 2", "nc: 6"))

    def _keys(**changes: Any) -> dict[str, Any]:
        arms = {"base": "yolo0n-tiny.yaml", "mlla": "yolo0n-tiny+MLLABlock@1,3.yaml"}
        return {"data": str(small), "arms": arms, "base": "base", "seeds": [0, 1], "train": TRAIN} | changes

    return _keys


@pytest.fixture
def plan(keys: Callable[..., dict[str, Any]]) -> Callable[..., Plan]:
    """That plan, with changes."""
    return lambda **changes: Plan.of(**keys(**changes))


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of a study need no process, which takes longer to import PyTorch than to train."""
    monkeypatch.setattr(queue, "_cores", lambda: 1)  # one after another
    monkeypatch.setattr(queue.Queue, "_begin", runs.begin)
    monkeypatch.setattr(guards, "probed", runs.probed)
