"""Small runs of a study, for the tests: their specs, and what works on them, in this process or in one to be killed."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from yolomix.host import training
from yolomix.studying import child, running
from yolomix.studying.queue import Queue, Slot
from yolomix.studying.record import RECORD, Record, RunSpec

SMALL = {
    "imgsz": 64,
    "batch": 2,
    "nbs": 8,
    "epochs": 4,
    "close_mosaic": 2,
    "warmup_epochs": 1.0,
    "optimizer": "SGD",
    "lr0": 0.01,
    "plots": False,
    "device": "cpu",
    "workers": 0,
    "verbose": False,
}
"""Six images make three batches, and the optimizer steps after four: gradients wait over the end of an epoch."""


def write_spec(folder: Path, model: str | Path, data: str | Path, **changes: Any) -> RunSpec:
    """The spec of a run, in its folder; changes are of the training's arguments, or of the spec's fields."""
    given = {"arm": "tiny", "seed": 3, "split": "val", "weights": "last", "key": "k", "facts": {"threads": 1}}
    own = given | {name: value for name, value in changes.items() if name in given}
    arguments = SMALL | {name: value for name, value in changes.items() if name not in given}
    spec = RunSpec(model=str(model), data=str(data), arguments=arguments, folder=folder.name, **own)
    folder.mkdir(parents=True)
    spec.write(folder)
    return spec


def begin(queue: Queue, spec: RunSpec, done: Callable[[RunSpec, Record], None]) -> None:
    """In place of ``Queue._begin``: the run is over when this returns, without a process that imports PyTorch again."""
    folder = (queue.folder / spec.folder).resolve()  # to Ultralytics a relative one is somewhere else
    folder.mkdir(parents=True)
    ready = queue.prepare(spec)
    ready.write(folder)
    done(spec, running.run(ready, folder, lambda line: queue.seconds.append(line["seconds"])))


def probed(spec: RunSpec, slot: Slot) -> dict[str, Any]:
    """In place of ``guards.probed``, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        given = replace(spec, arguments={**spec.arguments, "device": slot.device})
        return training.probe(spec.model, running.training_arguments(given, Path(folder)))


def forked(
    folder: Path,
    after: float | None = None,
    prepare: Callable[[], Any] = lambda: None,
    since: Path | None = None,
) -> int:
    """Work on a run in a fork of this process, killed after so many seconds; what ``os.wait`` says of it.

    Args:
        folder: of the run.
        after: seconds; None lets it end.
        prepare: called in the fork.
        since: the file with which the seconds begin; None begins them with the fork.
    """
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            prepare()
            code = child.main([str(folder)])
        except SystemExit as left:
            code = int(str(left.code))
        except Exception:  # noqa: BLE001  # as Python itself ends; the run's log has it
            code = 1
        finally:
            os._exit(code)
    if after is not None:
        while since is not None and not since.exists() and not _has_ended(pid):
            time.sleep(0.01)
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def numbers(folder: Path) -> dict[str, Any]:
    """All numbers that a run left: of its epochs, its evaluation, its statistics and its weights."""
    record = Record.load(folder / RECORD)
    assert record.status == "finished", record.reason
    assert record.statistics is not None
    weights = torch.load(folder / "weights" / "last.pt", weights_only=False)["model"].state_dict()
    return {
        "epochs": [dict(row) for row in record.epochs],
        "metrics": dict(record.metrics),
        "images": record.statistics.images,
        **{name: array.tolist() for name, array in record.statistics.arrays().items()},
        **{name: tensor.tolist() for name, tensor in weights.items()},
    }


def moments(seed: int, count: int, within: float) -> list[float]:
    """Seconds after which a run is killed, again and again."""
    return np.random.default_rng(seed).uniform(0, within, count).tolist()
