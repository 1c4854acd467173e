"""From the operators' tensors to what the kernels read, and back: sequences (B, D, L), rows, parameters."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops._triton.plan import Sizes


def channel_last(x: Tensor) -> Tensor:
    """(B, D, L) as contiguous (B, L, D): the memory itself if that is its order, else a copy."""
    return x.transpose(1, 2).contiguous()


def empty_sequences(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Room for values of (B, D, L), as contiguous (B, L, D)."""
    batch, channels, length = x.shape
    return x.new_empty((batch, length, channels), dtype=dtype or x.dtype)


def rows(B: Tensor, C: Tensor, sizes: Sizes) -> Tensor:
    """B and C of every step side by side, (B, L, G, 2N) float32, zero where N pads the states."""
    out = B.new_empty((sizes.batch, sizes.length, sizes.groups, 2, sizes.N), dtype=torch.float32)
    out[..., sizes.states :] = 0
    for part, matrix in enumerate((B, C)):
        grouped = matrix if matrix.dim() == 4 else matrix[:, None]
        by_step = grouped.permute(0, 3, 1, 2)  # (B, L, G', N)
        shared = sizes.groups // by_step.shape[2]
        for i in range(shared):
            out[:, :, i::shared, part, : sizes.states] = by_step
    return out.flatten(3)


def groups(B: Tensor, C: Tensor) -> int:
    """Groups of channels that share both B and C."""
    return math.lcm(*(int(m.shape[1]) for m in (B, C) if m.dim() == 4))


def matrix_gradient(found: Tensor, part: int, matrix: Tensor, sizes: Sizes) -> Tensor:
    """Gradient of B (part 0) or C (part 1), in its shape and type, from gradients of the rows (B, L, G, 2N)."""
    own_part = found[..., part * sizes.N :][..., : sizes.states]
    grad = own_part.permute(0, 2, 3, 1)  # (B, G, N, L)
    own = int(matrix.shape[1]) if matrix.dim() == 4 else 1
    if own != sizes.groups:
        grad = grad.reshape(sizes.batch, own, -1, *grad.shape[2:]).sum(2)
    return matrix.new_empty(matrix.shape).copy_(grad if matrix.dim() == 4 else grad[:, 0])


def rates(A: Tensor) -> Tensor:
    """Decay rates (D, N) as the kernels read them, (N, D) float32."""
    return A.float().t().contiguous()


def rates_gradient(found: Tensor, A: Tensor) -> Tensor:
    """Gradient of A from (B, G, chunks, channels, N)."""
    return found.sum((0, 2))[..., : A.shape[1]].reshape(A.shape).to(A.dtype).contiguous()


def channel_gradient(found: Tensor, parameter: Tensor | None) -> Tensor:
    """Gradient of one number per channel from (B, G, chunks, channels); no elements without the parameter."""
    if parameter is None:
        return found.new_empty(0)
    return found.sum((0, 2)).reshape(parameter.shape).to(parameter.dtype)


def state_out(state: Tensor, states: int) -> Tensor:
    """The last state (B, D, N) from the kernel's (B, G, N, channels)."""
    return state[:, :, :states].transpose(2, 3).flatten(1, 2)


def state_in(state: Tensor, sizes: Sizes) -> Tensor:
    """The kernel's form of (B, D, N): (B, G, N, channels) float32, zeros where N pads the states."""
    grouped = state.float().reshape(sizes.batch, sizes.groups, sizes.channels, sizes.states).transpose(2, 3)
    return F.pad(grouped, (0, 0, 0, sizes.N - sizes.states)).contiguous()
