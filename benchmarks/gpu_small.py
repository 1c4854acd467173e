"""What a rehearsal of the GPU benchmarks changes: the CPU, Triton's interpreter, and sizes of seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tests.tiny import TINY, write_dataset
from torch import Tensor

from benchmarks import gpu_amp, gpu_models, gpu_ops, gpu_parity, gpu_plans, gpu_tensorrt, gpu_timing
from benchmarks.gpu_models import Case
from benchmarks.gpu_plans import Candidate
from yolomix.ops.selective_scan import selective_scan, triton_gpu
from yolomix.ops.selective_scan.inputs import ScanInputs
from yolomix.ops.ss2d import ss2d
from yolomix.ops.ss2d import triton_gpu as triton_map
from yolomix.ops.ss2d.inputs import SS2DInputs


def apply(folder: Path, put: Callable[[Any, str, Any], None]) -> None:
    """Make everything small.

    Args:
        folder: where a dataset of a few images is written.
        put: sets an attribute of a module, as ``setattr`` does.
    """
    data = folder / "rehearsal" / "data.yaml"
    if not data.exists():
        write_dataset(data.parent)
    recipe = {"data": str(data), "device": "cpu", "imgsz": 32, "batch": 2}
    changes: dict[Any, dict[str, Any]] = {
        gpu_timing: {"DEVICE": "cpu", "COPIED": 1 << 10, "PROGRAMS": 1, "CACHE": 1, "WARM": 0, "LEAST": 2, "MOST": 2},
        gpu_ops: {"SHAPES": {"S4": (4, 2, 1)}, "BATCHES": (1,), "STATES": 2, "DTYPES": (torch.float32,),
            "OPS": ("ss2d",), "ss2d": _map, "selective_scan": _scan},
        gpu_parity: {"FILES": gpu_parity.FILES[:1], "FEW": "bits or autocast"},
        gpu_plans: {"BATCHES": (1,), "candidates": lambda backward: [Candidate(16, 8, 1, 2)]},
        gpu_models: {"SIDE": 32, "COMPILER": "eager", "cases": _cases},
        gpu_tensorrt: {"MODELS": (str(_tiny(folder)),), "BITS": (32,), "SIDE": 64, "FORM": "onnx", "build": _onnx},
        gpu_amp: {"MODELS": ("yolo11n-mlla",), "DTYPES": ("float32",), "STEPS": 2, "WORKERS": 1,
                  "RECIPE": gpu_amp.RECIPE | recipe},
    }  # fmt: skip
    for module, values in changes.items():
        for name, value in values.items():
            put(module, name, value)


def _tiny(folder: Path) -> Path:
    """The name of a small detector with attention, without suffix."""
    file = folder / "rehearsal" / "yolo0-tiny.yaml"
    file.write_text(TINY, encoding="utf-8")
    return file.with_name("yolo0n-tiny")


def _onnx(model: Any, bits: int) -> Path:
    """The ONNX file that an engine would be built from, for ONNX Runtime in the place of TensorRT."""
    from ultralytics.engine.exporter import Exporter

    from yolomix.host import tools

    with (
        patch.object(Exporter, "export_engine", lambda self, *_, **__: self.export_onnx()),
        patch.dict(tools.WRITERS, engine=()),
    ):
        return Path(model.export(format="engine", imgsz=gpu_tensorrt.SIDE, device="cpu", verify=False))


def _cases() -> list[Case]:
    """Stock models alone: a detector whose scans are interpreted takes minutes."""
    peer = gpu_models.PEERS["mamba-yolo-t"]
    return [Case(peer, True, 2, amp=False), Case(peer, False, 1), Case(peer, False, 1, how="compiled")]


def _map(*args: Tensor, backend: str) -> Tensor:
    """``ss2d``, whose Triton kernels are taken on a CPU too, where they are interpreted."""
    return triton_map.run(SS2DInputs(*args)) if backend == "triton" else ss2d(*args, backend=backend)


def _scan(*args: Any, backend: str) -> Tensor | tuple[Tensor, Tensor]:
    """``selective_scan`` likewise."""
    *tensors, softplus = args
    inputs = ScanInputs(*tensors)._replace(delta_softplus=softplus)
    return triton_gpu.run(inputs) if backend == "triton" else selective_scan(*args, backend=backend)
