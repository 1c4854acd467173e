"""Halo attention: blocks of queries attend to their block and a border around it (HaloNet, arXiv:2103.12731).

The map is cut into blocks of b x b cells. A query at (i, j) of the block with corner (i0, j0) sees the keys::

    K(i, j) = { (a, c) : i0 - s <= a < i0 + b + s,  j0 - s <= c < j0 + b + s,  0 <= a < H,  0 <= c < W }

with halo s, and with window side w = b + 2s and head width d, per head::

    logit = ( q . k + q . (rel_height[a - i + w - 1 + s] + rel_width[c - j + w - 1 + s]) ) / sqrt(d)
    o     = sum over K(i, j) of softmax(logit) v

Cells outside the map do not exist. ``mask_padding=False`` is what timm computes: cells outside take part with
k = v = 0, so near the border part of the weight goes to nothing.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor

from yolomix.ops.dispatch import Backend, choose, exporting
from yolomix.ops.halo_attention.inputs import HaloAttentionInputs
from yolomix.ops.precision import full_precision

BACKENDS = (
    Backend("eager", "yolomix.ops.halo_attention.eager"),
    Backend("reference", "yolomix.ops.halo_attention.reference", automatic=False),
)


def halo_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    heads: int,
    block: int,
    halo: int,
    mask_padding: bool = True,
    *,
    backend: str = "auto",
) -> Tensor:
    """Attention inside blocks with a border; see the module's description for the equation.

    Args:
        q: projected queries, (B, I, H, W), any H and W >= 1; head m owns channels m * I / heads and following.
        k: projected keys, (B, I, H, W).
        v: projected values, (B, I, H, W).
        rel_height: table of relative rows, (2w - 1, I / heads); the first 2 * halo lines are unused.
        rel_width: table of relative columns, as ``rel_height``.
        heads: number of heads.
        block: block side b, in cells, >= 1.
        halo: border width s, in cells, >= 0.
        mask_padding: whether cells outside the map are left out of the softmax.
        backend: "auto", "eager" or "reference".

    Returns: (B, I, H, W) in the type of v; computed in float32, or float64 for float64, with autocast off.

    Raises:
        ValueError: a shape or size does not fit.
    """
    if not exporting():  # sizes may be symbols there
        check(q, k, v, rel_height, rel_width, heads, block, halo)
    inputs = HaloAttentionInputs(q, k, v, rel_height, rel_width, heads, block, halo, mask_padding)
    run = choose("halo_attention", BACKENDS, backend, q, inputs)
    with full_precision(q):
        return cast(Tensor, run(inputs))


def check(
    q: Tensor, k: Tensor, v: Tensor, rel_height: Tensor, rel_width: Tensor, heads: int, block: int, halo: int
) -> None:
    """Raise unless the arguments of :func:`halo_attention` fit together."""
    check_sizes(block, halo)
    if q.dim() != 4 or 0 in q.shape or not q.shape == k.shape == v.shape:
        raise ValueError(
            "halo_attention needs q, k and v of one shape (B, I, H, W) with all sizes >= 1, "
            f"got {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    if heads < 1 or q.shape[1] % heads:
        raise ValueError(f"halo_attention needs heads that divide the channels, got {heads} for {q.shape[1]}")
    table = (2 * (block + 2 * halo) - 1, q.shape[1] // heads)
    if tuple(rel_height.shape) != table or tuple(rel_width.shape) != table:
        raise ValueError(
            f"halo_attention needs tables of shape {table} for block={block}, halo={halo} and {heads} heads, "
            f"got {tuple(rel_height.shape)} and {tuple(rel_width.shape)}"
        )


def check_sizes(block: int, halo: int) -> None:
    """Raise unless a block has at least one cell and a halo none or more."""
    if block < 1 or halo < 0:
        raise ValueError(f"halo_attention needs block >= 1 and halo >= 0, in cells, got block={block}, halo={halo}")
