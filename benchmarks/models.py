"""Whole detectors on a CPU: ``python -m benchmarks.models [--threads 1] [--out FILE.csv] [--quick]``.

One image of 640 pixels through Mamba-YOLO-T, our other detectors and stock ones of Ultralytics, in turn; and a
training step, batch 8 at 320 pixels, of Mamba-YOLO-T with the Numba kernels and with plain PyTorch.
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cpu_timing import QUICK, Effort, Work, interleaved
from benchmarks.table import Table, file_for
from yolomix.ops import use_backend

CAREFUL = Effort(7, 30.0)
DETECTORS = ("mamba-yolo-t", "yolov8s", "yolov8n", "yolo11n", "yolo11n-mlla", "yolo11n-assg", "yolo11n-halo")
TOLERANCE = 1e-3  # of the largest value, network outputs by Numba against plain PyTorch


def build(name: str) -> Any:
    """An untrained detector by the name of its YAML."""
    from ultralytics.cfg import get_cfg

    from yolomix import YOLO

    torch.manual_seed(0)
    model = YOLO(f"{name}.yaml").model
    model.args = get_cfg()
    return model


def inference(model: Any, side: int) -> Work:
    """One image through the network, as Ultralytics predicts: evaluated, fused."""
    image = torch.rand(1, 3, side, side)
    return torch.no_grad()(functools.partial(model.eval().fuse(verbose=False), image))


def training_step(model: Any, count: int, side: int, backend: str) -> Work:
    """Forward, loss, backward and optimiser with every operator by one backend."""
    batch = images_with_boxes(count, side)
    optimiser = torch.optim.SGD(model.train().parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        with use_backend(backend):
            model.loss(batch)[0].sum().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def images_with_boxes(count: int, side: int) -> dict[str, Tensor]:
    """Random images with eight boxes each, as the loss of Ultralytics takes them."""
    torch.manual_seed(0)
    boxes = torch.cat([torch.rand(8 * count, 2) / 2 + 0.25, torch.rand(8 * count, 2) / 4 + 0.05], 1)
    return {
        "img": torch.rand(count, 3, side, side),
        "batch_idx": torch.arange(count).repeat_interleave(8).float(),
        "cls": torch.randint(80, (8 * count, 1)).float(),
        "bboxes": boxes,
    }


def check(name: str, side: int) -> None:
    """Raise unless the network computes the same with the Numba kernels and in plain PyTorch.

    Raises:
        RuntimeError: it does not; nothing of it may be timed.
    """
    work = inference(build(name), side)
    answers = []
    for backend in ("numba", "eager"):
        with use_backend(backend):
            answers.append(work()[0])  # type: ignore[index]
    error = ((answers[0] - answers[1]).abs().max() / answers[1].abs().max()).item()
    if not error <= TOLERANCE:
        raise RuntimeError(
            f"refusing to time a wrong answer: {name} by numba is off by {error:.1e} of the largest value, "
            f"at most {TOLERANCE} allowed"
        )


def main(argv: list[str] | None = None) -> int:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch and of our kernels")
    parser.add_argument("--out", type=Path, help="CSV file; default: that of this machine in benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="two small detectors, small images: does it run at all?")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    effort, names, side, count, step_side = CAREFUL, DETECTORS, 640, 8, 320
    if options.quick:
        effort, names, side, count, step_side = QUICK, DETECTORS[:1], 64, 1, 64
    table = Table(options.out or file_for("models"))
    check("mamba-yolo-t", 64)
    for name, timing in interleaved({name: inference(build(name), side) for name in names}, effort).items():
        table.add({"what": name, "shape": f"1 x {side}", "dtype": "float32", "pass": "eval", "backend": "auto"}, timing)
    model = build("mamba-yolo-t")
    steps = {backend: training_step(model, count, step_side, backend) for backend in ("numba", "eager")}
    for backend, timing in interleaved(steps, effort).items():
        row = {"what": "mamba-yolo-t", "shape": f"{count} x {step_side}", "dtype": "float32", "pass": "training step"}
        table.add(row | {"backend": backend}, timing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
