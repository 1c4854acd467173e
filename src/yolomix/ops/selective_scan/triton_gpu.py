"""Selective scan in Triton, forward and backward; the kernels are in ``ops/_triton``.

The kernels read channels contiguously. Sequences that come as (B, D, L) in that order of memory are copied once;
transposed views of (B, L, D) are read as they are, and outputs and gradients are such views.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from yolomix.ops._triton import available, layout
from yolomix.ops._triton.launch import Scan, backward, forward
from yolomix.ops._triton.plan import ScanShape
from yolomix.ops.backend import needs_gradients
from yolomix.ops.register import schema
from yolomix.ops.selective_scan.inputs import ScanInputs

TENSORS = ScanInputs._fields[:8]  # two flags follow


def refusals(inputs: ScanInputs) -> list[str]:
    """Reasons why these inputs of ``selective_scan`` are not served.

    >>> from yolomix.ops.selective_scan import example
    >>> inputs = example.inputs("cpu")
    >>> refusals(inputs._replace(A=inputs.A.to(torch.complex64)))[-1]
    'it takes real A, B and C, not complex ones'
    """
    u, _, A, B, C, *_ = inputs
    reasons = available.refusals(u, A.shape[1], u.shape[2])
    if A.is_complex():
        reasons.append("it takes real A, B and C, not complex ones")
    elif B.dim() == 2 or C.dim() == 2:
        reasons.append("it takes B and C that vary with the time step, not constant ones of shape (D, N)")
    return reasons


def run(inputs: ScanInputs) -> Tensor | tuple[Tensor, Tensor]:
    """The scan, (B, D, L), and the last state (B, D, N) if asked for.

    >>> from yolomix.ops.selective_scan import example
    >>> inputs = example.inputs("meta")  # shapes alone need no GPU
    >>> run(inputs).shape == inputs.u.shape
    True
    """
    out, last, _, _ = scan_op(*inputs, needs_gradients(inputs))
    if inputs.return_last_state:
        return out, last
    return out


class _Mode(NamedTuple):
    """What else the operator depends on."""

    train: bool  # whether a backward pass may follow


class _Saved(NamedTuple):
    """What the forward pass keeps beside its inputs; without elements where that is not needed."""

    raw: Tensor  # (B, L, D), outputs before the gate
    ckpts: Tensor  # (B, G, checkpoints, N, channels of a group), checkpoints of the state


class _OutputGradients(NamedTuple):
    """What the backward pass starts from."""

    out: Tensor  # (B, D, L)
    last: Tensor | None  # (B, D, N)


@torch.library.custom_op("yolomix::triton_scan", mutates_args=(), schema=schema([ScanInputs, _Mode], outputs=4))
def scan_op(*args: Any) -> tuple[Tensor, ...]:
    """The scan as one operator: outputs (B, D, L), last state (B, D, N) or no elements, and the two of ``_Saved``."""
    inputs, train = ScanInputs(*args[:-1]), args[-1]
    scan = _scan(inputs)
    out = layout.empty_sequences(inputs.u)
    gate = None if inputs.z is None else layout.channel_last(inputs.z)
    saved = _memory(inputs, scan.shape, train)
    last = forward(scan, out, gate, _present(saved.raw), _present(saved.ckpts), inputs.return_last_state)
    if last is None:
        return out.transpose(1, 2), scan.empty(0), *saved
    return out.transpose(1, 2), layout.state_out(last, scan.shape.states).contiguous(), *saved


@scan_op.register_fake
def _(*args: Any) -> tuple[Tensor, ...]:
    inputs, train = ScanInputs(*args[:-1]), args[-1]
    u = inputs.u
    last = (u.shape[0], *inputs.A.shape) if inputs.return_last_state else (0,)
    saved = _memory(inputs, _shape(inputs), train)
    return layout.empty_sequences(u).transpose(1, 2), u.new_empty(last, dtype=torch.float32), *saved


@torch.library.custom_op(
    "yolomix::triton_scan_backward", mutates_args=(), schema=schema([_OutputGradients, ScanInputs, _Saved], outputs=8)
)
def scan_backward_op(*args: Any) -> tuple[Tensor, ...]:
    """Gradients of u, delta, A, B, C, D, z and delta_bias; without elements where there is no argument."""
    dout, dlast = args[:2]
    inputs, saved = ScanInputs(*args[2:-2]), _Saved(*args[-2:])
    u, delta, A, B, C, D, z, delta_bias, *_ = inputs
    scan = _scan(inputs)
    s = scan.shape
    q, dz = (dout, scan.empty(0)) if z is None else _ungate(dout, z, saved.raw)
    du, ddelta = layout.empty_sequences(u), layout.empty_sequences(delta)
    last = None if dlast is None else layout.state_in(dlast, s)
    found = backward(scan, layout.channel_last(q), saved.ckpts, last, du, ddelta)
    bcr = found.total_bcr()
    return (
        du.transpose(1, 2),
        ddelta.transpose(1, 2),
        layout.rates_gradient(found.A, A),
        layout.matrix_gradient(bcr, 0, B, s),
        layout.matrix_gradient(bcr, 1, C, s),
        layout.channel_gradient(found.D, D),
        dz,
        layout.channel_gradient(found.bias, delta_bias),
    )


@scan_backward_op.register_fake
def _(*args: Any) -> tuple[Tensor, ...]:
    inputs = ScanInputs(*args[2:-2])
    found = []
    for name, x in zip(TENSORS, inputs[:8], strict=True):
        if x is None:
            found.append(inputs.u.new_empty(0, dtype=torch.float32))
        elif name in ("u", "delta", "z"):
            found.append(layout.empty_sequences(x).transpose(1, 2))
        else:
            found.append(x.new_empty(x.shape))
    return tuple(found)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Keep the inputs, like u (B, D, L), and the two of ``_Saved`` for the backward pass."""
    *tensors, softplus, last, _ = inputs
    ctx.save_for_backward(*tensors, *output[2:])
    ctx.flags = softplus, last
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, dout: Tensor | None, dlast: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of the operator's arguments, from those of the outputs (B, D, L) and of the last state (B, D, N)."""
    *tensors, raw, ckpts = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(tensors[0])
    found = scan_backward_op(dout, dlast, *tensors, *ctx.flags, raw, ckpts)
    grads: list[Tensor | None] = []
    for x, grad in zip(tensors, found, strict=True):
        grads.append(None if x is None else grad)
    return (*grads, None, None, None)


scan_op.register_autograd(_gradients, setup_context=_keep)


def _memory(inputs: ScanInputs, shape: ScanShape, train: bool) -> _Saved:
    """Memory for what the forward pass keeps."""
    u = inputs.u
    gated = inputs.z is not None
    raw = layout.empty_sequences(u) if train and gated else u.new_empty(0)
    ckpts = shape.state_shape(shape.ckpts) if train else (0,)
    return _Saved(raw, u.new_empty(ckpts, dtype=torch.float32))


def _present(x: Tensor) -> Tensor | None:
    """x, (B, L, D) or of any other shape, or None if it has no elements."""
    return x if x.numel() > 0 else None


def _shape(inputs: ScanInputs) -> ScanShape:
    groups = layout.groups(inputs.B, inputs.C)
    batch, channels, length = inputs.u.shape
    return ScanShape(batch, groups, channels // groups, states=int(inputs.A.shape[1]), rank=0, height=1, width=length)


def _scan(inputs: ScanInputs) -> Scan:
    u, delta, A, B, C, D, _, bias, softplus, _ = inputs
    s = _shape(inputs)
    if D is not None:
        D = D.contiguous()
    if bias is not None:
        bias = bias.contiguous()
    return Scan(
        s,
        x=layout.channel_last(u),
        delta=layout.channel_last(delta),
        bcr=layout.bcr(B, C, s),
        w=None,
        bias=bias,
        A=layout.rates(A),
        D=D,
        softplus=softplus,
    )


def _ungate(dout: Tensor, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the outputs before the gate, and of z, for out = raw * silu(z).

    dout, z: (B, D, L); raw: (B, L, D), as the kernel left it.
    """
    dout, z_ = dout.float(), z.float()
    gate = torch.sigmoid(z_)
    silu = z_ * gate
    dz = layout.empty_sequences(z).transpose(1, 2)
    dz.copy_(dout * raw.transpose(1, 2) * (gate + silu * (1 - gate)))
    return dout * silu, dz
