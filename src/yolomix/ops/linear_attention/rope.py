"""Rotary positions of a map: half of the channels turn with the row, half with the column (MLLA, arXiv:2405.16605).

Channels 2p and 2p+1 are real and imaginary part of one number, turned by the angle a_p::

    a_p = row * theta_p            for p < C/4,
    a_p = column * theta_(p-C/4)   for the others,       theta_k = 10000 ** (-k / (C/4))

Real arithmetic throughout: bfloat16 has no complex numbers, and neither has ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor


def turns(C: int, H: int, W: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every channel pair's angle at every cell, (C/2, H*W) each, in the type of ``like``.

    Made anew for every call: angles exist per row and per column only, which is nothing beside the maps themselves.
    """
    K = C // 4
    theta = 10000.0 ** (torch.arange(K, device=like.device, dtype=like.dtype) / -K)
    rows, columns = (theta[:, None] * torch.arange(n, device=like.device, dtype=like.dtype) for n in (H, W))
    cos, sin = (
        torch.cat([f(rows)[:, :, None].expand(K, H, W), f(columns)[:, None].expand(K, H, W)]).flatten(1)
        for f in (torch.cos, torch.sin)
    )
    return cos, sin


def rotate(pairs: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs, (..., C/2, 2, L), by the angles of :func:`turns`; same shape."""
    re, im = pairs.unbind(-2)
    return torch.stack([torch.addcmul(re * cos, im, sin, value=-1), torch.addcmul(re * sin, im, cos)], dim=-2)
