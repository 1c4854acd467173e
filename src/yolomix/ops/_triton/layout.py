"""From the operators' tensors to what the kernels read, and back: sequences (B, D, L), rows, parameters."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops._triton.launch import Lanes
from yolomix.ops._triton.plan import Sizes


def channel_last(x: Tensor) -> Tensor:
    """(B, D, L) with the channels next to each other in memory: the tensor itself, or a copy."""
    return x if x.stride(1) == 1 or x.shape[1] == 1 else x.transpose(1, 2).contiguous().transpose(1, 2)


def empty_sequences(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Room for (B, D, L) values with the channels next to each other in memory, as kernels write them."""
    batch, channels, length = x.shape
    return x.new_empty(batch, length, channels, dtype=dtype or x.dtype).transpose(1, 2)


def lanes(x: Tensor, sizes: Sizes) -> Lanes:
    """(B, D, L) with the channels next to each other, as groups of channels."""
    return Lanes(x, x.stride(0), x.stride(2), sizes.channels)


def rows(B: Tensor, C: Tensor, sizes: Sizes) -> Tensor:
    """B and C of every step side by side, (B, L, G, 2N) float32, zero where N pads the states."""
    make = torch.empty if sizes.N == sizes.states else torch.zeros
    out = make(sizes.batch, sizes.length, sizes.groups, 2, sizes.N, dtype=torch.float32, device=B.device)
    for part, matrix in enumerate((B, C)):
        grouped = matrix if matrix.dim() == 4 else matrix[:, None]
        by_step = grouped.permute(0, 3, 1, 2)  # (B, L, G', N)
        out[:, :, :, part, : sizes.states] = by_step.repeat_interleave(sizes.groups // by_step.shape[2], dim=2)
    return out.flatten(3)


def groups(B: Tensor, C: Tensor) -> int:
    """Groups of channels that share both B and C."""
    return math.lcm(*(int(m.shape[1]) for m in (B, C) if m.dim() == 4))


def matrix_gradient(found: Tensor, part: int, matrix: Tensor, sizes: Sizes) -> Tensor:
    """Gradient of B (part 0) or C (part 1), in its shape and type, from gradients of the rows (B, L, G, 2N)."""
    grad = found.unflatten(3, (-1, sizes.N))[:, :, :, part, : sizes.states].permute(0, 2, 3, 1)  # (B, G, N, L)
    own = int(matrix.shape[1]) if matrix.dim() == 4 else 1
    if own != sizes.groups:
        grad = grad.unflatten(1, (own, -1)).sum(2)
    return matrix.new_empty(matrix.shape).copy_(grad if matrix.dim() == 4 else grad[:, 0])


def rates(A: Tensor) -> Tensor:
    """Decay rates (D, N) as the kernels read them, (N, D) float32."""
    return A.float().t().contiguous()


def rates_gradient(found: Tensor, A: Tensor) -> Tensor:
    """Gradient of A from (B, G, chunks, channels, N)."""
    return found.sum((0, 2))[..., : A.shape[1]].reshape(A.shape).to(A.dtype)


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
    grouped = state.float().unflatten(1, (sizes.groups, sizes.channels)).transpose(2, 3)
    return F.pad(grouped, (0, 0, 0, sizes.N - sizes.states)).contiguous()
