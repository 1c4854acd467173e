"""The queue on a Ray cluster: a plain task per run, with the cores or the GPU that it needs.

Ray gives a task of a node that has died to another one. In a folder that all nodes share, the run goes on after its
last finished epoch; elsewhere it begins anew. Either way its record comes back to the study's folder.
"""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from yolomix import files
from yolomix.ops.backend import package_refusal
from yolomix.progress import Progress
from yolomix.studying.folder import PLAN
from yolomix.studying.queue import Command, Queue, Slot, command, duration, why
from yolomix.studying.record import RECORD, Record, RunSpec

POLL = 1.0  # seconds between two looks at the tasks
RETRIES = 3  # of a task whose node died


class RayQueue(Queue):
    """Carries out runs on a Ray cluster.

    Args:
        folder: of the study; where nodes share it, they work in it.
        prepare: makes the initial weights of a run; returns the spec with the paths of this machine.
        room: its first slot says whether runs compute on GPUs.
        threads: cores for each run.
        address: of the cluster, as Ray takes it; None for one on this machine alone.
        how: the command of a run.

    Raises:
        RuntimeError: Ray is not installed; the text says what to type.
    """

    def __init__(
        self,
        folder: Path,
        prepare: Callable[[RunSpec], RunSpec],
        room: Sequence[Slot],
        threads: int,
        address: str | None = None,
        how: Command = command,
    ) -> None:
        super().__init__(folder, prepare, room, how)
        if package_refusal("ray") is not None:
            raise RuntimeError("engine=ray needs Ray, which is not installed: pip install 'yolomix[ray]'")
        self.threads, self.address = threads, address

    def run(
        self,
        specs: Sequence[RunSpec],
        retry: bool = False,
        budget: float | None = None,
        said: Progress = lambda done, total, what: None,
        done: Callable[[RunSpec, Record | None], None] = lambda spec, record: None,
    ) -> None:
        """:meth:`Queue.run`, with tasks of Ray in place of processes here.

        Raises:
            ConnectionError: there is no cluster at the address.
            KeyboardInterrupt: the user ended it; the tasks have been cancelled, and the next call goes on.
        """
        ray = importlib.import_module("ray")
        ours = not ray.is_initialized()
        if ours:
            ray.init(address=self.address, log_to_driver=False)
        on_gpu = self.room[0].device not in ("cpu", "mps")
        task = ray.remote(num_cpus=self.threads, num_gpus=int(on_gpu), max_retries=RETRIES, retry_exceptions=False)(
            work
        )
        waiting = [spec for spec in specs if self._wants(spec, retry)]
        running: dict[Any, RunSpec] = {}
        began = time.monotonic()
        try:
            while waiting or running:
                if budget is not None and time.monotonic() - began >= 3600 * budget:
                    for spec in waiting:
                        self.reasons[spec.key] = f"not begun: the budget of {budget:g} hours is spent"
                    waiting = []
                while waiting and len(running) < self._at_once(ray, on_gpu):
                    spec = waiting.pop(0)
                    running[task.remote(*self._given(spec))] = spec
                ended, _ = ray.wait([*running], timeout=POLL) if running else ([], [])
                for one in ended:
                    spec = running.pop(one)
                    done(spec, self._gathered(ray, one, spec))
                at_work = ", ".join(f"{spec.arm} s{spec.seed}" for spec in running.values())
                text = f"{at_work or 'no run at work'}; {duration(time.monotonic() - began)} so far"
                said(len(specs) - len(waiting) - len(running), len(specs), text)
        finally:
            for one in running:
                ray.cancel(one, force=True)
            if ours:
                ray.shutdown()

    def _at_once(self, ray: Any, on_gpu: bool) -> int:
        """How many tasks the cluster has room for; nodes come and go."""
        resources = ray.cluster_resources()
        room = resources.get("CPU", 1) // self.threads
        return max(1, int(min(room, resources.get("GPU", 0)) if on_gpu else room))

    def _given(self, spec: RunSpec) -> tuple[dict[str, Any], bytes, str, Command]:
        """What a task gets: the run, its initial weights, the study's folder, and the command."""
        ready = self.prepare(spec)
        ready = replace(ready, arguments={**ready.arguments, "device": self.room[0].device})
        return asdict(ready), Path(ready.model).read_bytes(), str(self.folder.resolve()), self.how

    def _gathered(self, ray: Any, task: Any, spec: RunSpec) -> Record | None:
        """The record of a run that has ended, put into the study's folder; None where it left none."""
        folder = self.folder / spec.folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            content, reason = ray.get(task)
        except ray.exceptions.RayError as error:
            content, reason = None, f"Ray lost it: {str(error).splitlines()[0]}"
        if content is None:
            self._stopped(spec, reason)
            return None
        if not (folder / RECORD).exists():
            files.write(folder / RECORD, content)
        return Record.load(folder / RECORD)


def work(spec: dict[str, Any], initial: bytes, study: str, how: Command) -> tuple[bytes | None, str]:
    """The task of a run, on whatever node: its record, or why there is none.

    Args:
        spec: of the run.
        initial: its initial weights, as a checkpoint.
        study: the study's folder on the machine that asked.
        how: the command of a run.
    """
    run = RunSpec.from_dict(spec, "a task of the study")
    if not Path(run.data).exists():
        return None, f"the dataset {run.data} is not on the node; put it under the same path there"
    with contextlib.ExitStack() as stack:
        shared = (Path(study) / PLAN).is_file()
        root = Path(study) if shared else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = root / run.folder
        folder.mkdir(parents=True, exist_ok=True)
        if not Path(run.model).exists():
            run = replace(run, model=str(files.write(folder / "initial.pt", initial)))
        run.write(folder)
        # Its stdin ends with this process, and it ends with its stdin: a dead node leaves nothing behind.
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(how(folder), **pipes, start_new_session=True) as process:
            while (code := process.poll()) is None:  # not communicate(), which would close stdin
                time.sleep(POLL)
        if (folder / RECORD).is_file():
            return (folder / RECORD).read_bytes(), ""
        return None, why(code, folder)
