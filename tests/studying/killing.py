"""Runs and studies that are killed at random moments or meet a full disk; each function is for a fresh process."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.injection import Injection
from tests.studying import runs
from yolomix.studying import queue

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


class Full(Injection):
    """A disk that is full from the first write of a file with a name on."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, 1, "full")
        self.name = name

    def _counts(self, path: Any) -> bool:
        return super()._counts(path) and (bool(self.fired) or self.name in os.path.basename(str(path)))

    def step(self, what: str, path: Any, half: Callable[[], Any] = lambda: None) -> None:
        if self.fired:
            self.count = 0
        super().step(what, path, half)


def full(root: Path, model: str, data: str, *files: str) -> str:
    """Compare runs whose disk was full from the first write of a file on, and that went on, with one in peace.

    Of the file "room" the disk takes 20 kB of whatever is written. Returns what a queue says of each.
    """
    imported()
    said = []
    for name in ("peace", *files):
        folder = root / name
        runs.write_spec(folder, model, data, epochs=2, close_mosaic=0)
        if name != "peace":
            disk = Injection(folder, 20_000, "room") if name == "room" else Full(folder, name)
            assert runs.forked(folder, prepare=disk.start) == 1
            assert not (folder / "record.npz").exists()
            said.append(queue.why(1, folder))
        assert runs.forked(folder) == 0, (folder / "log.txt").read_text()[-3000:]
        assert runs.numbers(folder) == runs.numbers(root / "peace"), f"{name}: other numbers"
    return "\n".join(said)


def unread(root: Path, model: str, data: str) -> str:
    """A run whose queue is gone when it has something to say, and its continuation: codes, and what is left."""
    imported()
    folder = root / "unread"
    runs.write_spec(folder, model, data, epochs=2, close_mosaic=0)

    def _without_reader() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)

    code = runs.forked(folder, prepare=_without_reader)
    left = [f"{name} {(folder / name).exists()}" for name in ("record.npz", "state.pt")]
    return f"{code} {' '.join(left)} {runs.forked(folder)}"


def imported() -> None:
    """Import here what is slow, so that forks need not."""
    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def main(root: Path, model: str, data: str, workers: int, seed: int, count: int, **changes: Any) -> str:
    """Compare; returns how often the run was killed and how often it went on from a state.

    A single kill comes after the first epoch, so that there is a state.
    """
    prepare = more_workers if workers else (lambda: None)
    for name in ("peace", "killed"):
        runs.write_spec(root / name, model, data, **changes)
    imported()
    start = time.perf_counter()
    assert runs.forked(root / "peace", prepare=prepare) == 0, (root / "peace" / "log.txt").read_text()[-3000:]
    needed = time.perf_counter() - start
    killed = went_on = 0
    first = root / "killed" / "state.pt" if count == 1 else None
    for moment in runs.moments(seed, count, needed if first is None else needed / 8):
        if runs.forked(root / "killed", moment, prepare, first) == -9:
            killed += 1
            went_on += (root / "killed" / "state.pt").exists()
    assert runs.forked(root / "killed", prepare=prepare) == 0, (root / "killed" / "log.txt").read_text()[-3000:]
    one, other = runs.numbers(root / "peace"), runs.numbers(root / "killed")
    different = [name for name in one if one[name] != other[name]]
    assert one.keys() == other.keys(), "other numbers are there"
    assert not different, f"killed {killed} times, {different} are different: {one[different[0]]} {other[different[0]]}"
    assert not (root / "killed" / "state.pt").exists(), "the state stays"
    return f"killed {killed} times, went on {went_on} times, {needed:.1f} s"
