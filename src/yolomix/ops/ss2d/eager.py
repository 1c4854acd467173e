"""SS2D in plain PyTorch: trains, exports and runs wherever PyTorch does.

A projection commutes with a permutation of the cells. So the x_proj of all four directions is one product on the
feature map as it is, and only its few rows are put in order. The map itself is laid out in two orders and their
reverses, and scanned as 4 * D channels at once. Four scans one after the other would hold a quarter of it. But they
take 5 to 10 percent longer at every stage of Mamba-YOLO-T, and four times the operations in an exported graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops.precision import accum_dtype
from yolomix.ops.selective_scan.eager import scan
from yolomix.ops.ss2d.inputs import SS2DInputs


def refusals(inputs: SS2DInputs) -> list[str]:
    """Nothing is refused."""
    return []


def run(inputs: SS2DInputs) -> Tensor:
    """Cross-scan, four selective scans, cross-merge: (B, D, H, W).

    >>> from yolomix.ops.ss2d import example
    >>> run(example.inputs("cpu")).shape
    torch.Size([1, 18, 4, 5])
    """
    x, x_proj_weight, dt_projs_weight, dt_projs_bias, A, D = inputs
    channels, H, W = (int(n) for n in x.shape[1:])
    batch = x.shape[0]  # may stay a symbol in a graph
    R, N = int(dt_projs_weight.shape[2]), int(A.shape[1])
    cells = x.to(accum_dtype(x.dtype))
    projected = x_proj_weight.flatten(0, 1) @ cells.flatten(2)  # (B, 4 * (R + 2N), L)
    rows, columns = projected.view(batch, 2, -1, H, W).chunk(2, dim=2)  # directions 0 and 2, 1 and 3
    r, b, c = torch.split(_cross_scan(rows, columns), [R, N, N], dim=2)
    dt = F.softplus(dt_projs_weight @ r + dt_projs_bias[:, :, None])  # (B, 4, D, L)
    u = torch.stack([cells.flatten(2), cells.transpose(-1, -2).flatten(2)], dim=1)
    u = torch.cat([u, u.flip(-1)], dim=1)  # (B, 4, D, L)
    y, _ = scan(dt.flatten(1, 2), (dt * u).flatten(1, 2), A, b, c)
    merged = _cross_merge(y.view(batch, 4, channels, -1), H, W)
    # Every direction adds its skip at the cell itself, so the four skip weights act as their sum.
    skip = D.view(4, channels).sum(0)
    return merged + skip[:, None, None] * cells


def _cross_scan(rows: Tensor, columns: Tensor) -> Tensor:
    """Feature maps as each direction reads them, (B, 4, F, L).

    rows, columns: (B, 2, F, H, W), for the forward and the backward direction along rows and along columns.
    """
    forward, backward = torch.stack([rows.flatten(3), columns.transpose(-1, -2).flatten(3)], dim=2).unbind(1)
    return torch.cat([forward, backward.flip(-1)], dim=1)


def _cross_merge(y: Tensor, H: int, W: int) -> Tensor:
    """The sum of the four directions (B, 4, D, L), every value back at its cell: (B, D, H, W)."""
    rows, columns = (y[:, :2] + y[:, 2:].flip(-1)).unbind(1)
    return rows.reshape(*rows.shape[:2], H, W) + columns.reshape(*columns.shape[:2], W, H).transpose(-1, -2)
