"""What linear attention takes: one value, checked once, that every backend gets."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

EPSILON = 1e-6  # added to the mean of q . k over the positions, so that the denominator cannot vanish


class LinearAttentionInputs(NamedTuple):
    """Everything that linear attention depends on.

    B batch, C channels, H W height and width of the feature map.

    >>> import torch
    >>> q = torch.ones(1, 8, 3, 5)
    >>> LinearAttentionInputs(q, q, q, num_heads=2).num_heads
    2
    """

    q: Tensor  # (B, C, H, W), queries before phi
    k: Tensor  # (B, C, H, W), keys before phi
    v: Tensor  # (B, C, H, W), values
    num_heads: int


def check(inputs: LinearAttentionInputs) -> None:
    """Raise unless the inputs of linear attention fit together.

    >>> import torch
    >>> q = torch.ones(1, 6, 3, 5)
    >>> check(LinearAttentionInputs(q, q, q, num_heads=2))
    Traceback (most recent call last):
    ValueError: linear_attention needs channels that are a multiple of 4 and of num_heads=2, got C=6; 4 heads fit ...
    """
    q, k, v, num_heads = inputs
    if v.dim() != 4 or 0 in v.shape or not q.shape == k.shape == v.shape:
        raise ValueError(
            "linear_attention needs q, k and v of one shape (B, C, H, W) with all sizes >= 1, "
            f"got {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    C = v.shape[1]
    if C % 4 or num_heads < 1 or C % num_heads:
        raise ValueError(
            f"linear_attention needs channels that are a multiple of 4 and of num_heads={num_heads}, got C={C}; "
            "4 heads fit every multiple of 4"
        )
