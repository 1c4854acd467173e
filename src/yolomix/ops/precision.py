"""The accumulation precision of recurrences: float32 for everything narrower, float64 for float64, autocast off."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from yolomix.ops.tracing import constant_in_graphs


def accum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which a recurrence on tensors of this type is computed: float64 for float64, else float32.

    >>> accum_dtype(torch.bfloat16)
    torch.float32
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def full_precision(x: Tensor) -> AbstractContextManager[None]:
    """A context in which autocast leaves operations on the device of ``x``, (B, C, H, W) or any other, alone.

    >>> x = torch.ones(2, 2)
    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     outside = (x @ x).dtype
    ...     with full_precision(x):
    ...         outside, (x @ x).dtype
    (torch.bfloat16, torch.float32)
    """
    device = x.device.type
    if _has_autocast(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()  # entering autocast to switch off what is off costs more than some operators


@constant_in_graphs
def _has_autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device)
