"""End to end once, on a CPU: data, training from scratch, validation, annotated images, export, comparison.

Threads are left to Ultralytics, one less than there are cores: for images this small that is faster than all of
them as long as idle threads sleep (``OMP_WAIT_POLICY=PASSIVE``, which the command sets for its own process). Threads
that spin would ruin what else runs.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from yolomix.data import sample_dataset
from yolomix.files import write
from yolomix.ops.backend import package_refusal
from yolomix.profiling.operations import count
from yolomix.progress import Progress
from yolomix.records import Record
from yolomix.showing import Shown
from yolomix.verifying.values import Verification
from yolomix.verifying.verifying import verify

MODEL = "yolo11n-mlla.yaml"
RECIPE: dict[str, Any] = {
    "imgsz": 160,
    "batch": 8,
    "nbs": 8,  # an optimiser step per batch
    "optimizer": "AdamW",
    "lr0": 0.005,
    "lrf": 0.05,
    "momentum": 0.85,
    "warmup_epochs": 0.6,
    "warmup_bias_lr": 0.1,  # the head has to learn soon how rare an object is
    "box": 3.5,
    "cls": 1.5,  # what an object is takes longer to learn than where it is
    "mosaic": 0,  # so few epochs do not need variety: every kind of it costs accuracy
    "scale": 0.1,
    "translate": 0.02,
    "hsv_h": 0.0,
    "hsv_s": 0.0,
    "hsv_v": 0.1,
    "erasing": 0.0,
    "val": False,  # during training
    "plots": False,
    "cache": "ram",
    "workers": 0,
    "device": "cpu",
    "amp": False,
    "verbose": False,
}
IMAGES = 6  # shown
FLOPS_SIZE = 640  # pixels, the image size at which detectors are compared


@dataclass(frozen=True)
class Exported:
    """The ONNX file and whether it answers as PyTorch does, or why there is none.

    >>> Exported(refusal="onnx is not installed").agrees is None
    True

    Attributes:
        file: the exported file.
        refusal: why there is none.
        verification: what comparing it with PyTorch found.
    """

    file: Path | None = None
    refusal: str | None = None
    verification: Verification | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether the exported file answers like PyTorch; None if there is no file, or nothing that runs it."""
        return None if self.verification is None else self.verification.verified

    @property
    def difference(self) -> float | None:
        """The largest difference of its raw outputs: scores, and boxes as fractions of the image size."""
        checks = () if self.verification is None else self.verification.checks
        found = [max(check.numbers["differences"].values()) for check in checks if "differences" in check.numbers]
        return max(found, default=None)


@dataclass(frozen=True, repr=False)
class Outcome(Shown):
    """What the demo measured and where its files are.

    Attributes:
        record: the metrics on the validation images, under Ultralytics' names, and the conditions of the run.
        parameters: of the model, with the classes of the sample dataset.
        gflops: of one forward pass at ``FLOPS_SIZE``, as ``yolomix.profile`` counts.
        latency_ms: median of a forward pass for one image at the size of the training.
        training_seconds: wall-clock time of the training.
        weights: the trained checkpoint.
        save_dir: the folder of all results.
        images: validation images with their detections; the first shows all others.
        onnx: the exported file.
    """

    record: Record
    parameters: int
    gflops: float
    latency_ms: float
    training_seconds: float
    weights: Path
    save_dir: Path
    images: Sequence[Path]
    onnx: Exported

    def in_short(self) -> str:
        """The metrics, and where everything is."""
        return f"{self.save_dir}: {self.record.in_short()}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        file = self.onnx.file
        images = [{"file": str(image)} for image in self.images]
        return {
            "weights": str(self.weights),
            "save_dir": str(self.save_dir),
            "images": images,
            **self.record.to_dict(),
            "parameters": self.parameters,
            "gflops": self.gflops,
            "latency_ms": self.latency_ms,
            "training_seconds": self.training_seconds,
            "onnx": None if file is None else str(file),
            "onnx_refusal": self.onnx.refusal,
            "difference": self.onnx.difference,
            "agrees": self.onnx.agrees,
            "verification": None if self.onnx.verification is None else self.onnx.verification.to_dict(),
        }


def run(out: Path, seed: int, epochs: int, progress: Progress, data: Path | None = None) -> Outcome:
    """Train ``MODEL`` from scratch on the sample dataset and look at it from all sides.

    Args:
        out: folder for the results.
        seed: of the initial weights and the order of images.
        epochs: passes over the data.
        progress: called with steps done, steps in all, and what is being done.
        data: another dataset YAML; None takes the sample dataset.
    """
    progress(0, 1, "rendering the sample dataset")
    data = data or sample_dataset()
    started = time.perf_counter()
    trainer, metrics = _train(out, seed, epochs, progress, data)
    seconds = time.perf_counter() - started
    progress(1, 1, "looking at the result")
    from yolomix.host.yolo import YOLO

    trained = YOLO(str(trainer.best))
    parameters = sum(p.numel() for p in trained.model.parameters())  # before batch norms are folded away
    shown = sorted((data.parent / "images" / "val").glob("*.jpg"))[:IMAGES]
    images = annotate(trained, shown, out / "images")
    onnx = compare(trained)
    return Outcome(
        record=Record(metrics),
        parameters=parameters,
        gflops=gflops(trained.model),
        latency_ms=milliseconds(trained.model),
        training_seconds=seconds,
        weights=Path(trainer.best),
        save_dir=out,
        images=images,
        onnx=onnx,
    )


def _train(out: Path, seed: int, epochs: int, progress: Progress, data: Path) -> tuple[Any, dict[str, float]]:
    """The trainer of Ultralytics when it is done, and the metrics of its best epoch."""
    from yolomix.host import entry
    from yolomix.host.yolo import YOLO

    model: Any = YOLO(MODEL)
    batches = itertools.count(1)

    def _batch_done(trainer: Any) -> None:
        total = trainer.epochs * len(trainer.train_loader)
        progress(next(batches), total, f"training, epoch {trainer.epoch + 1} of {trainer.epochs}")

    model.add_callback("on_train_start", _fuse_steps)
    model.add_callback("on_train_batch_end", _batch_done)
    where = {"project": str(out.resolve().parent), "name": out.name, "exist_ok": True}
    result = model.train(data=str(data), epochs=epochs, seed=seed, **where, **RECIPE)
    return model.trainer, entry.metrics(result)


def _fuse_steps(trainer: Any) -> None:
    """Let the optimiser go over every weight once in a step and not ten times: 4 percent of the time."""
    for group in trainer.optimizer.param_groups:
        group.update(fused=True, foreach=False)


def annotate(model: Any, files: Sequence[Path], folder: Path) -> list[Path]:
    """Save images with what the model detects in them; the first shows all others, in two rows.

    Args:
        model: a ``YOLO``.
        files: the images, all of one size.
        folder: made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = model.predict([str(file) for file in files], imgsz=RECIPE["imgsz"], verbose=False)
    drawn = [result.plot() for result in results]
    half = (len(drawn) + 1) // 2
    rows = [np.hstack(part) for part in (drawn[:half], drawn[half:]) if len(part) == half]
    named = {"all.jpg": np.vstack(rows)}
    for file, image in zip(files, drawn, strict=True):
        named[file.name] = image
    for name, image in named.items():
        # not cv2.imwrite, which cannot write where a path has other letters on Windows
        write(folder / name, cv2.imencode(".jpg", image)[1].tobytes())
    return [folder / name for name in named]


def compare(model: Any) -> Exported:
    """Export to ONNX and compare the file with PyTorch, as ``yolomix verify`` does.

    Args:
        model: a ``YOLO``.
    """
    for package in ("onnx", "onnxruntime"):
        if (missing := package_refusal(package)) is not None:
            return Exported(refusal=f"{missing.split(':')[0]}: pip install 'yolomix[export]'")
    file = Path(model.export(format="onnx", imgsz=RECIPE["imgsz"], simplify=False, verbose=False))
    return Exported(file, verification=verify(model, file))


def gflops(model: nn.Module) -> float:
    """Billions of floating-point operations of one forward pass at ``FLOPS_SIZE``.

    >>> gflops(nn.Conv2d(3, 5, 1, bias=False)) == 2 * 3 * 5 * FLOPS_SIZE**2 / 1e9
    True
    """
    return count(model, (1, 3, FLOPS_SIZE, FLOPS_SIZE))[""].total / 1e9


def milliseconds(model: nn.Module, repetitions: int = 20) -> float:
    """Median wall-clock time of a forward pass for one image.

    >>> milliseconds(nn.Identity(), repetitions=3) > 0
    True
    """
    x = _noise(RECIPE["imgsz"])
    model.eval()
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(repetitions):
            start = time.perf_counter()
            model(x)
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def _noise(size: int) -> Tensor:
    """The same random image at every call, (1, 3, size, size)."""
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
