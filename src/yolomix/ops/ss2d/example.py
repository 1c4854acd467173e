"""A tiny problem for the self-test of backends: a feature map of 4 x 5 cells with channels that fill no vector."""

from __future__ import annotations

import torch
from torch import Tensor

from yolomix.ops.ss2d.inputs import SS2DInputs


def inputs(device: str) -> SS2DInputs:
    """Inputs for any backend; no random values are drawn.

    >>> inputs("cpu").x.shape
    torch.Size([1, 18, 4, 5])
    """

    def waves(*shape: int, rate: float) -> Tensor:
        count = torch.Size(shape).numel()
        return torch.sin(rate * torch.arange(1, count + 1, device=device)).reshape(shape)

    D, N, R = 18, 7, 2
    x, weight = waves(1, D, 4, 5, rate=0.7), 0.2 * waves(4, R + 2 * N, D, rate=1.3)
    A = -torch.exp(waves(4 * D, N, rate=0.3))
    return SS2DInputs(x, weight, waves(4, D, R, rate=0.9), waves(4, D, rate=1.7), A, waves(4 * D, rate=1.1))
