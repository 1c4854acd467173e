"""What halo attention takes: one value, checked once, that every backend gets."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class HaloAttentionInputs(NamedTuple):
    """Everything that halo attention depends on.

    B batch, I inner channels, H W height and width of the feature map, w = block + 2 * halo the window's side.

    >>> import torch
    >>> q, table = torch.ones(1, 8, 3, 5), torch.ones(2 * 4 - 1, 4)
    >>> HaloAttentionInputs(q, q, q, table, table, num_heads=2, block=2, halo=1).mask_padding
    True
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


def check(inputs: HaloAttentionInputs) -> None:
    """Raise unless the inputs of halo attention fit together.

    >>> import torch
    >>> q, table = torch.ones(1, 8, 3, 5), torch.ones(7, 4)
    >>> check(HaloAttentionInputs(q, q, q, table, table, num_heads=3, block=2, halo=1))
    Traceback (most recent call last):
    ValueError: halo_attention needs num_heads that divides the channels, got 3 for 8
    """
    q, k, v, rel_height, rel_width, num_heads, block, halo, _ = inputs
    check_sizes(block, halo)
    if q.dim() != 4 or 0 in q.shape or not q.shape == k.shape == v.shape:
        raise ValueError(
            "halo_attention needs q, k and v of one shape (B, I, H, W) with all sizes >= 1, "
            f"got {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    if num_heads < 1 or q.shape[1] % num_heads:
        raise ValueError(f"halo_attention needs num_heads that divides the channels, got {num_heads} for {q.shape[1]}")
    table = (2 * (block + 2 * halo) - 1, q.shape[1] // num_heads)
    if tuple(rel_height.shape) != table or tuple(rel_width.shape) != table:
        raise ValueError(
            f"halo_attention needs tables of shape {table} for block={block}, halo={halo} and {num_heads} heads, "
            f"got {tuple(rel_height.shape)} and {tuple(rel_width.shape)}"
        )


def check_sizes(block: int, halo: int) -> None:
    """Raise unless a block has at least one position and a halo none or more.

    >>> check_sizes(block=0, halo=1)
    Traceback (most recent call last):
    ValueError: halo_attention needs block >= 1 and halo >= 0, in positions, got block=0, halo=1
    """
    if block < 1 or halo < 0:
        raise ValueError(f"halo_attention needs block >= 1 and halo >= 0, in positions, got block={block}, halo={halo}")
