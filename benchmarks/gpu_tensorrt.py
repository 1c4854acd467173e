"""Detectors as TensorRT engines: built, verified against PyTorch, and timed, in FP32 and in FP16.

Nothing of it has run on a GPU yet: the graphs that are handed over are held against TensorRT's documents in
tests/models/test_tensorrt.py.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_timing
from benchmarks.gpu_record import Key, Record, Row, key
from benchmarks.gpu_timing import measure
from yolomix.host import precisions, runtime, tools
from yolomix.host.exported import megabytes
from yolomix.verifying.verifying import verify
from yolomix.verifying.yolo import YOLO

MODELS = ("yolo11n-mlla", "yolo11n-assg", "yolov8n-vim", "mamba-yolo-t")  # what builds fastest first
BITS = (32, 16)
SIDE = 640
FORM = "engine"


def run(record: Record) -> None:
    """Measure what is left."""
    record.work({_key(name, bits): partial(engine, name, bits) for name in MODELS for bits in BITS})


def engine(name: str, bits: int) -> list[Row]:
    """The row of a model in a precision, of one image.

    Raises:
        ModuleNotFoundError: TensorRT is not installed.
    """
    if refusal := tools.refusal(FORM):
        raise ModuleNotFoundError(refusal)
    torch.manual_seed(0)
    with _aside():
        model = YOLO(f"{name}.yaml")
        before = time.perf_counter()
        file = build(model, bits)
        seconds = time.perf_counter() - before
        found = verify(model, file)
        backend: Any = runtime.opened(file, gpu_timing.DEVICE)
        x = torch.rand(1, 3, SIDE, SIDE, device=gpu_timing.DEVICE)
        with torch.inference_mode():
            figures = measure(lambda: backend(x)).row()
        told = [f"build {seconds:.0f} s", f"{megabytes(file):.1f} MB", found.precision, found.in_short()]
    return [figures | {"note": "; ".join(told)}]


def build(model: Any, bits: int) -> Path:
    """The file of an engine; a rehearsal has another way to make one."""
    given = {"format": FORM, "imgsz": SIDE, "device": 0, **precisions.arguments(bits)}
    return Path(model.export(**given, verify=False))


def _key(name: str, bits: int) -> Key:
    return key(Path(name).name, SIDE, 1, precisions.NAMES[bits], "inference", "TensorRT")


@contextmanager
def _aside() -> Iterator[None]:
    """Work in a folder that is gone when the block ends."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)
