"""SS2D: the 2D selective scan of VMamba (arXiv:2401.10166) and Mamba-YOLO (arXiv:2406.05835).

A cross-scan reads the L = H * W cells of a feature map in four directions: 0 row by row, 1 column by column, 2 is 0
backwards, 3 is 1 backwards. u_t in R^D is the cell that direction k reads at time step t, R the rank of the Δ
projection, N the state size::

    r_t, B_t, C_t = split(x_proj_weight[k] @ u_t)                   (R, N and N values)
    delta_t       = softplus(dt_projs_weight[k] @ r_t + dt_projs_bias[k])
    h_t[d,n]      = exp(delta_t[d] * A[k*D+d, n]) * h_(t-1)[d,n] + delta_t[d] * u_t[d] * B_t[n]
    y_t[d]        = sum_n h_t[d,n] * C_t[n] + D[k*D+d] * u_t[d]

The cross-merge returns every y to its cell and adds the four; there is no factor 1/4.
"""

from __future__ import annotations

from torch import Tensor

from yolomix.ops.backend import Backend
from yolomix.ops.dispatch import Operator
from yolomix.ops.ss2d.inputs import SS2DInputs, check, prepare

OPERATOR: Operator[SS2DInputs, Tensor] = Operator(
    "ss2d",
    (
        Backend("triton", "yolomix.ops.ss2d.triton_gpu", device="cuda", needs="triton"),
        Backend("numba", "yolomix.ops.ss2d.numba_cpu", device="cpu", needs="numba"),
        Backend("eager", "yolomix.ops.ss2d.eager"),
        Backend("reference", "yolomix.ops.ss2d.reference", automatic=False),
    ),
    check,
    prepare,
    marked=Backend("marked", "yolomix.ops.ss2d.export.marked"),
)


def ss2d(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A: Tensor,
    D: Tensor,
    *,
    backend: str = "auto",
) -> Tensor:
    """2D selective scan of a feature map, with its projections; see the module's description.

    >>> import torch
    >>> from yolomix.ops import ss2d
    >>> x, D, N, R = torch.ones(2, 8, 3, 5), 8, 16, 2
    >>> A, skip = -torch.ones(4 * D, N), torch.ones(4 * D)
    >>> ss2d(x, torch.ones(4, R + 2 * N, D), torch.ones(4, D, R), torch.zeros(4, D), A, skip).shape
    torch.Size([2, 8, 3, 5])

    Args:
        x: feature map, (B, D, H, W), any strides; channels-last memory is the fast layout.
        x_proj_weight: (4, R + 2N, D); its rows give the R inputs of delta, then B, then C.
        dt_projs_weight: (4, D, R).
        dt_projs_bias: (4, D), added before the softplus.
        A: decay rates, (4D, N), real, rows direction-major; negative for a state that decays.
        D: skip weights, (4D,), one set per direction.
        backend: "auto", "triton", "numba", "eager" or "reference".

    Returns: (B, D, H, W) in float32, or float64 for float64; the parameters are cast to that type.

    Raises:
        TypeError: a tensor has a type that does not fit.
        ValueError: a shape does not fit, or tensors are on several devices.
        NotImplementedError: the backend named cannot take these tensors; the message says why.
    """
    return OPERATOR(SS2DInputs(x, x_proj_weight, dt_projs_weight, dt_projs_bias, A, D), backend)
