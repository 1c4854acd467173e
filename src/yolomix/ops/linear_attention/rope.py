"""Rotary positions of a map: half of the channels turn with the row, half with the column (MLLA, arXiv:2405.16605).

Channels 2p and 2p+1 are real and imaginary part of one number, turned by the angle a_p::

    a_p = row * theta_p            for p < C/4,
    a_p = column * theta_(p-C/4)   for the others,       theta_k = 10000 ** (-k / (C/4))

Real arithmetic throughout: bfloat16 has no complex numbers, and neither has ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor


def angles(C: int, H: int, W: int, like: Tensor) -> Tensor:
    """Angle of every channel pair at every cell, in radians, (C/2, H, W), on the device and in the type of ``like``."""
    K = C // 4
    theta = 10000.0 ** (torch.arange(K, device=like.device, dtype=like.dtype) / -K)
    rows = torch.arange(H, device=like.device, dtype=like.dtype)[:, None]
    columns = torch.arange(W, device=like.device, dtype=like.dtype)
    turns = theta[:, None, None]
    return torch.cat([(turns * rows).expand(K, H, W), (turns * columns).expand(K, H, W)])


def rotate(x: Tensor) -> Tensor:
    """Turn every channel pair of x, (..., C, H, W), by the angle of its cell; same shape."""
    C, H, W = x.shape[-3:]
    a = angles(C, H, W, x)
    cos, sin = a.cos(), a.sin()
    re, im = torch.unflatten(x, -3, (C // 2, 2)).unbind(-3)
    return torch.stack([re * cos - im * sin, re * sin + im * cos], dim=-3).flatten(-4, -3)
