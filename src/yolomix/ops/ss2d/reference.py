"""SS2D, written out with explicit orders of the cells: the definition of the operator, in float64.

Source: VMamba, arXiv:2401.10166, section 4.3, and github.com/MzeroMiko/VMamba for the orders and the plain sum.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from yolomix.ops.precision import accum_dtype
from yolomix.ops.selective_scan import reference as scan
from yolomix.ops.selective_scan.inputs import ScanInputs
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
    _, channels, H, W = x.shape
    R, N = dt_projs_weight.shape[2], A.shape[1]
    cells = x.double().flatten(2)  # (B, D, L)
    total = torch.zeros_like(cells)
    for k, order in enumerate(orders(H, W, x.device)):
        u = cells[:, :, order]
        r, B, C = torch.split(x_proj_weight[k].double() @ u, [R, N, N], dim=1)
        delta = dt_projs_weight[k].double() @ r
        rows = slice(k * channels, (k + 1) * channels)  # of A and D, which are direction-major
        direction = ScanInputs(u, delta, A[rows], B, C, D[rows], delta_bias=dt_projs_bias[k], delta_softplus=True)
        y = cast(Tensor, scan.run(direction))
        total = total.index_add(2, order, y)
    return total.view(x.shape).to(accum_dtype(x.dtype))


def orders(H: int, W: int, device: torch.device | None = None) -> Tensor:
    """The cell i * W + j that each direction reads at each time step, (4, H * W).

    >>> orders(2, 3)
    tensor([[0, 1, 2, 3, 4, 5],
            [0, 3, 1, 4, 2, 5],
            [5, 4, 3, 2, 1, 0],
            [5, 2, 4, 1, 3, 0]])
    """
    rows = torch.arange(H * W, device=device)
    columns = rows.view(H, W).T.reshape(-1)
    return torch.stack([rows, columns, rows.flip(0), columns.flip(0)])
