"""Linear attention, the specification: float64, every pair of positions written out (MLLA, arXiv:2405.16605)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from yolomix.ops.linear_attention.inputs import EPSILON, LinearAttentionInputs


def refusals(inputs: LinearAttentionInputs) -> list[str]:
    """It takes everything."""
    return []


def run(inputs: LinearAttentionInputs) -> Tensor:
    """The quadratic form of the equation of :mod:`yolomix.ops.linear_attention`, (B, C, H, W).

    >>> q = torch.ones(1, 8, 3, 5)
    >>> run(LinearAttentionInputs(q, q, q, num_heads=2)).shape
    torch.Size([1, 8, 3, 5])
    """
    q, k, v, num_heads = inputs
    B, C, H, W = v.shape
    q, k = F.elu(q.double()) + 1, F.elu(k.double()) + 1
    turn = _rotation(C, H, W).to(v.device)  # (C, C, L): a 2x2 matrix for each pair of channels
    split = (B, num_heads, C // num_heads, H * W)
    q_turned, k_turned = (torch.einsum("cen,ben->bcn", turn, t.flatten(2)).reshape(split) for t in (q, k))
    qh, kh, vh = (t.double().reshape(split) for t in (q, k, v))
    weight = q_turned.mT @ k_turned / ((qh.mT @ kh).sum(-1, keepdim=True) + H * W * EPSILON)  # (B, heads, L, L)
    return (weight @ vh.mT).mT.reshape(B, C, H, W).to(v.dtype)


def _rotation(C: int, H: int, W: int) -> Tensor:
    """The rotation matrix of every position, (C, C, L)."""
    turn = torch.zeros(C, C, H, W, dtype=torch.float64)
    rows, columns = torch.meshgrid(torch.arange(H).double(), torch.arange(W).double(), indexing="ij")
    for p in range(C // 2):
        position, k = (rows, p) if p < C // 4 else (columns, p - C // 4)
        angle = position * 10000.0 ** (-k / (C // 4))
        re, im = 2 * p, 2 * p + 1
        turn[re, re], turn[re, im] = angle.cos(), -angle.sin()
        turn[im, re], turn[im, im] = angle.sin(), angle.cos()
    return turn.flatten(2)
