"""A study whose queue and runs are killed at random moments, and one in peace: ``main(...)`` in a fresh process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import yolomix
from tests.studying import killing, runs
from yolomix.studying import guards, study
from yolomix.studying.queue import Queue
from yolomix.studying.record import Record
from yolomix.studying.reporting import report

EPOCHS = 2
TRAIN = {
    "epochs": EPOCHS,
    "imgsz": 64,
    "batch": 2,
    "nbs": 2,
    "optimizer": "AdamW",
    "mosaic": 0.0,
    "workers": 0,
    "plots": False,
    "device": "cpu",
}
PLAN = {
    "arms": {"base": "trained.pt", "mlla": "trained+MLLABlock@1.pt"},
    "base": "base",
    "seeds": [0, 1],
    "controls": [],
    "train": TRAIN,
}
RUNS = 4
MOMENTS = 2 + RUNS * (2 + EPOCHS)  # what :func:`progress` counts to
DELAY = 2.0  # seconds: a moment is up to so long after what it counts


def main(root: Path, model: str, data: str, count: int, seed: int, whole: bool) -> str:
    """Compare; returns how often what was killed.

    Args:
        root: where both studies work.
        model: a small model, trained first, so that there is something to find.
        data: its dataset.
        count: of kills.
        seed: of their moments.
        whole: whether the study in peace has a queue with processes too, and guards.
    """
    killing.imported()
    runs.write_spec(root / "trained", model, data, epochs=30, nbs=2, mosaic=0.0, close_mosaic=0, optimizer="AdamW")
    assert runs.forked(root / "trained") == 0
    for name in ("peace", "killed"):
        (root / name).mkdir()
        shutil.copy(root / "trained" / "weights" / "last.pt", root / name / "trained.pt")
    began = time.monotonic()
    assert _ended(_begun(root / "peace", data, (lambda: None) if whole else _here)) == 0
    needed = time.monotonic() - began
    killed = _killed(root / "killed", data, count, np.random.default_rng(seed))
    _compare(root / "peace", root / "killed")
    return f"killed {dict(killed)}; {needed:.0f} s in peace, {time.monotonic() - began - needed:.0f} s killed"


def _killed(folder: Path, data: str, count: int, rng: np.random.Generator) -> Counter[str]:
    """Carry a study out and kill its queue, or a run of it, at so many moments; goes on until all is done."""
    killed = Counter[str]()
    queue = _begun(folder, data)
    for moment in sorted(rng.choice(MOMENTS - 1, count, replace=False)):  # not after the end
        while progress(folder) < moment:
            if psutil.Process(queue).status() == psutil.STATUS_ZOMBIE:
                assert _ended(queue) in (0, 1)  # 1: a run of it was killed
                queue = _begun(folder, data)
            time.sleep(0.05)
        time.sleep(rng.uniform(0, DELAY))
        at_work = [one.pid for one in psutil.Process(queue).children() if "yolomix.studying.worker" in one.cmdline()]
        if at_work and killed["runs"] <= killed["queues"]:  # in turns, as far as there are runs
            os.kill(int(rng.choice(at_work)), signal.SIGKILL)
            killed["runs"] += 1
        else:
            os.kill(queue, signal.SIGKILL)
            assert _ended(queue) in (-signal.SIGKILL, 0, 1)
            killed["queues"] += 1
            queue = _begun(folder, data)
    while _ended(queue) != 0:
        failed = [
            file for file in folder.glob("runs/study/*/runs/*/record.npz") if Record.load(file).status == "failed"
        ]
        assert not failed, "a kill left a record of a run that failed"
        queue = _begun(folder, data)
    return killed


def progress(folder: Path) -> int:
    """How far a study is: it and its guards, its runs begun and done, and every epoch, told twice if trained twice."""
    place = folder / "runs" / "study" / "study"
    found = sum((place / name).exists() for name in ("study.yaml", guards.FILE))
    found += sum(1 for name in ("spec.json", "record.npz") for _ in place.glob(f"runs/*/{name}"))
    return found + sum(file.read_text().count('{"epoch"') for file in place.glob("runs/*/log.txt"))


def _begun(folder: Path, data: str, prepare: Callable[[], Any] = lambda: None) -> int:
    """Let a fork of this process carry the study out and report; returns its id."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.chdir(folder)
            prepare()
            made = yolomix.Study(data=data, **PLAN)
            lacking = [run for run in made.run() if run.status != "finished"]
            report(made, measure=False)
            code = int(bool(lacking))
        except Exception:  # noqa: BLE001  # the test says what came
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def _ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class _Forks(Queue):
    """Runs one after another in forks of this process, which have imported everything."""

    def run(self, specs: Any, *args: Any, **options: Any) -> None:
        for spec in specs:
            (self.folder / spec.folder).mkdir(parents=True)
            self.prepare(spec).write(self.folder / spec.folder)
            assert runs.forked(self.folder / spec.folder) == 0


def _here() -> None:
    """Carry runs out without a queue and without guards, which takes less time."""
    study.Queue = _Forks  # type: ignore[misc]
    guards.check = lambda *_: None  # type: ignore[assignment]


def _compare(peace: Path, killed: Path) -> None:
    """Assert that both have the same report, and the same numbers in every run."""
    one, other = (read(folder) for folder in (peace, killed))
    assert one == other, f"reports differ: {one} {other}"
    values = [run["value"] for run in one["datasets"][0]["runs"]]
    assert len({*values}) > 1, f"a comparison of nothing: {values}"
    for folder in sorted((peace / "runs" / "study" / "study" / "runs").iterdir()):
        there = killed / folder.relative_to(peace)
        assert runs.numbers(folder) == runs.numbers(there), folder.name
        assert not (there / "state.pt").exists(), "the state stays"


def read(folder: Path) -> Any:
    """A study's ``study.json`` without times, dates and costs."""
    found = json.loads((folder / "runs" / "study" / "study" / "study.json").read_text())
    del found["conditions"]
    for arm in found["arms"]:
        del arm["cost"]
    return found
