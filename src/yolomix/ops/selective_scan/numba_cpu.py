"""Selective scan on CPU in Numba, forward and backward: what PyTorch sees of the kernels in ``numba_kernels``.

Two registered operators, ``yolomix::selective_scan_numba`` and its backward, so that a compiled or exported graph has
one node. They take float32, contiguous parameters, and channels in whole vectors; ``run`` brings everything else into
this form with PyTorch's own operations, which have their own gradients.
"""

from __future__ import annotations

from math import lcm
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops._numba import pool
from yolomix.ops._numba.layout import Either, PerStep, flat, in_rows, pack, padded, rows, tiles, unpack
from yolomix.ops._numba.register import operator, refuse_second_derivative
from yolomix.ops._numba.simd import LANES
from yolomix.ops._numba.vecmath import LOG2_E
from yolomix.ops.selective_scan.inputs import ScanInputs
from yolomix.ops.selective_scan.numba_kernels import Flags, Given, Grads, Sizes, backward, forward

TAKEN = (torch.float32, torch.bfloat16, torch.float16)


def refusals(inputs: ScanInputs) -> list[str]:
    """Only real numbers in float32 or narrower."""
    u, delta, A, B, C, D, z, delta_bias, _, _ = inputs
    reasons = []
    if A.is_complex():
        reasons.append(f"it computes real states, and A is {A.dtype}")
    tensors = (u, delta, A, B, C, D, z, delta_bias)
    if wide := sorted({str(t.dtype) for t in tensors if t is not None and not t.is_complex() and t.dtype not in TAKEN}):
        reasons.append(f"it computes in float32, which is less than {', '.join(wide)}")
    return reasons


def run(inputs: ScanInputs) -> Tensor | tuple[Tensor, Tensor]:
    """The scan, (B, D, L), and the last state (B, D, N) if asked for; arguments as in ``selective_scan``."""
    u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state = inputs
    tensors = (u, delta, A, B, C, D, z, delta_bias)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    B, C, groups = _same_groups(B.float(), C.float())
    out, last, _, _ = scan(
        _pad(u.float(), 1, groups),
        _pad(delta.float(), 1, groups),
        _pad(A.float(), 0, groups),
        _pad(B, 0, groups) if B.dim() == 2 else B,
        _pad(C, 0, groups) if C.dim() == 2 else C,
        None if D is None else _pad(D.float(), 0, groups),
        None if z is None else _pad(z.float(), 1, groups),
        None if delta_bias is None else _pad(delta_bias.float(), 0, groups),
        delta_softplus,
        save,
    )
    out = _crop(out, groups, u.shape[1]).to(u.dtype)
    return (out, _crop(last, groups, u.shape[1])) if return_last_state else out


def _same_groups(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, int]:
    """B and C, those that vary in time as (B, G, N, L) with one G, and G; 1 if both are constant."""
    B, C = (m[:, None] if m.dim() == 3 else m for m in (B, C))
    groups = lcm(*(m.shape[1] for m in (B, C) if m.dim() == 4))
    B, C = (m.repeat_interleave(groups // m.shape[1], 1) if m.dim() == 4 and m.shape[1] < groups else m for m in (B, C))
    return B, C, groups


def _pad(x: Tensor, dim: int, groups: int) -> Tensor:
    """Zeros behind the channels of every group (dimension ``dim``), up to a multiple of ``LANES``."""
    size = x.shape[dim] // groups
    if size == padded(size):
        return x
    x = x.reshape(*x.shape[:dim], groups, size, *x.shape[dim + 1 :])
    behind = [0, 0] * (x.dim() - dim - 2) + [0, padded(size) - size]
    return F.pad(x, behind).flatten(dim, dim + 1)


def _crop(x: Tensor, groups: int, channels: int) -> Tensor:
    """``_pad`` undone in dimension 1."""
    if x.shape[1] == channels:
        return x
    grouped = x.reshape(x.shape[0], groups, -1, x.shape[2])
    return grouped[:, :, : channels // groups].flatten(1, 2)


def _forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None, bias: Tensor | None,
    softplus: bool, save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Out (B, D, L), last states (B, D, N), and for the backward pass the states of every tile and y before the gate.

    Float32; D / G a multiple of ``LANES``; B and C (B, G, N, L) or (D, N). The last two are empty unless ``save``.
    """
    u, delta, z = in_rows(u), in_rows(delta), None if z is None else in_rows(z)
    out, last, saved, ungated = _outputs(u, A, z, save)
    states = u.new_zeros(u.shape[0], *pack(A).shape)
    sizes = _sizes(u, A, B, C, tasks=torch.get_num_threads())
    args = (
        rows(u), rows(delta), rows(u if z is None else z), *_matrices(B, C), flat(pack(A) * LOG2_E),
        _vector(D, u), _vector(bias, u), rows(out), rows(ungated if ungated.numel() else out),
        flat(states), flat(saved), sizes, _flags(B, C, z, softplus, save),
    )  # fmt: skip
    pool.run(forward, args, _tasks(sizes))
    last.copy_(unpack(states))
    return out, last, saved, ungated


def _forward_fake(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None, bias: Tensor | None,
    softplus: bool, save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return _outputs(in_rows(u), A, z, save)


def _backward(
    out_grad: Tensor, last_grad: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    z: Tensor | None, bias: Tensor | None, saved: Tensor, ungated: Tensor, softplus: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of u, delta, A, B, C, D, z and bias; that of z is empty without z."""
    u, delta, out_grad, z = in_rows(u), in_rows(delta), in_rows(out_grad), None if z is None else in_rows(z)
    results = _gradients(u, delta, A, B, C, z)
    sizes, flags = _sizes(u, A, B, C, tasks=torch.get_num_threads()), _flags(B, C, z, softplus, True)
    sums = _sums(u, A, last_grad, results[3:5], parts=_tasks(sizes) // (sizes.batch * sizes.G))
    given = Given(*(rows(u if x is None else x) for x in (u, delta, z, None if z is None else ungated, out_grad)))
    written = rows(results[0]), rows(results[1]), rows(results[0] if z is None else results[6])
    args = (
        given, *_matrices(B, C), flat(pack(A) * LOG2_E), _vector(D, u), _vector(bias, u), flat(saved),
        Grads(*written, *(flat(x) for x in sums)), sizes, flags,
    )  # fmt: skip
    pool.run(backward, args, _tasks(sizes))
    A_sum, D_sum, bias_sum, B_sum, C_sum = (x[0] if x.shape[0] == 1 else x.sum(0) for x in sums[1:])
    summed = unpack(A_sum), *(unpack(x) if x.dim() == 3 else x for x in (B_sum, C_sum)), D_sum, bias_sum
    for result, total in zip((*results[2:6], results[7]), summed, strict=True):
        if result.data_ptr() != total.data_ptr():
            result.copy_(total)
    return results


def _backward_fake(
    out_grad: Tensor, last_grad: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    z: Tensor | None, bias: Tensor | None, saved: Tensor, ungated: Tensor, softplus: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return _gradients(in_rows(u), in_rows(delta), A, B, C, None if z is None else in_rows(z))


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, _, saved, ungated = output
    ctx.save_for_backward(*inputs[:8], saved, ungated)
    ctx.softplus = inputs[8]
    ctx.mark_non_differentiable(saved, ungated)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, out_grad: Tensor | None, last_grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    refuse_second_derivative("selective_scan")
    *inputs, saved, ungated = ctx.saved_tensors
    u, _delta, A = inputs[:3]
    out_grad = torch.zeros_like(u) if out_grad is None else out_grad
    last_grad = A.new_zeros(u.shape[0], *A.shape) if last_grad is None else last_grad
    gradients = scan_backward(out_grad, last_grad, *inputs, saved, ungated, ctx.softplus)
    kept = (None if x is None else g for x, g in zip(inputs, gradients, strict=True))
    return *kept, None, None


scan = operator("selective_scan_numba", _forward, _forward_fake)
scan_backward = operator("selective_scan_numba_backward", _backward, _backward_fake)
torch.library.register_autograd("yolomix::selective_scan_numba", _differentiate, setup_context=_save_for_backward)


def _outputs(u: Tensor, A: Tensor, z: Tensor | None, save: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Memory for what forward returns."""
    batch, D, L = u.shape
    saved = u.new_empty((batch, D // LANES, tiles(L), A.shape[1], LANES) if save else (0,))
    ungated = torch.empty_like(u) if save and z is not None else u.new_empty(0)
    return torch.empty_like(u), u.new_empty(batch, *A.shape), saved, ungated


def _gradients(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, z: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Memory for what backward returns."""
    z_grad = u.new_empty(0) if z is None else torch.empty_like(z)
    matrices = A.new_empty(A.shape), B.new_empty(B.shape), C.new_empty(C.shape)
    D = u.shape[1]
    return torch.empty_like(u), torch.empty_like(delta), *matrices, u.new_empty(D), z_grad, u.new_empty(D)


def _sums(u: Tensor, A: Tensor, last_grad: Tensor, matrices: tuple[Tensor, ...], parts: int) -> tuple[Tensor, ...]:
    """What tasks add up: the carried gradient of the states, and gradients of A, D, bias, B, C with parts in front.

    The results for B and C, ``matrices``, are written directly if they have a single part.
    """
    batch, D, _ = u.shape
    packed = (batch, D // LANES, A.shape[1], LANES)
    carry = pack(last_grad).clone()
    B_sum, C_sum = (
        u.new_zeros(packed) if m.dim() == 2 else m[None] if parts == 1 else u.new_empty(parts, *m.shape)
        for m in matrices
    )
    return carry, u.new_zeros(packed), u.new_zeros(batch, D), u.new_zeros(batch, D), B_sum, C_sum


def _sizes(u: Tensor, A: Tensor, B: Tensor, C: Tensor, tasks: int) -> Sizes:
    """Sizes of a scan cut into at least so many tasks, if the channels suffice."""
    batch, D, L = u.shape
    G = next((m.shape[1] for m in (B, C) if m.dim() == 4), 1)
    per_group = D // LANES // G
    chunk = max(1, per_group // -(-tasks // (batch * G)))
    return Sizes(L=L, N=A.shape[1], G=G, batch=batch, blocks=D // LANES, tiles=tiles(L), chunk=chunk)


def _tasks(sizes: Sizes) -> int:
    return sizes.batch * sizes.G * -(-(sizes.blocks // sizes.G) // sizes.chunk)


def _flags(B: Tensor, C: Tensor, z: Tensor | None, softplus: bool, save: bool) -> Flags:
    return Flags(softplus, z is not None, save, B_constant=B.dim() == 2, C_constant=C.dim() == 2)


def _matrices(*matrices: Tensor) -> tuple[PerStep | Either, ...]:
    """B and C for the kernels, which are compiled for both constant or not, or for both varying in time."""
    if all(m.dim() == 4 for m in matrices):
        return tuple(PerStep(flat(m), *m.stride()) for m in matrices)
    return tuple(
        Either(flat(pack(m)), True, 0, 0, 0, 0) if m.dim() == 2 else Either(flat(m), False, *m.stride())
        for m in matrices
    )


def _vector(vector: Tensor | None, u: Tensor) -> Any:
    """D or the bias, zeros if it is absent."""
    return flat(u.new_zeros(u.shape[1]) if vector is None else vector.contiguous())
