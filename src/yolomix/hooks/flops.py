"""The GFLOPs that Ultralytics prints, with our scans in them, around ``ultralytics.utils.torch_utils.get_flops``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from yolomix.ops import counting
from yolomix.ops.selective_scan.counted import FORWARD


def get_flops(native: Callable[..., float], model: Any, imgsz: int | Sequence[int] = 640) -> float:
    """GFLOPs of one image as Ultralytics counts, and of our scans, which its counter sees as nothing.

    Meanwhile every operator is plain PyTorch, so that the number does not depend on the backend that would compute.
    Ultralytics runs the model on images of a few strides; the operations of a scan grow with their area.
    """
    module: nn.Module = getattr(model, "module", model)
    areas = list[int]()

    def _begin(_: nn.Module, args: tuple[Any, ...]) -> None:
        scans.clear()
        areas.append(math.prod(args[0].shape[-2:]))

    handle = module.register_forward_pre_hook(_begin)  # a copy of the model takes it along
    try:
        with counting() as scans:
            found = native(model, imgsz)
    finally:
        handle.remove()
    if not scans or not found:  # 0.0: it could not count
        return found
    height, width = imgsz if isinstance(imgsz, Sequence) else (imgsz, imgsz)
    return found + FORWARD * sum(map(math.prod, scans)) * (height * width / areas[-1]) / 1e9
