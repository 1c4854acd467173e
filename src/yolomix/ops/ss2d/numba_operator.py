"""SS2D on CPU in Numba: what PyTorch sees of the kernels in ``numba_kernels``.

Two registered operators, ``yolomix::ss2d_numba`` and its backward, so that a compiled or exported graph has one node.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from yolomix.ops._numba import pool
from yolomix.ops._numba.layout import flat, pack, padded, tile_count, unpack
from yolomix.ops._numba.processor import LANES
from yolomix.ops._numba.vecmath import LOG2_E
from yolomix.ops.register import operator, refuse_second_derivative
from yolomix.ops.ss2d.numba_kernels import SS2DGradients, backward, forward
from yolomix.ops.ss2d.numba_paths import DIRECTIONS, SS2DParameters, SS2DSizes


class SS2DKernelInputs(NamedTuple):
    """What the kernels take of a 2D selective scan: float32, and D a multiple of ``LANES``."""

    x: Tensor  # (B, H, W, D), contiguous
    x_proj_weight: Tensor  # (4, R + 2N, D)
    dt_projs_weight: Tensor  # (4, D, R)
    dt_projs_bias: Tensor  # (4, D)
    A: Tensor  # (4D, N), decay rates
    D: Tensor  # (4D,), skip weights
    keep_checkpoints: bool  # whether a backward pass may follow


class _SS2DBackwardInputs(NamedTuple):
    """What the backward pass takes beside the inputs of the scan."""

    out_grad: Tensor  # (B, H, W, D)
    checkpoints: Tensor  # (4, B, D / LANES, tiles, N, LANES), the states before every tile


def _forward(scan: SS2DKernelInputs) -> tuple[Tensor, Tensor]:
    """The output, (B, H, W, D), and the checkpoints for the backward pass, empty unless they are kept."""
    scan = scan._replace(x=scan.x.contiguous())
    sizes = _sizes(scan, split_channels=True)
    states = scan.x.new_zeros(DIRECTIONS, sizes.batch, sizes.blocks, sizes.N, LANES)
    checkpoints = _checkpoint_memory(scan)
    out = scan.x.new_empty(sizes.slots, *scan.x.shape)
    args = (
        flat(scan.x), _parameters(scan), flat(out), flat(states), flat(checkpoints), sizes, scan.keep_checkpoints,
    )  # fmt: skip
    pool.run(forward, args, _tasks(sizes))
    return _merged(out), checkpoints


def _forward_fake(scan: SS2DKernelInputs) -> tuple[Tensor, Tensor]:
    return scan.x.new_empty(scan.x.shape), _checkpoint_memory(scan)


def _checkpoint_memory(scan: SS2DKernelInputs) -> Tensor:
    if not scan.keep_checkpoints:
        return scan.x.new_empty(0)
    batch, H, W, D = scan.x.shape
    return scan.x.new_empty(DIRECTIONS, batch, D // LANES, tile_count(H * W), scan.A.shape[1], LANES)


def _backward(scan: SS2DKernelInputs, given: _SS2DBackwardInputs) -> tuple[Tensor, ...]:
    """Gradients of the six tensors of the scan."""
    scan = scan._replace(x=scan.x.contiguous())
    sizes = _sizes(scan, split_channels=False)
    batch, channels, new_zeros = sizes.batch, scan.x.shape[3], scan.x.new_zeros
    carry = new_zeros(DIRECTIONS, batch, sizes.blocks, sizes.N, LANES)
    x_sum, A_sum = scan.x.new_empty(sizes.slots, *scan.x.shape), torch.zeros_like(carry)
    x_proj_sum = new_zeros(batch, *scan.x_proj_weight.shape)
    dt_proj_sum = new_zeros(batch, DIRECTIONS, sizes.R, channels)
    dt_bias_sum, D_sum = new_zeros(batch, DIRECTIONS, channels), new_zeros(batch, DIRECTIONS, channels)
    sums = x_sum, x_proj_sum, dt_proj_sum, dt_bias_sum, D_sum, carry, A_sum
    args = (
        flat(scan.x), _parameters(scan), flat(given.checkpoints), flat(given.out_grad.contiguous()),
        SS2DGradients(*(flat(x) for x in sums)), sizes,
    )  # fmt: skip
    pool.run(backward, args, _tasks(sizes))
    # Contiguous, as the fake says: a transposed sum would have other strides.
    dt_proj_grad = dt_proj_sum.sum(0).transpose(1, 2).contiguous()
    A_grad = scan.A.new_empty(scan.A.shape).copy_(unpack(A_sum.sum(1)).flatten(0, 1))
    return _merged(x_sum), x_proj_sum.sum(0), dt_proj_grad, dt_bias_sum.sum(0), A_grad, D_sum.sum(0).flatten()


def _backward_fake(scan: SS2DKernelInputs, given: _SS2DBackwardInputs) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in scan[:6])


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Keep the inputs and, of the output, the checkpoints (4, B, D / LANES, tiles, N, LANES)."""
    _, checkpoints = output
    ctx.save_for_backward(*SS2DKernelInputs(*inputs)[:6], checkpoints)
    ctx.mark_non_differentiable(checkpoints)
    # PyTorch would make a gradient of zeros for the checkpoints: at S1 of Mamba-YOLO-T 6.5 MB and a pass over them.
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, out_grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    """Gradients of the inputs of a scan, from that of its output, (B, H, W, D)."""
    refuse_second_derivative("ss2d")
    *tensors, checkpoints = ctx.saved_tensors
    scan = SS2DKernelInputs._make([*tensors, True])  # a backward pass follows on checkpoints
    return *scan_backward_op(*scan, *_SS2DBackwardInputs(out_grad, checkpoints)), None


scan_op = operator(
    "ss2d_numba", [SS2DKernelInputs], _forward, _forward_fake, outputs=2, gradient=(_differentiate, _save_for_backward)
)
scan_backward_op = operator(
    "ss2d_numba_backward", [SS2DKernelInputs, _SS2DBackwardInputs], _backward, _backward_fake, outputs=6
)


def _sizes(scan: SS2DKernelInputs, split_channels: bool) -> SS2DSizes:
    """Sizes of a scan, cut so that every thread has a task: by directions, and when these run out by channels."""
    batch, H, W, channels = scan.x.shape
    blocks, threads = channels // LANES, torch.get_num_threads()
    # As few slots as the threads allow: each is one more output to write and to add up.
    slots = next((n for n in (1, 2) if batch * n >= threads), DIRECTIONS)
    blocks_per_task = blocks
    if split_channels:
        parts = -(-threads // (batch * slots))
        blocks_per_task = max(1, blocks // parts)
    R, N = scan.dt_projs_weight.shape[2], scan.A.shape[1]
    return SS2DSizes(
        batch, H, W, N=N, R=R, width=padded(R + 2 * N), blocks=blocks, blocks_per_task=blocks_per_task, slots=slots
    )


def _tasks(sizes: SS2DSizes) -> int:
    return sizes.slots * sizes.batch * -(-sizes.blocks // sizes.blocks_per_task)


def _parameters(scan: SS2DKernelInputs) -> SS2DParameters:
    tensors = (
        scan.x_proj_weight, scan.dt_projs_weight.transpose(1, 2), scan.dt_projs_bias, pack(scan.A) * LOG2_E, scan.D,
    )  # fmt: skip
    return SS2DParameters(*(flat(x.contiguous()) for x in tensors))


def _merged(slots: Tensor) -> Tensor:
    """The sum of what the directions left in their slots, (slots, B, H, W, D)."""
    # In pairs: several times as fast as a reduction over the first dimension.
    return functools.reduce(torch.add, slots.unbind())
