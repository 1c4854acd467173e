"""Linear attention in plain PyTorch: two small products per head, no L x L matrix."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from yolomix.ops.linear_attention.inputs import EPSILON, LinearAttentionInputs
from yolomix.ops.linear_attention.rope import rotate, turns
from yolomix.ops.precision import accum_dtype


def refusals(inputs: LinearAttentionInputs) -> list[str]:
    """It takes everything."""
    return []


def run(inputs: LinearAttentionInputs) -> Tensor:
    """Sum keys with values first, then multiply by the queries: (B, C, H, W).

    Channels stay in front of the positions: rotation and sums then run over contiguous rows.

    >>> import torch
    >>> q = torch.ones(1, 8, 3, 5)
    >>> run(LinearAttentionInputs(q, q, q, num_heads=2)).shape
    torch.Size([1, 8, 3, 5])
    """
    q, k, v, num_heads = inputs
    B, C, H, W = v.shape
    dtype = accum_dtype(v.dtype)
    L, split = H * W, (B, num_heads, C // num_heads, H * W)
    q, k = (F.elu(t.to(dtype)).add_(1).reshape(split) for t in (q, k))
    cos, sin = turns(C, H, W, q)
    q_turned, k_turned = (rotate(t.reshape(B, C // 2, 2, L), cos, sin).reshape(split) for t in (q, k))
    values = v.to(dtype).reshape(split)
    total = k.sum(-1)[:, :, None] @ q + L * EPSILON  # (B, heads, 1, L)
    state = values @ k_turned.transpose(-2, -1)  # (B, heads, d, d)
    return (state @ q_turned / total).reshape(B, C, H, W).to(v.dtype)
