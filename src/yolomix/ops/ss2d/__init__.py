"""SS2D: a map scanned in four directions and summed (VMamba, arXiv:2401.10166; Mamba-YOLO, arXiv:2406.05835).

Direction 0 reads the cells row by row, 1 column by column, 2 is 0 backwards, 3 is 1 backwards. For direction k, with
u_t in R^D the cell at its step t::

    r_t, B_t, C_t = split(x_proj_weight[k] @ u_t)                   (R, N and N numbers)
    delta_t       = softplus(dt_projs_weight[k] @ r_t + dt_projs_bias[k])
    h_t[d,n]      = exp(delta_t[d] * A[k*D+d, n]) * h_(t-1)[d,n] + delta_t[d] * u_t[d] * B_t[n]
    y_t[d]        = sum_n h_t[d,n] * C_t[n] + D[k*D+d] * u_t[d]

Every y returns to its cell, and the four are added; there is no factor 1/4.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor

from yolomix.ops.dispatch import Backend, choose, exporting
from yolomix.ops.precision import accum_dtype, full_precision
from yolomix.ops.ss2d.checks import check
from yolomix.ops.ss2d.inputs import SS2DInputs

BACKENDS = (
    Backend("triton", "yolomix.ops.ss2d.triton_gpu", device="cuda", needs="triton"),
    Backend("numba", "yolomix.ops.ss2d.numba_cpu", device="cpu", needs="numba"),
    Backend("eager", "yolomix.ops.ss2d.eager"),
    Backend("reference", "yolomix.ops.ss2d.reference", automatic=False),
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
    """Four-direction selective scan of a map, with its projections; see the module's description.

    Args:
        x: map, (B, D, H, W), any strides; channels-last memory is the fast layout.
        x_proj_weight: (4, R + 2N, D); its rows give delta's R numbers, then B, then C.
        dt_projs_weight: (4, D, R).
        dt_projs_bias: (4, D), added before the softplus.
        A: decay rates, (4D, N), real, rows direction-major; negative for a state that decays.
        D: weight of the direct path, (4D,), applied in every direction.
        backend: "auto", "triton", "numba", "eager" or "reference".

    Returns: (B, D, H, W) in float32, or float64 for float64; the parameters are cast to that type.

    Raises:
        TypeError: a tensor has a type that does not fit.
        ValueError: a shape does not fit, or tensors are on several devices.
        NotImplementedError: the backend named cannot take these tensors; the message says why.
    """
    if not exporting():  # sizes may be symbols there
        check(x, x_proj_weight, dt_projs_weight, dt_projs_bias, A, D)
    with full_precision(x):
        wide = accum_dtype(x.dtype)
        inputs = SS2DInputs(x, *(p.to(wide) for p in (x_proj_weight, dt_projs_weight, dt_projs_bias, A, D)))
        run = choose("ss2d", BACKENDS, backend, x, inputs)
        return cast(Tensor, run(inputs))
