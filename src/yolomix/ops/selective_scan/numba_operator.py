"""Selective scan on CPU in Numba: what PyTorch sees of the kernels in ``numba_kernels``.

Two registered operators, ``yolomix::selective_scan_numba`` and its backward, so that a compiled or exported graph has
one node.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from yolomix.ops._numba import pool
from yolomix.ops._numba.layout import (
    MaybeConstant,
    TimeVarying,
    flat,
    pack,
    sequence_view,
    tile_count,
    unpack,
    viewable,
)
from yolomix.ops._numba.processor import LANES
from yolomix.ops._numba.vecmath import LOG2_E
from yolomix.ops.register import operator, refuse_second_derivative
from yolomix.ops.selective_scan.numba_kernels import (
    ScanFlags,
    ScanGradients,
    ScanSequences,
    ScanSizes,
    backward,
    forward,
)


class ScanKernelInputs(NamedTuple):
    """What the kernels take of a scan: float32, and D / G a multiple of ``LANES``."""

    u: Tensor  # (B, D, L)
    delta: Tensor  # (B, D, L), step sizes before bias and softplus
    A: Tensor  # (D, N), decay rates
    B: Tensor  # (B, G, N, L) or (D, N)
    C: Tensor  # as B
    D: Tensor | None  # (D,), skip weight
    z: Tensor | None  # (B, D, L), gate
    delta_bias: Tensor | None  # (D,)
    delta_softplus: bool
    keep_checkpoints: bool  # whether a backward pass may follow


class _ScanForwardResults(NamedTuple):
    """What forward returns. The last two serve the backward pass and are empty unless checkpoints are kept."""

    out: Tensor  # (B, D, L)
    last_state: Tensor  # (B, D, N)
    checkpoints: Tensor  # (B, D / LANES, tiles, N, LANES), the states before every tile
    ungated: Tensor  # (B, D, L), y before the gate; empty without z as well


class _ScanBackwardInputs(NamedTuple):
    """What the backward pass takes beside the inputs of the scan."""

    out_grad: Tensor  # (B, D, L)
    last_state_grad: Tensor  # (B, D, N)
    checkpoints: Tensor  # as forward returned them
    ungated: Tensor


class _ScanBackwardResults(NamedTuple):
    """Gradients of the tensors of a scan, each of the shape of its tensor; that of z is empty without z."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    z: Tensor
    delta_bias: Tensor


def _viewable(scan: ScanKernelInputs) -> ScanKernelInputs:
    """The same scan with u, delta and z, (B, D, L), in memory that kernels can read."""
    z = None if scan.z is None else viewable(scan.z)
    return scan._replace(u=viewable(scan.u), delta=viewable(scan.delta), z=z)


def _forward(scan: ScanKernelInputs) -> _ScanForwardResults:
    scan = _viewable(scan)
    results = _forward_memory(scan)
    states = scan.u.new_zeros(scan.u.shape[0], *pack(scan.A).shape)
    sizes = _sizes(scan)
    # Where something is absent, another tensor stands in its place, which the kernel does not touch.
    z = scan.u if scan.z is None else scan.z
    ungated = results.ungated if results.ungated.numel() else results.out
    args = (
        sequence_view(scan.u), sequence_view(scan.delta), sequence_view(z), *_matrices(scan.B, scan.C),
        *_parameters(scan), sequence_view(results.out), sequence_view(ungated), flat(states),
        flat(results.checkpoints), sizes, _flags(scan),
    )  # fmt: skip
    pool.run(forward, args, _tasks(sizes))
    results.last_state.copy_(unpack(states))
    return results


def _forward_fake(scan: ScanKernelInputs) -> _ScanForwardResults:
    return _forward_memory(_viewable(scan))


def _forward_memory(scan: ScanKernelInputs) -> _ScanForwardResults:
    """Memory for what forward returns."""
    u, A = scan.u, scan.A
    batch, D, L = u.shape
    checkpoints, ungated = u.new_empty(0), u.new_empty(0)
    if scan.keep_checkpoints:
        checkpoints = u.new_empty(batch, D // LANES, tile_count(L), A.shape[1], LANES)
        if scan.z is not None:
            ungated = torch.empty_like(u)
    return _ScanForwardResults(torch.empty_like(u), u.new_empty(batch, *A.shape), checkpoints, ungated)


def _backward(scan: ScanKernelInputs, given: _ScanBackwardInputs) -> _ScanBackwardResults:
    scan = _viewable(scan)
    results, sizes = _backward_memory(scan), _sizes(scan)
    sums = _sums(scan, results, given.last_state_grad, parts=_tasks(sizes) // (sizes.batch * sizes.G))
    z_grad = results.u if scan.z is None else results.z
    gradients = ScanGradients(
        sequence_view(results.u), sequence_view(results.delta), sequence_view(z_grad), *(flat(x) for x in sums)
    )
    args = (
        _sequences(scan, given), *_matrices(scan.B, scan.C), *_parameters(scan), flat(given.checkpoints), gradients,
        sizes, _flags(scan),
    )  # fmt: skip
    pool.run(backward, args, _tasks(sizes))
    for name in ("A", "B", "C", "D", "delta_bias"):
        result, total = getattr(results, name), _total(getattr(sums, name))
        if result.data_ptr() != total.data_ptr():  # B and C may have been written in place
            result.copy_(total)
    return results


def _backward_fake(scan: ScanKernelInputs, given: _ScanBackwardInputs) -> _ScanBackwardResults:
    return _backward_memory(_viewable(scan))


def _backward_memory(scan: ScanKernelInputs) -> _ScanBackwardResults:
    """Memory for what backward returns."""
    u, A, B, C = scan.u, scan.A, scan.B, scan.C
    D = u.shape[1]
    return _ScanBackwardResults(
        u=torch.empty_like(u),
        delta=torch.empty_like(scan.delta),
        A=A.new_empty(A.shape),
        B=B.new_empty(B.shape),
        C=C.new_empty(C.shape),
        D=u.new_empty(D),
        z=u.new_empty(0) if scan.z is None else torch.empty_like(scan.z),
        delta_bias=u.new_empty(D),
    )


class _Sums(NamedTuple):
    """What the tasks of a backward pass add up, apart for each part of the tasks."""

    carry: Tensor  # (B, D / LANES, N, LANES), gradient of the states
    A: Tensor  # (B, D / LANES, N, LANES)
    D: Tensor  # (B, D)
    delta_bias: Tensor  # (B, D)
    B: Tensor  # (parts, B, G, N, L), or (B, D / LANES, N, LANES) if B is constant
    C: Tensor  # as B


def _sums(scan: ScanKernelInputs, results: _ScanBackwardResults, last_state_grad: Tensor, parts: int) -> _Sums:
    """Memory for the sums; the carried gradient starts as that of the last state, (B, D, N)."""
    batch, D, _ = scan.u.shape
    packed = batch, D // LANES, scan.A.shape[1], LANES
    # The kernel writes every value of a B or C that varies in time, and adds to all others.
    matrices = []
    for result in (results.B, results.C):
        if result.dim() == 2:
            matrices.append(result.new_zeros(packed))
        elif parts == 1:
            matrices.append(result[None])  # nothing to add up: written in place
        else:
            matrices.append(result.new_empty(parts, *result.shape))
    new_zeros = scan.u.new_zeros
    carry = pack(last_state_grad).clone()  # pack may return the very memory that it is given
    return _Sums(carry, new_zeros(packed), new_zeros(batch, D), new_zeros(batch, D), *matrices)


def _total(parts: Tensor) -> Tensor:
    """The sum over the parts, (parts, ...); what is packed becomes (D, N)."""
    total = parts[0] if parts.shape[0] == 1 else parts.sum(0)
    is_packed = total.dim() == 3
    return unpack(total) if is_packed else total


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Keep the inputs and, of the output, the checkpoints (B, D / LANES, tiles, N, LANES) and y before the gate."""
    scan, results = ScanKernelInputs(*inputs), _ScanForwardResults(*output)
    ctx.save_for_backward(*scan[:8], results.checkpoints, results.ungated)
    ctx.delta_softplus = scan.delta_softplus
    ctx.mark_non_differentiable(results.checkpoints, results.ungated)
    # PyTorch would make a gradient of zeros for the checkpoints: at S1 of Mamba-YOLO-T 6.5 MB and a pass over them.
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, out_grad: Tensor | None, last_grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    """Gradients of the inputs of a scan, from those of out (B, D, L) and of the last state (B, D, N)."""
    refuse_second_derivative("selective_scan")
    *tensors, checkpoints, ungated = ctx.saved_tensors
    scan = ScanKernelInputs._make([*tensors, ctx.delta_softplus, True])  # a backward pass follows on checkpoints
    if out_grad is None:
        out_grad = torch.zeros_like(scan.u)
    if last_grad is None:
        last_grad = scan.A.new_zeros(scan.u.shape[0], *scan.A.shape)
    gradients = scan_backward_op(*scan, *_ScanBackwardInputs(out_grad, last_grad, checkpoints, ungated))
    found: list[Tensor | None] = list(gradients)
    for i, x in enumerate(tensors):
        if x is None:
            found[i] = None
    return *found, None, None


scan_op = operator(
    "selective_scan_numba",
    [ScanKernelInputs],
    _forward,
    _forward_fake,
    outputs=4,
    gradient=(_differentiate, _save_for_backward),
)
scan_backward_op = operator(
    "selective_scan_numba_backward", [ScanKernelInputs, _ScanBackwardInputs], _backward, _backward_fake, outputs=8
)


def _sizes(scan: ScanKernelInputs) -> ScanSizes:
    """Sizes of a scan, cut into at least as many tasks as there are threads, if the channels suffice."""
    batch, D, L = scan.u.shape
    G = next((m.shape[1] for m in (scan.B, scan.C) if m.dim() == 4), 1)
    per_group = D // LANES // G
    parts = -(-torch.get_num_threads() // (batch * G))
    return ScanSizes(
        L=L, N=scan.A.shape[1], G=G, batch=batch, blocks=D // LANES, tiles=tile_count(L),
        blocks_per_task=max(1, per_group // parts),
    )  # fmt: skip


def _tasks(sizes: ScanSizes) -> int:
    return sizes.batch * sizes.G * -(-(sizes.blocks // sizes.G) // sizes.blocks_per_task)


def _flags(scan: ScanKernelInputs) -> ScanFlags:
    return ScanFlags(
        softplus=scan.delta_softplus,
        gate=scan.z is not None,
        checkpoints=scan.keep_checkpoints,
        B_constant=scan.B.dim() == 2,
        C_constant=scan.C.dim() == 2,
    )


def _sequences(scan: ScanKernelInputs, given: _ScanBackwardInputs) -> ScanSequences:
    """What backward reads of the form (B, D, L); without z, u stands in its place and is not read."""
    u, out_grad = sequence_view(scan.u), sequence_view(viewable(given.out_grad))
    z, ungated = u, u
    if scan.z is not None:
        z, ungated = sequence_view(scan.z), sequence_view(given.ungated)
    return ScanSequences(u, sequence_view(scan.delta), z, ungated, out_grad)


def _matrices(*matrices: Tensor) -> tuple[TimeVarying | MaybeConstant, ...]:
    """B and C, (B, G, N, L) or (D, N), for the kernels.

    Kernels are compiled for two cases only: both vary in time, or at least one is constant.
    """
    if all(m.dim() == 4 for m in matrices):
        return tuple(TimeVarying(flat(m), *m.stride()) for m in matrices)
    either = []
    for m in matrices:
        if m.dim() == 2:
            either.append(MaybeConstant(flat(pack(m)), True, 0, 0, 0, 0))
        else:
            either.append(MaybeConstant(flat(m), False, *m.stride()))
    return tuple(either)


def _parameters(scan: ScanKernelInputs) -> tuple[Any, ...]:
    """Rates, skip weights and biases for the kernels; zeros where the last two are absent."""
    absent = scan.u.new_zeros(scan.u.shape[1])
    D = absent if scan.D is None else scan.D.contiguous()
    bias = absent if scan.delta_bias is None else scan.delta_bias.contiguous()
    return flat(pack(scan.A) * LOG2_E), flat(D), flat(bias)
