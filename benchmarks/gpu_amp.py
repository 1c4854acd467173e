"""Mixed precision on a GPU, every family, beside float32.

Each detector trains 200 steps on the sample dataset in float32 and again with AMP, from the same weights on the same
images. There is a row per training step with its loss.
"""

from __future__ import annotations

import logging
import math
import os
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.gpu_record import Record, Row, failure, key

MODELS = ("yolo11n", "mamba-yolo-t", "yolov8n-vmamba", "yolov8n-vim", "yolo11n-assg", "yolo11n-mlla", "yolo11n-halo")
DTYPES = ("float32", "amp")
STEPS = 200
SHOWN = 20  # training steps at each end whose mean is told
WORKERS = 7  # trainings at once
RECIPE: dict[str, Any] = {
    "device": 0,
    "imgsz": 320,
    "batch": 8,
    "nbs": 8,  # a training step per batch
    "optimizer": "AdamW",
    "lr0": 0.001,
    "seed": 0,
    "cache": "ram",
    "workers": 0,  # the same images in the same order
    "val": False,
    "plots": False,
    "verbose": False,
}


def losses(name: str, steps: int, amp: bool, **recipe: Any) -> list[float]:
    """The loss of each of the first ``steps`` training steps of a detector on ``data``, or the sample dataset.

    Raises:
        RuntimeError: Ultralytics trains without AMP although it was asked for.
    """
    from yolomix import YOLO
    from yolomix.data import sample_dataset

    logging.getLogger("ultralytics").setLevel(logging.WARNING)
    found: list[float] = []

    def step(trainer: Any) -> None:
        if bool(trainer.amp) != amp:
            raise RuntimeError("Ultralytics switched AMP off on this device")
        found.append(trainer.loss.item())
        if len(found) == steps:
            trainer.stop = True

    data = Path(recipe.pop("data", None) or sample_dataset())
    batches = -(-len(list((data.parent / "images" / "train").iterdir())) // recipe["batch"])
    with TemporaryDirectory() as folder:
        model = YOLO(f"{name}.yaml")
        model.add_callback("on_train_batch_end", step)
        model.train(data=str(data), epochs=-(-steps // batches), project=folder, amp=amp, **recipe)
    return found[:steps]


def run(record: Record) -> None:
    """Train what is left, several detectors at once: losses are looked at here, not times."""
    left = record.todo(
        key(name, RECIPE["imgsz"], RECIPE["batch"], dtype, "training") for name in MODELS for dtype in DTYPES
    )
    with ProcessPoolExecutor(max(1, min(WORKERS, (os.cpu_count() or 1) // 2)), get_context("spawn")) as pool:
        jobs = {pool.submit(losses, one[0], STEPS, one[3] == "amp", **RECIPE): one for one in left}
        for job in as_completed(jobs):
            record.add(jobs[job], *rows(job))


def rows(job: Future[list[float]]) -> list[Row]:
    """A row per training step; a failure if the training failed, ended early or a loss is not finite."""
    try:
        found = job.result()
    except Exception as error:  # noqa: BLE001  the other models are trained all the same
        return [failure(error)]
    made: list[Row] = [{"step": step, "loss": f"{loss:.6g}"} for step, loss in enumerate(found)]
    broken = sum(not math.isfinite(loss) for loss in found) + STEPS - len(found)
    if broken:
        return [*made, failure(RuntimeError(f"{broken} of {STEPS} losses missing or not finite"))]
    ends = " -> ".join(f"{fmean(part):.3f}" for part in (found[:SHOWN], found[-SHOWN:]))
    return [*made, {"note": f"mean of {SHOWN} losses at each end: {ends}"}]
