"""Linear attention in plain PyTorch: two small products per head, no L x L matrix."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from yolomix.ops.linear_attention import EPSILON
from yolomix.ops.linear_attention.rope import rotate, turns
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
    d, L = C // heads, H * W
    pairs = (F.elu(qk.to(wide)) + 1).reshape(B, 2, C // 2, 2, L)
    q, k = pairs.reshape(B, 2, heads, d, L).unbind(1)
    q_turned, k_turned = rotate(pairs, *turns(C, H, W, pairs)).reshape(B, 2, heads, d, L).unbind(1)
    values = v.to(wide).reshape(B, heads, d, L)
    total = k.sum(-1)[:, :, None] @ q + L * EPSILON  # (B, heads, 1, L)
    state = values @ k_turned.transpose(-2, -1)  # (B, heads, d, d)
    return (state @ q_turned / total).reshape(B, C, H, W).to(v.dtype)
