"""Halo attention: blocks of queries attend to their block and a border around it (HaloNet, arXiv:2103.12731).

The feature map is cut into blocks of b x b positions. A query at (i, j) of the block with corner (i0, j0) sees the
keys::

    K(i, j) = { (a, c) : i0 - s <= a < i0 + b + s,  j0 - s <= c < j0 + b + s,  0 <= a < H,  0 <= c < W }

with halo s, and with window side w = b + 2s and head width d, per head::

    logit = ( q . k + q . (rel_height[a - i + w - 1 + s] + rel_width[c - j + w - 1 + s]) ) / sqrt(d)
    o     = sum over K(i, j) of softmax(logit) v

Positions outside the map do not exist. ``mask_padding=False`` is what timm computes: positions outside take part with
k = v = 0, so near the border part of the weight goes to nothing.
"""

from __future__ import annotations

from torch import Tensor

from yolomix.ops.backend import Backend
from yolomix.ops.dispatch import Operator
from yolomix.ops.halo_attention.inputs import HaloAttentionInputs, check

OPERATOR: Operator[HaloAttentionInputs, Tensor] = Operator(
    "halo_attention",
    (
        Backend("eager", "yolomix.ops.halo_attention.eager"),
        Backend("reference", "yolomix.ops.halo_attention.reference", automatic=False),
    ),
    check,
)


def halo_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    num_heads: int,
    block: int,
    halo: int,
    mask_padding: bool = True,
    *,
    backend: str = "auto",
) -> Tensor:
    """Attention inside blocks with a border; see the module's description for the equation.

    >>> import torch
    >>> from yolomix.ops import halo_attention
    >>> q, table = torch.ones(1, 8, 3, 5), torch.zeros(2 * (2 + 2 * 1) - 1, 8 // 2)
    >>> halo_attention(q, q, q, table, table, num_heads=2, block=2, halo=1).shape
    torch.Size([1, 8, 3, 5])

    Args:
        q: projected queries, (B, I, H, W), any H and W >= 1; head m owns channels m * I / num_heads and following.
        k: projected keys, (B, I, H, W).
        v: projected values, (B, I, H, W).
        rel_height: table of relative rows, (2w - 1, I / num_heads); the first 2 * halo entries are unused.
        rel_width: table of relative columns, as ``rel_height``.
        num_heads: number of heads.
        block: block side b, in positions, >= 1.
        halo: border width s, in positions, >= 0.
        mask_padding: whether positions outside the map are left out of the softmax.
        backend: "auto", "eager" or "reference".

    Returns: (B, I, H, W) in the type of v; computed in float32, or float64 for float64, with autocast off.

    Raises:
        ValueError: a shape or size does not fit.
    """
    inputs = HaloAttentionInputs(q, k, v, rel_height, rel_width, num_heads, block, halo, mask_padding)
    return OPERATOR(inputs, backend)
