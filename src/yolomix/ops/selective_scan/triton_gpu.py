"""Selective scan in Triton, forward and backward; the kernels are in ``ops/_triton``.

The kernels read channels next to each other in memory. Sequences that come as (B, D, L) in that order of memory are
copied once; transposed views of (B, L, D) are read as they are, and outputs and gradients are such views.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from yolomix.ops._triton import available, layout
from yolomix.ops._triton.launch import Scan, backward, forward
from yolomix.ops._triton.plan import Sizes
from yolomix.ops.selective_scan.inputs import ScanInputs


def refusals(inputs: ScanInputs) -> list[str]:
    """Reasons why these arguments of ``selective_scan`` are not served."""
    u, _, A, B, C, *_ = inputs
    reasons = available.refusals(u, A.shape[1], u.shape[2])
    if A.is_complex():
        reasons.append("it takes real A, B and C, not complex ones")
    elif B.dim() == 2 or C.dim() == 2:
        reasons.append("it takes B and C that vary with the step, not constant ones of shape (D, N)")
    return reasons


def run(inputs: ScanInputs) -> Tensor | tuple[Tensor, Tensor]:
    """The scan, (B, D, L), and the last state (B, D, N) if asked for; arguments as in ``selective_scan``."""
    *args, delta_softplus, return_last_state = inputs
    train = torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in args)
    out, last, _, _ = scan_op(*args, delta_softplus, train, return_last_state)
    return (out, last) if return_last_state else out


@torch.library.custom_op("yolomix::triton_scan", mutates_args=())
def scan_op(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    train: bool,
    return_last_state: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The scan as one operator: outputs, last state, outputs before the gate, and marks for the backward pass.

    What is not needed has no elements.
    """
    scan = _scan(u, delta, A, B, C, D, delta_bias, delta_softplus)
    out = layout.empty_sequences(u)
    raw = layout.empty_sequences(u) if train and z is not None else None
    gate = None if z is None else layout.channel_last(z)
    marks = scan.states(scan.sizes.marks) if train else None
    last = forward(scan, out, gate, raw, marks, return_last_state)
    nothing = u.new_empty(0, dtype=torch.float32)
    state = nothing if last is None else layout.state_out(last, scan.sizes.states).contiguous()
    return (
        out.transpose(1, 2),
        state,
        u.new_empty(0) if raw is None else raw,
        nothing.clone() if marks is None else marks,
    )


@scan_op.register_fake
def _(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    train: bool,
    return_last_state: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    s = _sizes(u, A, B, C)
    state = (u.shape[0], *A.shape) if return_last_state else (0,)
    marks = s.states_of(s.marks) if train else (0,)
    raw = layout.empty_sequences(u) if train and z is not None else u.new_empty(0)
    narrow = [u.new_empty(shape, dtype=torch.float32) for shape in (state, marks)]
    return layout.empty_sequences(u).transpose(1, 2), narrow[0], raw, narrow[1]


@torch.library.custom_op("yolomix::triton_scan_backward", mutates_args=())
def scan_backward_op(
    dout: Tensor,
    dlast: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    raw: Tensor,
    marks: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, delta, A, B, C, D, z and delta_bias; no elements where there is no argument."""
    scan = _scan(u, delta, A, B, C, D, delta_bias, delta_softplus)
    s = scan.sizes
    q, dz = (dout, u.new_empty(0)) if z is None else _ungate(dout, z, raw)
    du, ddelta = layout.empty_sequences(u), layout.empty_sequences(u, delta.dtype)
    last = None if dlast is None else layout.state_in(dlast, s)
    found = backward(scan, layout.channel_last(q), marks, last, du, ddelta)
    rows = found.total_rows()
    dB, dC = (layout.matrix_gradient(rows, part, matrix, s) for part, matrix in enumerate((B, C)))
    dA, dD = layout.rates_gradient(found.A, A), layout.channel_gradient(found.D, D)
    dbias = layout.channel_gradient(found.bias, delta_bias)
    return du.transpose(1, 2), ddelta.transpose(1, 2), dA, dB, dC, dD, dz, dbias


@scan_backward_op.register_fake
def _(
    dout: Tensor,
    dlast: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    raw: Tensor,
    marks: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    du, ddelta = (layout.empty_sequences(u, x.dtype).transpose(1, 2) for x in (u, delta))
    dA, dB, dC = (x.new_empty(x.shape) for x in (A, B, C))
    dD, dbias = (u.new_empty(0, dtype=torch.float32) if x is None else x.new_empty(x.shape) for x in (D, delta_bias))
    dz = u.new_empty(0) if z is None else layout.empty_sequences(z).transpose(1, 2)
    return du, ddelta, dA, dB, dC, dD, dz, dbias


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, softplus, _, _ = inputs
    _, _, raw, marks = output
    ctx.save_for_backward(*tensors, raw, marks)
    ctx.softplus = softplus
    ctx.set_materialize_grads(False)


def _gradients(
    ctx: Any, dout: Tensor | None, dlast: Tensor | None, draw: Tensor | None, dmarks: Tensor | None
) -> tuple[Tensor | None, ...]:
    *tensors, raw, marks = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(tensors[0])
    grads = scan_backward_op(dout, dlast, *tensors, ctx.softplus, raw, marks)
    return (*(None if x is None else g for x, g in zip(tensors, grads, strict=True)), None, None, None)


scan_op.register_autograd(_gradients, setup_context=_keep)


def _sizes(u: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Sizes:
    groups = layout.groups(B, C)
    batch, channels, length = u.shape
    return Sizes(batch, groups, channels // groups, int(A.shape[1]), 0, 1, length)


def _scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Scan:
    s = _sizes(u, A, B, C)
    x, steps = layout.channel_last(u), layout.channel_last(delta)
    D, bias = (None if p is None else p.contiguous() for p in (D, delta_bias))
    return Scan(s, x, steps, layout.rows(B, C, s), None, bias, layout.rates(A), D, delta_softplus)


def _ungate(dout: Tensor, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the outputs before the gate, and of z, for out = raw * silu(z)."""
    dout, z_ = dout.float(), z.float()
    gate = torch.sigmoid(z_)
    silu = z_ * gate
    dz = layout.empty_sequences(z).transpose(1, 2)
    dz.copy_(dout * raw.transpose(1, 2) * (gate + silu * (1 - gate)))
    return dout * silu, dz
