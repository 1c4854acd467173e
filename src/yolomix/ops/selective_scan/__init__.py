"""Selective scan: the recurrence of Mamba (arXiv:2312.00752), with the semantics of mamba_ssm's function in full.

For batch b, channel d, state n and time step t, with step size dt::

    dt      = delta[b,d,t] + delta_bias[d]
    dt      = softplus(dt) if delta_softplus                    (dt itself above 20)
    h[n]    = exp(dt * A[d,n]) * h[n] + dt * B[n,t] * u[b,d,t]  (h starts at 0)
    y       = sum_n h[n] * C[n,t]                               (complex A: 2 * its real part)
    out     = (y + D[d] * u[b,d,t]) * z[b,d,t] * sigmoid(z[b,d,t])
"""

from __future__ import annotations

from torch import Tensor

from yolomix.ops.backend import Backend
from yolomix.ops.dispatch import Operator
from yolomix.ops.selective_scan.inputs import ScanInputs, check

ScanOutput = Tensor | tuple[Tensor, Tensor]

OPERATOR: Operator[ScanInputs, ScanOutput] = Operator(
    "selective_scan",
    (
        Backend("triton", "yolomix.ops.selective_scan.triton_gpu", device="cuda", needs="triton"),
        Backend("numba", "yolomix.ops.selective_scan.numba_cpu", device="cpu", needs="numba"),
        Backend("eager", "yolomix.ops.selective_scan.eager"),
        Backend("reference", "yolomix.ops.selective_scan.reference", automatic=False),
    ),
    check,
    marked=Backend("marked", "yolomix.ops.selective_scan.export.marked"),
)


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    backend: str = "auto",
) -> ScanOutput:
    """Selective scan of a sequence; see the module's description for the equation.

    >>> import torch
    >>> from yolomix.ops import selective_scan
    >>> u, A = torch.ones(1, 2, 4), torch.zeros(2, 3)  # a rate of 0 never forgets: the state sums up
    >>> B = C = torch.ones(1, 3, 4)
    >>> selective_scan(u, u, A, B, C)[0, 0]
    tensor([ 3.,  6.,  9., 12.])

    Args:
        u: input, (B, D, L).
        delta: step sizes, (B, D, L), before bias and softplus.
        A: decay rates, (D, N), real or complex.
        B: input matrix: constant (D, N), variable (B, N, L) or grouped (B, G, N, L), where channel d uses group
            d // (D / G). With complex A a constant one is complex. The others are real with last size 2L: real and
            imaginary part of a time step stand next to each other.
        C: output matrix, same forms as B, independently of it.
        D: skip weight, (D,).
        z: gate, (B, D, L).
        delta_bias: added to delta, (D,).
        delta_softplus: whether delta passes through softplus.
        return_last_state: also return h after the last time step.
        backend: "auto", "triton", "numba", "eager" or "reference".

    Returns:
        out, (B, D, L) in the type of u; with ``return_last_state`` also the state (B, D, N) in float32
        (float64 for float64, complex for complex A). Everything is computed in float32, or float64 for float64.

    Raises:
        TypeError: a tensor has a type that does not fit.
        ValueError: a shape does not fit, or tensors are on several devices.
        NotImplementedError: the backend named cannot take these tensors; the message says why.
    """
    inputs = ScanInputs(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state)
    return OPERATOR(inputs, backend)
