"""What a 2D selective scan takes: one value, checked once, that every backend gets."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class SS2DInputs(NamedTuple):
    """Everything that a 2D selective scan depends on.

    B batch, D inner channels, H W height and width, N state size, R rank of the Δ projection.
    """

    x: Tensor  # (B, D, H, W), feature map
    x_proj_weight: Tensor  # (4, R + 2N, D)
    dt_projs_weight: Tensor  # (4, D, R)
    dt_projs_bias: Tensor  # (4, D)
    A: Tensor  # (4D, N), decay rates, real
    D: Tensor  # (4D,), skip weights
