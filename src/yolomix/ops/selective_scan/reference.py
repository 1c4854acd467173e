"""Selective scan, written out: the definition that every other backend is tested against. Float64, step by step.

Source: Mamba, arXiv:2312.00752, and ``selective_scan_ref`` of github.com/state-spaces/mamba for the forms of B and C.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops.precision import accum_dtype
from yolomix.ops.selective_scan.inputs import ScanInputs


def refusals(inputs: ScanInputs) -> list[str]:
    """Nothing is refused."""
    return []


def run(inputs: ScanInputs) -> Tensor | tuple[Tensor, Tensor]:
    """The scan, (B, D, L), and the last state (B, D, N) if asked for.

    h_t = exp(dt_t A) h_(t-1) + dt_t u_t B_t;  y_t = <h_t, C_t>;  out_t = (y_t + D u_t) * silu(z_t).

    >>> u, A, B = torch.ones(1, 2, 4), torch.zeros(2, 3), torch.ones(1, 3, 4)
    >>> out, last_state = run(ScanInputs(u, u, A, B, B, return_last_state=True))
    >>> out[0, 0], last_state.shape
    (tensor([ 3.,  6.,  9., 12.]), torch.Size([1, 2, 3]))
    """
    u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state = inputs
    x, dt = u.double(), delta.double()
    if delta_bias is not None:
        dt = dt + delta_bias.double()[:, None]
    if delta_softplus:
        dt = F.softplus(dt)
    rates = A.to(torch.complex128) if A.is_complex() else A.double()
    Bs, Cs = per_channel(B, u, A), per_channel(C, u, A)
    h = rates.new_zeros(u.shape[0], *A.shape)  # (B, D, N)
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(x.unbind(2), dt.unbind(2), Bs.unbind(3), Cs.unbind(3), strict=True):
        h = torch.exp(dt_t[..., None] * rates) * h + (dt_t * x_t)[..., None] * B_t
        outputs.append((h * C_t).sum(-1))
    y = torch.stack(outputs, dim=2)
    if A.is_complex():
        y = 2 * y.real
    if D is not None:
        y = y + D.double()[:, None] * x
    if z is not None:
        y = y * F.silu(z.double())
    out = y.to(u.dtype)
    if not return_last_state:
        return out
    dtype = accum_dtype(u.dtype)
    return out, h.to(dtype.to_complex() if A.is_complex() else dtype)


def per_channel(matrix: Tensor, u: Tensor, A: Tensor) -> Tensor:
    """B or C in any of its forms as one matrix per batch, channel, state and time step: (B, D, N, L), float64.

    >>> u, A = torch.ones(1, 4, 6), torch.ones(4, 3)
    >>> per_channel(torch.ones(1, 2, 3, 6), u, A).shape, per_channel(torch.ones(4, 3), u, A).shape
    (torch.Size([1, 4, 3, 6]), torch.Size([1, 4, 3, 6]))
    """
    batch, D, L = u.shape
    if matrix.dim() == 2:
        constant = matrix.to(torch.complex128) if A.is_complex() else matrix.double()
        return constant[None, :, :, None].expand(batch, D, A.shape[1], L)
    varying = matrix.double()
    if A.is_complex():  # real and imaginary parts alternate in the last size, 2L
        varying = torch.complex(varying[..., 0::2], varying[..., 1::2])
    if matrix.dim() == 3:
        varying = varying[:, None]
    return varying.repeat_interleave(D // varying.shape[1], dim=1)
