"""SS2D on CPU in Numba, forward and backward: what PyTorch sees of the kernels in ``numba_kernels``.

Two registered operators, ``yolomix::ss2d_numba`` and its backward. They take the map in float32 and channels in whole
vectors; ``run`` brings everything else into this form with PyTorch's own operations, which have their own gradients.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops._numba import pool
from yolomix.ops._numba.layout import flat, pack, padded, tiles, unpack
from yolomix.ops._numba.register import operator, refuse_second_derivative
from yolomix.ops._numba.simd import LANES
from yolomix.ops._numba.vecmath import LOG2_E
from yolomix.ops.ss2d.inputs import SS2DInputs
from yolomix.ops.ss2d.numba_kernels import Grads, backward, forward
from yolomix.ops.ss2d.numba_paths import DIRECTIONS, Parameters, Sizes


def refusals(inputs: SS2DInputs) -> list[str]:
    """Only float32 or narrower."""
    return [f"it computes in float32, which is less than {inputs.x.dtype}"] if inputs.x.dtype == torch.float64 else []


def run(inputs: SS2DInputs) -> Tensor:
    """The sum of the four scans, (B, D, H, W) in channels-last memory; arguments as in ``ss2d``."""
    x, x_proj_weight, dt_projs_weight, dt_projs_bias, A, D = inputs
    save = torch.is_grad_enabled() and any(a.requires_grad for a in inputs)
    channels = x.shape[1]
    missing = padded(channels) - channels
    cells = x.float().permute(0, 2, 3, 1)
    if missing:
        cells, x_proj_weight = F.pad(cells, (0, missing)), F.pad(x_proj_weight, (0, missing))
        dt_projs_weight, dt_projs_bias = F.pad(dt_projs_weight, (0, 0, 0, missing)), F.pad(dt_projs_bias, (0, missing))
        A = F.pad(A.reshape(DIRECTIONS, channels, -1), (0, 0, 0, missing)).flatten(0, 1)
        D = F.pad(D.reshape(DIRECTIONS, channels), (0, missing)).flatten()
    y: Tensor = scan(cells.contiguous(), x_proj_weight, dt_projs_weight, dt_projs_bias, A, D, save)[0]
    return y[..., :channels].permute(0, 3, 1, 2)


def _forward(
    cells: Tensor, x_proj_weight: Tensor, dt_projs_weight: Tensor, dt_projs_bias: Tensor, A: Tensor, D: Tensor,
    save: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Out (B, H, W, D), and for the backward pass the states of every tile, else nothing.

    Float32; ``cells`` (B, H, W, D) contiguous with D a multiple of ``LANES``; the others as in ``ss2d``.
    """
    cells = cells.contiguous()
    sizes = _sizes(cells, dt_projs_weight, A, split_channels=True)
    states = cells.new_zeros(DIRECTIONS, sizes.batch, sizes.blocks, sizes.N, LANES)
    saved = _saved(cells, A, save)
    out = cells.new_empty(sizes.slots, *cells.shape)
    parameters = _parameters(x_proj_weight, dt_projs_weight, dt_projs_bias, A, D)
    pool.run(forward, (flat(cells), parameters, flat(out), flat(states), flat(saved), sizes, save), _tasks(sizes))
    return _merged(out), saved


def _forward_fake(
    cells: Tensor, x_proj_weight: Tensor, dt_projs_weight: Tensor, dt_projs_bias: Tensor, A: Tensor, D: Tensor,
    save: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return cells.new_empty(cells.shape), _saved(cells, A, save)


def _backward(
    out_grad: Tensor, cells: Tensor, x_proj_weight: Tensor, dt_projs_weight: Tensor, dt_projs_bias: Tensor, A: Tensor,
    D: Tensor, saved: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the first six arguments of ``_forward``."""
    cells, out_grad = cells.contiguous(), out_grad.contiguous()
    sizes = _sizes(cells, dt_projs_weight, A, split_channels=False)
    batch, channels = sizes.batch, cells.shape[3]
    x_sum, weights_sum = cells.new_empty(sizes.slots, *cells.shape), cells.new_zeros(batch, *x_proj_weight.shape)
    dt_sum = cells.new_zeros(batch, DIRECTIONS, sizes.R, channels)
    bias_sum, D_sum = cells.new_zeros(batch, DIRECTIONS, channels), cells.new_zeros(batch, DIRECTIONS, channels)
    carry = cells.new_zeros(DIRECTIONS, batch, sizes.blocks, sizes.N, LANES)
    A_sum = torch.zeros_like(carry)
    grads = Grads(*(flat(g) for g in (x_sum, weights_sum, dt_sum, bias_sum, D_sum, carry, A_sum)))
    parameters = _parameters(x_proj_weight, dt_projs_weight, dt_projs_bias, A, D)
    args = flat(cells), parameters, flat(saved), flat(out_grad), grads, sizes
    pool.run(backward, args, _tasks(sizes))
    dt_grad = dt_sum.sum(0).transpose(1, 2).contiguous()
    A_grad = A.new_empty(A.shape).copy_(unpack(A_sum.sum(1)).flatten(0, 1))
    return _merged(x_sum), weights_sum.sum(0), dt_grad, bias_sum.sum(0), A_grad, D_sum.sum(0).flatten()


def _backward_fake(
    out_grad: Tensor, cells: Tensor, x_proj_weight: Tensor, dt_projs_weight: Tensor, dt_projs_bias: Tensor, A: Tensor,
    D: Tensor, saved: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    x_grad, weight_grad, dt_grad, bias_grad, A_grad, D_grad = (
        t.new_empty(t.shape) for t in (cells, x_proj_weight, dt_projs_weight, dt_projs_bias, A, D)
    )
    return x_grad, weight_grad, dt_grad, bias_grad, A_grad, D_grad


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, saved = output
    ctx.save_for_backward(*inputs[:6], saved)
    ctx.mark_non_differentiable(saved)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, out_grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    refuse_second_derivative("ss2d")
    return *scan_backward(out_grad, *ctx.saved_tensors), None


scan = operator("ss2d_numba", _forward, _forward_fake)
scan_backward = operator("ss2d_numba_backward", _backward, _backward_fake)
torch.library.register_autograd("yolomix::ss2d_numba", _differentiate, setup_context=_save_for_backward)


def _saved(cells: Tensor, A: Tensor, save: bool) -> Tensor:
    """Memory for the states before every tile."""
    batch, H, W, channels = cells.shape
    shape = (DIRECTIONS, batch, channels // LANES, tiles(H * W), A.shape[1], LANES)
    return cells.new_empty(shape if save else (0,))


def _sizes(cells: Tensor, dt_projs_weight: Tensor, A: Tensor, split_channels: bool) -> Sizes:
    """Sizes of a scan, cut so that every thread has a task: by directions, and when these run out by channels."""
    batch, H, W, channels = cells.shape
    blocks, threads = channels // LANES, torch.get_num_threads()
    slots = next((n for n in (1, 2) if batch * n >= threads), DIRECTIONS)
    chunk = max(1, blocks // -(-threads // (batch * slots))) if split_channels else blocks
    R, N = dt_projs_weight.shape[2], A.shape[1]
    return Sizes(batch, H, W, N=N, R=R, row=padded(R + 2 * N), blocks=blocks, chunk=chunk, slots=slots)


def _tasks(sizes: Sizes) -> int:
    return sizes.slots * sizes.batch * -(-sizes.blocks // sizes.chunk)


def _parameters(
    x_proj_weight: Tensor, dt_projs_weight: Tensor, dt_projs_bias: Tensor, A: Tensor, D: Tensor
) -> Parameters:
    tensors = x_proj_weight, dt_projs_weight.transpose(1, 2), dt_projs_bias, pack(A) * LOG2_E, D
    return Parameters(*(flat(tensor.contiguous()) for tensor in tensors))


def _merged(parts: Tensor) -> Tensor:
    """The sum of what the directions left apart, (slots, ...)."""
    return functools.reduce(torch.add, parts.unbind())
