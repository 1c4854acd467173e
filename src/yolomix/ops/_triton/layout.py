"""From the operators' tensors to what the kernels read, and back.

What has channels is (B, L, D) contiguous for the kernels, D being all K groups or directions of ``channels`` each. B, C
and the R inputs of Δ are one tensor, ``bcr``: (B, L, K, 2N + R). N and R are the padded ones of ``ScanShape``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops._triton.plan import ScanShape


def channel_last(x: Tensor) -> Tensor:
    """(B, D, L) as contiguous (B, L, D): the memory itself if that is its order, else a copy.

    >>> channel_last(torch.ones(2, 8, 5)).shape
    torch.Size([2, 5, 8])
    """
    return x.transpose(1, 2).contiguous()


def empty_sequences(x: Tensor) -> Tensor:
    """Memory for values like x (B, D, L), as contiguous (B, L, D).

    >>> empty_sequences(torch.ones(2, 8, 5)).shape
    torch.Size([2, 5, 8])
    """
    batch, channels, length = x.shape
    return x.new_empty((batch, length, channels))


def bcr(B: Tensor, C: Tensor, shape: ScanShape) -> Tensor:
    """B and C of every time step next to each other, (B, L, G, 2N) float32, zero where N pads the state size.

    B, C: (B, N, L) or (B, G, N, L); where their groups differ, ``shape`` has those that share both.

    >>> B, C = torch.ones(1, 3, 5), 2 * torch.ones(1, 3, 5)
    >>> bcr(B, C, ScanShape(1, 1, 8, states=3, rank=0, height=1, width=5))[0, 0]
    tensor([[1., 1., 1., 0., 2., 2., 2., 0.]])
    """
    out = B.new_empty((shape.batch, shape.length, shape.groups, 2, shape.N), dtype=torch.float32)
    out[..., shape.states :] = 0
    for part, matrix in enumerate((B, C)):
        grouped = matrix if matrix.dim() == 4 else matrix[:, None]
        by_time = grouped.permute(0, 3, 1, 2)  # (B, L, G', N)
        shared = shape.groups // by_time.shape[2]
        for i in range(shared):
            out[:, :, i::shared, part, : shape.states] = by_time
    return out.flatten(3)


def groups(B: Tensor, C: Tensor) -> int:
    """Groups of channels that share both B and C, each (B, N, L) or (B, G, N, L).

    >>> groups(torch.ones(1, 2, 16, 5), torch.ones(1, 3, 16, 5))
    6
    """
    return math.lcm(*(int(m.shape[1]) for m in (B, C) if m.dim() == 4))


def matrix_gradient(found: Tensor, part: int, matrix: Tensor, shape: ScanShape) -> Tensor:
    """Gradient of B (part 0) or C (part 1), in its own shape and type, from that of ``bcr``, (B, L, G, 2N).

    >>> found = torch.ones(1, 5, 6, 8)
    >>> shape = ScanShape(1, 6, 4, states=3, rank=0, height=1, width=5)
    >>> matrix_gradient(found, 1, torch.ones(1, 2, 3, 5), shape)[0, 0, 0]  # each of its groups is shared by three
    tensor([3., 3., 3., 3., 3.])
    """
    own_part = found[..., part * shape.N :][..., : shape.states]
    grad = own_part.permute(0, 2, 3, 1)  # (B, G, N, L)
    own_groups = int(matrix.shape[1]) if matrix.dim() == 4 else 1
    if own_groups != shape.groups:
        grad = grad.reshape(shape.batch, own_groups, -1, *grad.shape[2:]).sum(2)
    if matrix.dim() == 3:
        grad = grad[:, 0]
    return matrix.new_empty(matrix.shape).copy_(grad)


def rates(A: Tensor) -> Tensor:
    """Decay rates (D, N) as the kernels read them, (N, D) float32.

    >>> rates(torch.ones(8, 3)).shape
    torch.Size([3, 8])
    """
    return A.float().t().contiguous()


def rates_gradient(found: Tensor, A: Tensor) -> Tensor:
    """Gradient of A (D, N) from what the chunks found, (B, G, chunks, channels, N).

    >>> rates_gradient(torch.ones(2, 4, 5, 8, 16), torch.ones(32, 13))[0, 0]
    tensor(10.)
    """
    return found.sum((0, 2))[..., : A.shape[1]].reshape(A.shape).to(A.dtype).contiguous()


def channel_gradient(found: Tensor, parameter: Tensor | None) -> Tensor:
    """Gradient of one value per channel from what the chunks found, (B, G, chunks, channels).

    Without the parameter it has no elements.

    >>> channel_gradient(torch.ones(2, 1, 5, 3), torch.ones(3))
    tensor([10., 10., 10.])
    """
    if parameter is None:
        return found.new_empty(0)
    return found.sum((0, 2)).reshape(parameter.shape).to(parameter.dtype)


def state_out(state: Tensor, states: int) -> Tensor:
    """The last state (B, D, N) from the kernel's (B, G, N, channels), without padding.

    >>> state_out(torch.ones(2, 4, 16, 8), states=13).shape
    torch.Size([2, 32, 13])
    """
    return state[:, :, :states].transpose(2, 3).flatten(1, 2)


def state_in(state: Tensor, shape: ScanShape) -> Tensor:
    """The kernel's form of (B, D, N): (B, G, N, channels) float32, zeros where N pads the state size.

    >>> state_in(torch.ones(2, 32, 13), ScanShape(2, 4, 8, states=13, rank=0, height=1, width=5)).shape
    torch.Size([2, 4, 16, 8])
    """
    grouped = state.float().reshape(shape.batch, shape.groups, shape.channels, shape.states).transpose(2, 3)
    return F.pad(grouped, (0, 0, 0, shape.N - shape.states)).contiguous()
