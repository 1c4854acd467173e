"""What linear attention takes: one value, checked once, that every backend gets."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class LinearAttentionInputs(NamedTuple):
    """Everything that linear attention depends on. B batch, C channels, H W height and width."""

    q: Tensor  # (B, C, H, W), queries before phi
    k: Tensor  # (B, C, H, W), keys before phi
    v: Tensor  # (B, C, H, W), values
    num_heads: int
