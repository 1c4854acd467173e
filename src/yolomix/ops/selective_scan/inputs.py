"""What a selective scan takes: one value, checked once, that every backend gets."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ScanInputs(NamedTuple):
    """Everything that a selective scan depends on.

    B batch, D inner channels, L time steps, N state size, G groups.
    """

    u: Tensor  # (B, D, L)
    delta: Tensor  # (B, D, L), step sizes before bias and softplus
    A: Tensor  # (D, N), decay rates, real or complex
    B: Tensor  # (D, N), (B, N, L) or (B, G, N, L); last size 2L beside complex A
    C: Tensor  # as B
    D: Tensor | None = None  # (D,), skip weight
    z: Tensor | None = None  # (B, D, L), gate
    delta_bias: Tensor | None = None  # (D,)
    delta_softplus: bool = False
    return_last_state: bool = False
