"""Linear attention in plain PyTorch: two small products per head, no L x L matrix."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from yolomix.ops.linear_attention import EPSILON
from yolomix.ops.linear_attention.rope import rotate
from yolomix.ops.precision import wide_dtype


def refusals(qk: Tensor, v: Tensor, heads: int) -> list[str]:
    """It takes everything."""
    return []


def run(qk: Tensor, v: Tensor, heads: int) -> Tensor:
    """Sum keys with values first, then multiply by the queries; arguments of the public function.

    Channels stay in front of the cells: rotation and sums then run over contiguous rows.
    """
    B, C, H, W = v.shape
    wide = wide_dtype(v.dtype)
    split = (B, 2, heads, C // heads, H * W)
    qk = F.elu(qk.to(wide)) + 1  # (B, 2C, H, W)
    q, k = qk.reshape(split).unbind(1)  # (B, heads, d, L)
    q_turned, k_turned = rotate(torch.unflatten(qk, 1, (2, C))).reshape(split).unbind(1)
    values = v.to(wide).reshape(B, heads, C // heads, H * W)
    total = k.sum(-1, keepdim=True).transpose(-2, -1) @ q + H * W * EPSILON  # (B, heads, 1, L)
    state = values @ k_turned.transpose(-2, -1)  # (B, heads, d, d)
    return (state @ q_turned / total).reshape(B, C, H, W).to(v.dtype)
