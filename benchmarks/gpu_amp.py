"""Mixed precision on a GPU, every family: ``python -m benchmarks.gpu_amp --out amp.csv``.

Each detector trains 200 steps on the sample dataset in float32 and again with AMP, from the same weights on the same
images. The file has a row per training step with both losses. Exit code 1 if one was not finite or a training failed.
"""

from __future__ import annotations

import csv
import itertools
import logging
import math
import sys
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import gpu_command

MODELS = ("yolo11n", "mamba-yolo-t", "yolov8n-vmamba", "yolov8n-vim", "yolo11n-assg", "yolo11n-mlla", "yolo11n-halo")
STEPS = 200
SHOWN = 20  # training steps at each end whose mean is printed
RECIPE: dict[str, Any] = {
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
    """The loss of each of the first ``steps`` training steps of a detector on the sample dataset.

    Raises:
        RuntimeError: Ultralytics trains without AMP although it was asked for.
    """
    from yolomix import YOLO
    from yolomix.data import sample_dataset

    found: list[float] = []

    def step(trainer: Any) -> None:
        if bool(trainer.amp) != amp:
            raise RuntimeError("Ultralytics switched AMP off on this device")
        found.append(trainer.loss.item())
        if len(found) == steps:
            trainer.stop = True

    data = sample_dataset()
    batches = -(-len(list((data.parent / "images" / "train").iterdir())) // recipe["batch"])
    with TemporaryDirectory() as folder:
        model = YOLO(f"{name}.yaml")
        model.add_callback("on_train_batch_end", step)
        model.train(data=str(data), epochs=-(-steps // batches), project=folder, amp=amp, **recipe)
    return found[:steps]


def main(argv: list[str] | None = None) -> int:
    """Train everything twice; exit code 2 without a GPU."""
    out = gpu_command.output("benchmarks.gpu_amp", __doc__, argv)
    if out is None:
        return gpu_command.NO_GPU
    logging.getLogger("ultralytics").setLevel(logging.WARNING)
    return compare(out, MODELS, STEPS, device=0, **RECIPE)


def compare(out: Path, models: tuple[str, ...], steps: int, **recipe: Any) -> int:
    """Write the losses of every model, show their means at both ends; 1 if a model or one of them failed."""
    finite = True
    with out.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["model", "step", "float32", "amp"])
        for name in models:
            try:
                single, mixed = (losses(name, steps, amp=amp, **recipe) for amp in (False, True))
            except Exception as error:  # noqa: BLE001  the other models are trained all the same
                print(f"{name}: {type(error).__name__}: {error}", flush=True)
                finite = False
                continue
            rows = itertools.zip_longest([name] * steps, range(steps), single, mixed, fillvalue=math.nan)
            table.writerows(rows)
            file.flush()
            broken = sum(not math.isfinite(x) for x in single + mixed) + 2 * steps - len(single) - len(mixed)
            finite &= broken == 0
            ends = [f"{fmean(x[:SHOWN]):.3f} -> {fmean(x[-SHOWN:]):.3f}" for x in (single, mixed)]
            print(f"{name}: float32 {ends[0]}, AMP {ends[1]}, {broken} losses missing or not finite", flush=True)
    return 0 if finite else 1


if __name__ == "__main__":
    sys.exit(main())
