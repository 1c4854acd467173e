"""A tiny problem for the self-test of backends: two groups, both remainders of the kernels' inner loops, a tail."""

from __future__ import annotations

import torch
from torch import Tensor

from yolomix.ops.selective_scan.inputs import ScanInputs


def inputs(device: str) -> ScanInputs:
    """Inputs for any backend; no random values are drawn.

    >>> inputs("cpu").B.shape
    torch.Size([1, 2, 7, 19])
    """

    def waves(*shape: int, rate: float) -> Tensor:
        count = torch.Size(shape).numel()
        return torch.sin(rate * torch.arange(1, count + 1, device=device)).reshape(shape)

    batch, D, N, L = 1, 36, 7, 19
    u, delta, z = waves(batch, D, L, rate=0.7), waves(batch, D, L, rate=1.3), waves(batch, D, L, rate=2.1)
    B, C = waves(batch, 2, N, L, rate=0.9), waves(batch, 2, N, L, rate=1.7)
    A = -torch.exp(waves(D, N, rate=0.3))
    skip, bias = waves(D, rate=1.1), waves(D, rate=0.4)
    return ScanInputs(u, delta, A, B, C, skip, z, bias, delta_softplus=True)
