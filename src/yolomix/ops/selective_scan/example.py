"""A tiny problem for the self-test of backends: two groups, both remainders of the kernels' inner loops, a tail."""

from __future__ import annotations

import torch
from torch import Tensor

from yolomix.ops.selective_scan.inputs import ScanInputs


def inputs(device: str) -> ScanInputs:
    """Inputs of the operator's backends; no random numbers are drawn."""

    def waves(*shape: int, rate: float) -> Tensor:
        count = torch.Size(shape).numel()
        return torch.sin(rate * torch.arange(1, count + 1, device=device)).reshape(shape)

    batch, D, N, L = 1, 36, 7, 19
    u, delta, z = (waves(batch, D, L, rate=rate) for rate in (0.7, 1.3, 2.1))
    B, C = waves(batch, 2, N, L, rate=0.9), waves(batch, 2, N, L, rate=1.7)
    A = -torch.exp(waves(D, N, rate=0.3))
    return ScanInputs(u, delta, A, B, C, waves(D, rate=1.1), z, waves(D, rate=0.4), delta_softplus=True)
