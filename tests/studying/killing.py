"""A process that lets a run be killed at random moments, and one in peace: ``killing.main(...)`` in a fresh process."""

from __future__ import annotations

import contextlib
import importlib
import time
from pathlib import Path
from typing import Any

from tests.studying import runs

IMPORTED = ("torch._inductor", "torchvision", "yolomix.studying.running", "ultralytics.models.yolo", "polars", "pandas")


def more_workers() -> None:
    """Let the training's loader have a worker, which Ultralytics leaves out on a CPU."""
    from ultralytics.models.yolo.detect import train

    native = train.build_dataloader

    def _build(dataset: Any, *args: Any, **kwargs: Any) -> Any:
        if "workers" in kwargs:
            kwargs["workers"] = 1
        else:
            args = (args[0], 1, *args[2:])
        return native(dataset, *args, **kwargs)

    train.build_dataloader = _build


def main(root: Path, model: str, data: str, workers: int, seed: int, count: int, **changes: Any) -> str:
    """Compare; returns how often the run was killed and how often it went on from a state."""
    prepare = more_workers if workers else (lambda: None)
    for name in ("peace", "killed"):
        runs.write_spec(root / name, model, data, **changes)
    for name in IMPORTED:  # here, so that forks need not
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    start = time.perf_counter()
    assert runs.forked(root / "peace", prepare=prepare) == 0, (root / "peace" / "log.txt").read_text()[-3000:]
    needed = time.perf_counter() - start
    killed = went_on = 0
    for moment in runs.moments(seed, count, needed):
        if runs.forked(root / "killed", moment, prepare) == -9:
            killed += 1
            went_on += (root / "killed" / "state.pt").exists()
    assert runs.forked(root / "killed", prepare=prepare) == 0, (root / "killed" / "log.txt").read_text()[-3000:]
    one, other = runs.numbers(root / "peace"), runs.numbers(root / "killed")
    different = [name for name in one if one[name] != other[name]]
    assert one.keys() == other.keys(), "other numbers are there"
    assert not different, f"killed {killed} times, {different} are different: {one[different[0]]} {other[different[0]]}"
    assert not (root / "killed" / "state.pt").exists(), "the state stays"
    return f"killed {killed} times, went on {went_on} times, {needed:.1f} s"
