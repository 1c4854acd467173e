"""The GFLOPs that Ultralytics prints, with our scans in them, around ``ultralytics.utils.torch_utils.get_flops``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from ultralytics.utils import LOGGER

from yolomix.ops import counting
from yolomix.profiling.operations import count


def get_flops(native: Callable[..., float], model: Any, imgsz: int | Sequence[int] = 640) -> float:
    """GFLOPs of one image as Ultralytics counts, and of our scans, which its counter sees as nothing.

    Meanwhile every operator is plain PyTorch, so that the number does not depend on the backend that would compute.
    """
    with counting() as scans:
        found = native(model, imgsz)
    if not scans or not found:  # 0.0: it could not count
        return found
    height, width = imgsz if isinstance(imgsz, Sequence) else (imgsz, imgsz)
    module: nn.Module = getattr(model, "module", model)
    channels = next(module.parameters()).shape[1]
    try:
        return found + count(module, (1, channels, int(height), int(width)))[""].scan / 1e9
    except Exception as error:  # noqa: BLE001, a number in a log is no reason to stop a training
        LOGGER.warning(f"yolomix: the scans are not in these GFLOPs: {error}")
        return found
