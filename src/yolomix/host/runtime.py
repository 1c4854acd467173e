"""A file of another runtime (ONNX, OpenVINO, TorchScript, ...), called as Ultralytics calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils import torch_utils


def opened(file: str | Path, device: str = "cpu") -> Callable[[Tensor], Any]:
    """The model in a file: a function of images (B, 3, H, W).

    Raises:
        Exception: whatever the runtime says.
    """
    found: Callable[[Tensor], Any] = AutoBackend(str(file), torch.device(device), verbose=False)
    return found


def gflops(model: nn.Module, imgsz: tuple[int, int]) -> float:
    """What Ultralytics prints for a model at this image size."""
    return float(torch_utils.get_flops(model, [*imgsz]))
