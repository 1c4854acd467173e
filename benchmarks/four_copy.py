"""The 2D selective scan as the official code does it, written out plainly: four copies of the map, one long scan.

Source of the steps: VMamba, arXiv:2401.10166, and Mamba-YOLO, arXiv:2406.05835: cross-scan, projections of each copy,
scan of 4 * D channels in four groups, cross-merge. The scan itself is given, so that everybody's can be put inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Scan = Callable[..., Tensor]


def four_copy(x: Tensor, x_proj: Tensor, dt_w: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor, scan: Scan) -> Tensor:
    """SS2D of x (B, D, H, W); parameters as in ``yolomix.ops.ss2d``. Returns (B, D, H, W) float32.

    scan(u, delta, A, B, C, D, bias): (B, 4D, L) with B and C (B, 4, N, L), softplus applied to delta.
    """
    batch, channels, height, width = x.shape
    states, rank = A.shape[1], dt_w.shape[2]
    xs: Tensor = _CrossScan.apply(x)
    projected = torch.einsum("bkdl,kcd->bkcl", xs, x_proj.to(x.dtype))
    dts, Bs, Cs = torch.split(projected.to(x.dtype), [rank, states, states], dim=2)
    dts = torch.einsum("bkrl,kdr->bkdl", dts, dt_w.to(x.dtype)).to(x.dtype)
    ys = scan(
        xs.flatten(1, 2), dts.flatten(1, 2).contiguous(), A, Bs.contiguous(), Cs.contiguous(), D, dt_bias.flatten()
    )
    merged: Tensor = _CrossMerge.apply(ys.view(batch, 4, channels, -1), height, width)
    return merged.float()


def cross_scan(x: Tensor) -> Tensor:
    """The feature map in the order of each direction, (B, 4, D, L), every one a copy."""
    xs = x.new_empty((x.shape[0], 4, x.shape[1], x.shape[2] * x.shape[3]))
    xs[:, 0].unflatten(-1, x.shape[2:]).copy_(x)
    xs[:, 1].unflatten(-1, (x.shape[3], x.shape[2])).copy_(x.transpose(2, 3))
    xs[:, 2:] = xs[:, :2].flip(-1)
    return xs


def cross_merge(ys: Tensor, height: int, width: int) -> Tensor:
    """The sum of the directions with every value back at its cell, (B, D, H, W)."""
    pairs = ys[:, :2] + ys[:, 2:].flip(-1)
    columns = pairs[:, 1].unflatten(-1, (width, height)).transpose(2, 3)
    return pairs[:, 0].unflatten(-1, (height, width)) + columns


class _CrossScan(torch.autograd.Function):
    """``cross_scan``; its gradient is ``cross_merge``, and the other way round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.size = x.shape[2:]
        return cross_scan(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return cross_merge(grads[0], *ctx.size)


class _CrossMerge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ys: Tensor, height: int, width: int) -> Tensor:
        return cross_merge(ys, height, width)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return cross_scan(grads[0]), None, None
