"""Linear attention, the specification: float64, every pair of cells written out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from yolomix.ops.linear_attention.inputs import EPSILON, LinearAttentionInputs


def refusals(inputs: LinearAttentionInputs) -> list[str]:
    """It takes everything."""
    return []


def run(inputs: LinearAttentionInputs) -> Tensor:
    """The quadratic form of the equation of :mod:`yolomix.ops.linear_attention`; shapes as there."""
    q, k, v, heads = inputs
    B, C, H, W = v.shape
    q, k = (F.elu(t.double()) + 1 for t in (q, k))
    turn = _rotation(C, H, W).to(v.device)  # (C, C, L): a 2x2 matrix for each pair of channels
    split = (B, heads, C // heads, H * W)
    qh, kh, vh = (t.double().reshape(split) for t in (q, k, v))
    q_turned, k_turned = (torch.einsum("cen,ben->bcn", turn, t.flatten(2)).reshape(split) for t in (q, k))
    weight = q_turned.mT @ k_turned / ((qh.mT @ kh).sum(-1, keepdim=True) + H * W * EPSILON)  # (B, heads, L, L)
    return (weight @ vh.mT).mT.reshape(B, C, H, W).to(v.dtype)


def _rotation(C: int, H: int, W: int) -> Tensor:
    """The rotation matrix of every cell, (C, C, L)."""
    turn = torch.zeros(C, C, H, W, dtype=torch.float64)
    rows, columns = torch.meshgrid(torch.arange(H).double(), torch.arange(W).double(), indexing="ij")
    for p in range(C // 2):
        position, k = (rows, p) if p < C // 4 else (columns, p - C // 4)
        angle = position * 10000.0 ** (-k / (C // 4))
        re, im = 2 * p, 2 * p + 1
        turn[re, re], turn[re, im] = angle.cos(), -angle.sin()
        turn[im, re], turn[im, im] = angle.sin(), angle.cos()
    return turn.flatten(2)
