"""What halo attention takes: one value, checked once, that every backend gets."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class HaloAttentionInputs(NamedTuple):
    """Everything that halo attention depends on.

    B batch, I inner channels, H W height and width, w = block + 2 * halo.
    """

    q: Tensor  # (B, I, H, W), projected queries
    k: Tensor  # (B, I, H, W), projected keys
    v: Tensor  # (B, I, H, W), projected values
    rel_height: Tensor  # (2w - 1, I / num_heads), relative position table of the rows
    rel_width: Tensor  # (2w - 1, I / num_heads), of the columns
    num_heads: int
    block: int  # side, in positions
    halo: int  # border, in positions
    mask_padding: bool = True
