"""A study whose queue and runs are killed, and one in peace: for a fresh process."""

from __future__ import annotations

import contextlib
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
from yolomix.studying import guards, queue
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
    "controls": [],
    "train": TRAIN,
}
EACH = 2 + EPOCHS  # what :func:`progress` counts of a run
FIRST_EPOCH = 3  # where it stands after the first epoch of a study without guards
DELAY = 2.0  # seconds: a moment is up to so long after what it counts


def train(folder: Path, model: str, data: str) -> None:
    """Train a small model in a folder, so that there is something to find."""
    killing.imported()
    runs.write_spec(folder, model, data, epochs=3, nbs=2, mosaic=0.0, close_mosaic=0, optimizer="AdamW")
    assert runs.forked(folder) == 0


def main(root: Path, data: str, kills: int, whole: bool) -> str:
    """Compare; returns how often what was killed.

    Args:
        root: where both studies work; :func:`train` has worked in ``trained`` there.
        data: a dataset like that of the training.
        kills: how many; a single one is of the queue, after the first epoch of its first run.
        whole: two seeds, guards, and a study in peace that has a queue with processes too.
    """
    root = root.resolve()
    for name in ("peace", "killed"):
        (root / name).mkdir()
        shutil.copy(root / "trained" / "weights" / "last.pt", root / name / "trained.pt")
    if not whole:
        _make_smaller()
    plan = PLAN | {"data": data, "seeds": [0, 1] if whole else [0]}
    began = time.monotonic()
    assert _ended(_begun(root / "peace", plan, (lambda: None) if whole else _without_processes)) == 0
    needed = time.monotonic() - began
    killed = _killed(root / "killed", plan, kills)
    _compare(root / "peace", root / "killed")
    return f"killed {dict(killed)}; {needed:.0f} s in peace, {time.monotonic() - began - needed:.0f} s killed"


def _killed(folder: Path, plan: dict[str, Any], kills: int) -> Counter[str]:
    """Carry a study out and kill its queue, or a run of it, at so many moments; goes on until all is done."""
    killed, rng = Counter[str](), np.random.default_rng(1)
    last = 2 + len(plan["arms"]) * len(plan["seeds"]) * EACH
    moments = sorted(rng.choice(last - 1, kills, replace=False)) if kills > 1 else [FIRST_EPOCH]
    process = _begun(folder, plan)
    for moment in moments:
        while progress(folder) < moment:
            if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
                assert _ended(process) in (0, 1)  # 1: a run of it was killed
                process = _begun(folder, plan)
            time.sleep(0.05)
        time.sleep(rng.uniform(0, DELAY) if kills > 1 else 0)
        at_work = _at_work(process)
        if at_work and killed["runs"] < killed["queues"]:  # in turns, as far as there are runs
            with contextlib.suppress(psutil.NoSuchProcess):
                at_work[rng.integers(len(at_work))].kill()
                killed["runs"] += 1
        else:
            os.kill(process, signal.SIGKILL)
            assert _ended(process) in (-signal.SIGKILL, 0, 1)
            killed["queues"] += 1
            process = _begun(folder, plan)
    while _ended(process) != 0:
        failed = [
            file for file in folder.glob("runs/study/*/runs/*/record.npz") if Record.load(file).status == "failed"
        ]
        assert not failed, "a kill left a record of a run that failed"
        process = _begun(folder, plan)
    return killed


def _at_work(queue: int) -> list[psutil.Process]:
    """The processes of runs that a queue has begun and that have not ended."""
    found = []
    for one in psutil.Process(queue).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # ended meanwhile, or not yet taken note of by its queue
            if "yolomix.studying.worker" in one.cmdline():
                found.append(one)
    return found


def progress(folder: Path) -> int:
    """How far a study is: it and its guards, its runs begun and done, and every epoch, told twice if trained twice."""
    place = folder / "runs" / "study" / "study"
    found = sum((place / name).exists() for name in ("study.yaml", guards.FILE))
    found += sum(1 for name in ("spec.json", "record.npz") for _ in place.glob(f"runs/*/{name}"))
    return found + sum(file.read_text().count('{"epoch"') for file in place.glob("runs/*/log.txt"))


def _begun(folder: Path, plan: dict[str, Any], prepare: Callable[[], Any] = lambda: None) -> int:
    """Let a fork of this process carry the study out and report; returns its id."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.chdir(folder)
            prepare()
            made = yolomix.Study(**plan)
            lacking = [run for run in made.run() if run.status != "finished"]
            report(made, measure=False)
            code = int(bool(lacking))
            print(*(run.reason for run in lacking), sep="\n")
        except Exception:  # noqa: BLE001  # the test says what came
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def _ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _make_smaller() -> None:
    """Carry studies out without guards, and one run after the other."""
    guards.check = lambda *_: None  # type: ignore[assignment]
    queue._cores = lambda: 1


def _without_processes() -> None:
    queue.Queue._begin = runs.begin  # type: ignore[assignment,method-assign]


def _compare(peace: Path, killed: Path) -> None:
    """Assert that both have the same report, and the same numbers in every run."""
    one, other = (read(folder) for folder in (peace, killed))
    assert one == other, f"reports differ: {one} {other}"
    values = [run["value"] for run in one["datasets"][0]["runs"]]
    assert all(values), f"a comparison of nothing: {values}"
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
