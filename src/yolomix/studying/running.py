"""One run in this process: train or go on, evaluate, and say what is left of it."""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from yolomix import files
from yolomix.host import evaluating, resuming, training
from yolomix.host.evaluating import Matched
from yolomix.host.resuming import State
from yolomix.records import Conditions
from yolomix.studying.record import RECORD, ImageStatistics, Record, RunSpec

STATE = "state.pt"  # names inside a run's folder
ERROR = "error.txt"
EVALUATED_WITH = (  # arguments of the training that an evaluation takes too
    *("imgsz", "batch", "device", "workers", "conf", "iou", "max_det"),
    *("single_cls", "agnostic_nms", "classes", "half", "mask_ratio", "overlap_mask"),
)

PLACES = ("model", "data", "project", "name", "save_dir")  # arguments that name files of this machine

# The disk's fault, not the run's; the first is what an error of PyTorch's writer comes as.
DISK = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Say = Callable[[dict[str, Any]], None]


def run(spec: RunSpec, folder: Path, say: Say) -> Record:
    """Train, evaluate on the split of the verdict, and write the record.

    Args:
        spec: what to run.
        folder: where everything is written: ``record.npz``, ``weights/last.pt`` and ``weights/best.pt``; until it is
            finished ``state.pt``, from which it goes on; ``error.txt`` if it fails.
        say: called with plain values after every epoch, and when a state cannot be used.

    Raises:
        OSError: the disk is full or broken. There is no record then, and the next call goes on.
    """
    work = _Work(spec, folder, say)
    try:
        record = work.finished()
    except training.DivergedError as error:
        record = work.ended("diverged", str(error))
    except Exception as error:  # whatever a model or a dataset does, the record says it
        if isinstance(error, OSError) and error.errno in DISK:
            raise
        files.write_text(folder / ERROR, traceback.format_exc())
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        record = work.ended("failed", reason)
    record.save(folder / RECORD)
    if record.status != "failed":  # what failed, for lack of memory say, may go on from where it was
        (folder / STATE).unlink(missing_ok=True)
    return record


class _Work:
    """A run while it is worked on."""

    def __init__(self, spec: RunSpec, folder: Path, say: Say) -> None:
        self.spec, self.folder, self.say = spec, folder, say
        self.began = time.perf_counter()
        self.state = self._found()
        self.before = (0.0, 0.0) if self.state is None else (self.state["seconds"], self.state["cpu_seconds"])

    def finished(self) -> Record:
        """The record of the whole run."""
        if self.state is None or not self.state["stop"]:
            orders = training.Orders(self.spec.seed, self._after_epoch, self.state)
            training.train(self.spec.model, training_arguments(self.spec, self.folder), orders)
        assert self.state is not None, "a training that ends has had an epoch"
        matched = self._evaluated()
        return self.ended("finished", _ended_early(self.state), matched)

    def ended(self, status: str, reason: str, matched: Matched | None = None) -> Record:
        """The record of what there is."""
        seconds, cpu_seconds = self._spent()
        asked = self.spec.arguments.get("device")
        device = asked if asked in ("cpu", "mps") else "cuda" if torch.cuda.is_available() else "cpu"
        return Record(
            spec=portable(self.spec),
            status=status,
            reason=reason,
            epochs=[] if self.state is None else self.state["rows"],
            arguments=self._arguments(),
            conditions=Conditions.here(device).to_dict(),
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            metrics={} if matched is None else matched.metrics,
            statistics=None if matched is None else statistics(matched),
        )

    def _found(self) -> State | None:
        """The state that an earlier process left, if it is whole and of this run."""
        file = self.folder / STATE
        if not file.exists():
            return None
        try:
            state = resuming.read(file)
        except ValueError as error:
            self.say({"said": f"{error}; the training starts anew"})
            return None
        if state.get("key") != self.spec.key:
            self.say({"said": f"{file} is of another run ({state.get('key')}); the training starts anew"})
            return None
        return state

    def _after_epoch(self, state: State) -> None:
        seconds, cpu_seconds = self._spent()
        state |= {"key": self.spec.key, "seconds": seconds, "cpu_seconds": cpu_seconds}
        resuming.write(self.folder / STATE, state)
        self.state = state
        line = {"epoch": state["epoch"] + 1, "of": state["epochs"], "metric": state["trainer"]["fitness"]}
        self.say({**line, "seconds": round(state["epoch_seconds"], 3)})

    def _evaluated(self) -> Matched:
        state = resuming.read(self.folder / STATE)
        training.finish(self.folder / "weights")
        weights = self.folder / "weights" / f"{self.spec.weights}.pt"
        arguments = {name: self.spec.arguments[name] for name in EVALUATED_WITH if name in self.spec.arguments}
        arguments |= {"data": self.spec.data, "split": self.spec.split, "plots": False}
        arguments |= {"project": str(self.folder), "name": "evaluation", "exist_ok": True}
        full_precision = state["ema"] if self.spec.weights == "last" else None
        return evaluating.evaluate(weights, full_precision, arguments)

    def _arguments(self) -> dict[str, Any]:
        file = self.folder / "args.yaml"
        saved: dict[str, Any] = yaml.safe_load(file.read_text("utf-8")) if file.exists() else {}
        return {name: value for name, value in saved.items() if name not in PLACES}

    def _spent(self) -> tuple[float, float]:
        """Wall-clock and CPU seconds of this process, its children and what went before it."""
        times = os.times()
        cpu = times.user + times.system + times.children_user + times.children_system
        return self.before[0] + time.perf_counter() - self.began, self.before[1] + cpu


def portable(spec: RunSpec) -> RunSpec:
    """The spec without paths of this machine: model and data as the plan names them."""
    facts = spec.facts
    return replace(spec, model=str(facts.get("model", spec.model)), data=str(facts.get("dataset", spec.data)))


def training_arguments(spec: RunSpec, folder: Path) -> dict[str, Any]:
    """What Ultralytics is given for the training of a run in a folder."""
    where = {"project": str(folder.parent), "name": folder.name, "exist_ok": True}
    return {**spec.arguments, "data": spec.data, "seed": spec.seed, **where}


def statistics(matched: Matched) -> ImageStatistics:
    """The statistics of a record, with files named from the folder that all have in common."""
    root = os.path.commonpath([os.path.dirname(image) for image in matched.images])
    return ImageStatistics(
        images=tuple(Path(os.path.relpath(image, root)).as_posix() for image in matched.images),
        classes=tuple(matched.classes),
        tp=matched.tp.astype(np.bool_),
        confidence=matched.conf.astype(np.float32),
        predicted=matched.pred_cls.astype(np.int64),
        image=matched.image.astype(np.int32),
        target=matched.target_cls.astype(np.int64),
        target_image=matched.target_image.astype(np.int32),
        target_area=matched.target_area.astype(np.float32),
        other_tp={letter: tp.astype(np.bool_) for letter, tp in matched.other_tp.items()},
        correct=matched.correct.astype(np.bool_),
    )


def _ended_early(state: State) -> str:
    """Why a training had fewer epochs than it was asked for; empty if it had all."""
    done, asked = state["epoch"] + 1, state["epochs"]
    if done >= asked:
        return ""
    patience = state["stopper"]["patience"]
    return f"ended after epoch {done} of {asked}: no better one in patience={patience} epochs"
