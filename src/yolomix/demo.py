"""The whole way once, on a CPU: data, training from scratch, validation, pictures, export, comparison.

Threads are left to Ultralytics, one less than there are cores: for pictures this small that is faster than all of
them as long as idle threads sleep (``OMP_WAIT_POLICY=PASSIVE``, which the command sets for its own process), and it
does not ruin what else runs, as threads that spin do.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from yolomix.data import sample_dataset
from yolomix.ops.dispatch import package_refusal

MODEL = "yolo11n-mlla.yaml"
EPOCHS = 15
RECIPE: dict[str, Any] = {
    "imgsz": 160,
    "batch": 8,
    "nbs": 8,  # a step per batch
    "optimizer": "AdamW",
    "lr0": 0.003,
    "lrf": 0.05,
    "warmup_epochs": 0.3,
    "warmup_bias_lr": 0.0,
    "cls": 1.0,
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
PICTURES = 6  # shown
TOLERANCE = 1e-4  # of raw outputs: scores, and boxes in shares of the picture's side; see docs/cli.md
FLOPS_SIDE = 640  # pixels, where detectors are compared

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Outcome:
    """What the demo measured and where its files are.

    Args:
        parameters: of the model, with the classes of the sample dataset.
        gflops: of one forward pass at ``FLOPS_SIDE``, as PyTorch's FlopCounterMode counts.
        ms: median of a forward pass for one picture at the size of the training, in milliseconds.
        map50: mean average precision at overlap 0.5 on the validation pictures.
        map: the same, mean over overlaps 0.5 to 0.95.
        seconds: of the training.
        threads: that PyTorch took, as Ultralytics set them.
        weights: the trained checkpoint.
        pictures: validation pictures with what was found; the first shows all others.
        onnx: the exported file, or the reason why there is none.
        difference: largest absolute difference of its raw outputs to PyTorch's, scores and boxes in shares of the
            picture's side; None if there is no file.
    """

    parameters: int
    gflops: float
    ms: float
    map50: float
    map: float
    seconds: float
    threads: int
    weights: Path
    pictures: Sequence[Path]
    onnx: Path | str
    difference: float | None

    @property
    def agrees(self) -> bool | None:
        """Whether the exported file answers like PyTorch; None if there is no file."""
        return None if self.difference is None else self.difference <= TOLERANCE


def run(out: Path, seed: int, epochs: int, progress: Progress, data: Path | None = None) -> Outcome:
    """Train ``MODEL`` from scratch on the sample dataset and look at it from all sides.

    Args:
        out: folder for the results.
        seed: of weights and the order of pictures.
        epochs: passes over the data.
        progress: called with steps done, steps in all, and what is being done.
        data: another data.yaml; None takes the sample dataset.
    """
    from yolomix.host.yolo import YOLO

    progress(0, 1, "rendering the pictures")
    data = data or sample_dataset()
    started = time.perf_counter()
    model = YOLO(MODEL)
    _report(model, progress)
    where = {"project": str(out.resolve().parent), "name": out.name, "exist_ok": True}
    measures = model.train(data=str(data), epochs=epochs, seed=seed, **where, **RECIPE)
    seconds = time.perf_counter() - started
    progress(1, 1, "looking at the result")
    trained = YOLO(str(model.trainer.best))
    parameters = sum(p.numel() for p in trained.model.parameters())  # before batch norms are folded away
    shown = sorted((data.parent / "images" / "val").glob("*.jpg"))[:PICTURES]
    pictures = annotate(trained, shown, out / "pictures")
    onnx, difference = compare(trained, shown[0])
    return Outcome(
        parameters=parameters,
        gflops=gflops(trained.model),
        ms=milliseconds(trained.model),
        map50=float(measures.box.map50),
        map=float(measures.box.map),
        seconds=seconds,
        threads=torch.get_num_threads(),
        weights=Path(model.trainer.best),
        pictures=pictures,
        onnx=onnx,
        difference=difference,
    )


def _report(model: Any, progress: Progress) -> None:
    """Report every step of the training."""
    done = 0

    def step(trainer: Any) -> None:
        nonlocal done
        done += 1
        total = trainer.epochs * len(trainer.train_loader)
        progress(done, total, f"training, epoch {trainer.epoch + 1} of {trainer.epochs}")

    model.add_callback("on_train_batch_end", step)


def annotate(model: Any, files: Sequence[Path], folder: Path) -> list[Path]:
    """Save pictures with what the model finds in them; the first shows all others side by side."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [found.plot() for found in model.predict(list(map(str, files)), imgsz=RECIPE["imgsz"], verbose=False)]
    half = (len(drawn) + 1) // 2
    rows = [np.hstack(part) for part in (drawn[:half], drawn[half:]) if len(part) == half]
    named = {"all.jpg": np.vstack(rows)} | {file.name: picture for file, picture in zip(files, drawn, strict=True)}
    for name, picture in named.items():
        (folder / name).write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
    return [folder / name for name in named]


def compare(model: Any, picture: Path) -> tuple[Path | str, float | None]:
    """Export to ONNX and show both a picture; returns the file, the largest difference of their raw outputs."""
    for package in ("onnx", "onnxruntime"):
        if (missing := package_refusal(package)) is not None:
            return f"{missing.split(':')[0]}: pip install 'yolomix[export]'", None
    file = Path(model.export(format="onnx", imgsz=RECIPE["imgsz"], simplify=False, verbose=False))
    session = importlib.import_module("onnxruntime").InferenceSession(str(file), providers=["CPUExecutionProvider"])
    x = _read(picture, RECIPE["imgsz"])
    with torch.inference_mode():
        native = model.model.fuse(verbose=False).eval()(x)[0]
    exported = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    difference = (native - exported).abs()  # (1, 4 + classes, cells)
    difference[:, :4] /= RECIPE["imgsz"]
    return file, float(difference.max())


def gflops(model: torch.nn.Module) -> float:
    """Billions of floating-point operations of one forward pass at ``FLOPS_SIDE``, counted by PyTorch."""
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model.eval()(_noise(FLOPS_SIDE))
    return counter.get_total_flops() / 1e9


def milliseconds(model: torch.nn.Module, repetitions: int = 20) -> float:
    """Median time of a forward pass for one picture."""
    x, times = _noise(RECIPE["imgsz"]), list[float]()
    with torch.inference_mode():
        for _ in range(repetitions):
            start = time.perf_counter()
            model.eval()(x)
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def _read(picture: Path, side: int) -> Tensor:
    """A square picture as a detector sees it, (1, 3, side, side), red-green-blue, 0 to 1."""
    pixels = cv2.imdecode(np.frombuffer(picture.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    pixels = cv2.resize(pixels, (side, side))[:, :, ::-1].transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(pixels)).float()[None] / 255


def _noise(side: int) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
