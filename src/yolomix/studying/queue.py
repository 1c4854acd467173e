"""The queue of one machine: a process per run, as many at once as there is room for, and a state that goes on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from yolomix import files, processes
from yolomix.progress import Progress
from yolomix.studying.folder import STOPPED
from yolomix.studying.record import RECORD, Record, RunSpec

POLL = 0.2  # seconds between two looks at the processes
GRACE = 10.0  # seconds that a process has to end by itself
MEMORY = 3 << 30  # bytes that a run is expected to need at most, on a CPU
LOG = "log.txt"  # what the process of a run writes
TAIL = 4000  # characters of it in which the reason of an end is looked for

Command = Callable[[Path], list[str]]


@dataclass(frozen=True)
class Slot:
    """Room for one run.

    Attributes:
        device: as Ultralytics takes it.
        environment: of the process.
    """

    device: str
    environment: Mapping[str, str] = field(default_factory=dict)


def slots(runs: int, device: Any = None, threads: int = 0) -> tuple[list[Slot], int]:
    """Where runs go, and how many threads each gets: processes at once times threads are at most the cores.

    On a CPU a run trains with few threads and many run at once, which takes less time than one after the other. The
    number of threads is that of the study's first day: another one would round otherwise.

    Args:
        runs: of the study, those that are finished too.
        device: the argument of the training; of several GPUs each gets a run, None takes all there are.
        threads: that the study has; 0 decides.

    >>> slots(4, "cpu", threads=10_000)[0]
    [Slot(device='cpu', environment={})]
    """
    cores = _cores()
    gpus = _gpus(device)
    if gpus:
        room = [Slot("0", {"CUDA_VISIBLE_DEVICES": gpu}) for gpu in gpus][: max(1, runs)]
        return room, threads or max(1, cores // len(room))
    threads = threads or max(1, cores // min(max(1, runs), cores, max(1, _memory() // MEMORY)))
    at_once = max(1, min(cores // threads, max(1, _memory() // MEMORY)))
    return [Slot(str(device or "cpu"))] * at_once, threads


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int:
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 4 * MEMORY  # where it cannot be asked


def _gpus(device: Any) -> list[str]:
    if str(device) in ("cpu", "mps"):
        return []
    if device is not None:
        return [part.strip() for part in str(device).strip("[]() ").replace("cuda:", "").split(",") if part.strip()]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def command(folder: Path) -> list[str]:
    """What carries out the run in a folder."""
    return [sys.executable, "-m", "yolomix.studying.worker", str(folder)]


@dataclass
class _Job:
    """A run at work."""

    spec: RunSpec
    slot: Slot
    folder: Path
    process: subprocess.Popen[bytes]
    began: float = field(default_factory=time.monotonic)
    line: dict[str, Any] = field(default_factory=dict)  # what the process said last

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict) and "epoch" in found:
                    self.line = found

    def __str__(self) -> str:
        text = f"{self.spec.arm} s{self.spec.seed}"
        if self.line:
            text += f" epoch {self.line['epoch']}/{self.line['of']} {self.line['metric']:.3f}"
        return text

    def end(self) -> None:
        """Let it end; its last finished epoch stays."""
        processes.send(self.process, signal.SIGTERM)
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            processes.send(self.process)
            self.process.wait()


class Queue:
    """Carries out runs.

    Args:
        folder: of the study.
        prepare: makes the initial weights of a run; returns the spec with the paths of this machine.
        room: where runs go.
        how: the command of a run.
    """

    def __init__(
        self, folder: Path, prepare: Callable[[RunSpec], RunSpec], room: Sequence[Slot], how: Command = command
    ) -> None:
        self.folder, self.prepare, self.room, self.how = folder, prepare, room, how
        self.jobs: list[_Job] = []
        self.seconds: list[float] = []  # of an epoch, as runs told them
        self.whole: list[float] = []  # of a run from its beginning to its end
        self.reasons: dict[str, str] = {}  # why runs without a record stopped, by key

    def run(
        self,
        specs: Sequence[RunSpec],
        retry: bool = False,
        budget: float | None = None,
        said: Progress = lambda done, total, what: None,
        done: Callable[[RunSpec, Record | None], None] = lambda spec, record: None,
    ) -> None:
        """Carry out what is not there yet, in this order.

        Args:
            specs: all runs.
            retry: repeat those that failed or diverged.
            budget: hours after which none begins any more.
            said: told how far everything is.
            done: told of every run that ended, with its record if it left one.

        Raises:
            KeyboardInterrupt: the user ended it; all processes have ended, and the next call goes on.
        """
        began = time.monotonic()
        waiting = [spec for spec in specs if self._wants(spec, retry)]
        try:
            while waiting or self.jobs:
                spent = budget is not None and time.monotonic() - began >= 3600 * budget
                if spent:
                    for spec in waiting:
                        self.reasons[spec.key] = f"not begun: the budget of {budget:g} hours is spent"
                    waiting = []
                while waiting and len(self.jobs) < len(self.room):
                    self._begin(waiting.pop(0), done)
                for job in [job for job in self.jobs if job.process.poll() is not None]:
                    self.jobs.remove(job)
                    done(job.spec, self._ended(job))
                said(len(specs) - len(waiting) - len(self.jobs), len(specs), self._words(waiting))
                if self.jobs:
                    time.sleep(POLL)
        finally:
            for job in self.jobs:
                job.end()
            self.jobs = []

    def _wants(self, spec: RunSpec, retry: bool) -> bool:
        file = self.folder / spec.folder / RECORD
        if not file.is_file():
            return True
        if not retry or Record.load(file).status == "finished":
            return False
        file.unlink()  # a state of the run, if there is one, is gone on with
        return True

    def _begin(self, spec: RunSpec, done: Callable[[RunSpec, Record | None], None]) -> None:
        used = [job.slot for job in self.jobs]
        slot = next(slot for slot in self.room if self.room.count(slot) > used.count(slot))
        folder = self.folder / spec.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            ready = self.prepare(spec)
            replace(ready, arguments={**ready.arguments, "device": slot.device}).write(folder)
            (folder / STOPPED).unlink(missing_ok=True)
            process = subprocess.Popen(
                self.how(folder),
                stdin=subprocess.PIPE,  # its end tells the process that this one is gone
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **slot.environment},
                start_new_session=True,  # Ctrl-C is for this process, which then ends that one
            )
        except (OSError, ValueError) as error:
            self._stopped(spec, f"could not begin: {error}")
            done(spec, None)
            return
        self.jobs.append(_Job(spec, slot, folder, process))

    def _ended(self, job: _Job) -> Record | None:
        """The record of a run whose process has ended; None where it left none."""
        job.reader.join(1.0)
        for stream in (job.process.stdin, job.process.stdout):
            if stream is not None:
                stream.close()
        if "seconds" in job.line:
            self.seconds.append(float(job.line["seconds"]))
            self.whole.append(time.monotonic() - job.began)
        with contextlib.suppress(OSError, ValueError):
            return Record.load(job.folder / RECORD)
        self._stopped(job.spec, why(job.process.returncode, job.folder))
        return None

    def _stopped(self, spec: RunSpec, reason: str) -> None:
        self.reasons[spec.key] = reason
        with contextlib.suppress(OSError):  # a full disk: it is known here, and not tomorrow
            files.write_text(self.folder / spec.folder / STOPPED, f"{reason}\n")

    def _words(self, waiting: Sequence[RunSpec]) -> str:
        text = "; ".join(map(str, self.jobs)) or "no run at work"
        left = self._left(waiting)
        return text if left is None else f"{text}; about {duration(left)} left"

    def _left(self, waiting: Sequence[RunSpec]) -> float | None:
        """Seconds until everything is done, as far as whole runs tell, or at first epochs."""
        if self.whole:
            each = sum(self.whole) / len(self.whole)
            ages = [time.monotonic() - job.began for job in self.jobs]
            return (each * len(waiting) + sum(max(each - age, 0.0) for age in ages)) / len(self.room)
        told = [float(job.line["seconds"]) for job in self.jobs if "seconds" in job.line] + self.seconds
        if not told:
            return None
        epochs = sum(int(spec.arguments.get("epochs", 100)) for spec in waiting)
        for job in self.jobs:
            wanted = int(job.line.get("of") or job.spec.arguments.get("epochs", 100))
            epochs += wanted - int(job.line.get("epoch", 0))
        return epochs * sum(told) / len(told) / len(self.room)


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(42), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def why(code: int, folder: Path) -> str:
    """Why a process ended without a record: the signal, a full disk, or what it said last."""
    last = ""
    with contextlib.suppress(OSError):
        lines = (folder / LOG).read_text("utf-8", "replace")[-TAIL:].splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip() and not line.startswith("{")), "")
        if shutil.disk_usage(folder).free < 1 << 20:
            return f"the disk is full ({folder}); make room and start the study again. It said last: {last}"
    if code < 0:
        name = signal.Signals(-code).name
        by = ", by somebody or by the system for lack of memory" if name == "SIGKILL" else ""
        return f"killed by {name}{by}; started again, it goes on after its last finished epoch"
    return f"ended with exit code {code} and without a record; it said last: {last or 'nothing'}"
