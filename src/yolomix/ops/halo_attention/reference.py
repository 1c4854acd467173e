"""Halo attention, the specification: float64, a loop over the positions, keys picked by their coordinates.

Source: HaloNet, arXiv:2103.12731, which has no official code.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yolomix.ops.halo_attention.inputs import HaloAttentionInputs


def refusals(inputs: HaloAttentionInputs) -> list[str]:
    """It takes everything."""
    return []


def run(inputs: HaloAttentionInputs) -> Tensor:
    """The equation of :mod:`yolomix.ops.halo_attention`, position by position: (B, I, H, W).

    >>> q, table = torch.ones(1, 8, 3, 5), torch.ones(7, 4)
    >>> run(HaloAttentionInputs(q, q, q, table, table, num_heads=2, block=2, halo=1)).shape
    torch.Size([1, 8, 3, 5])
    """
    q, k, v, rel_height, rel_width, num_heads, block, halo, mask_padding = inputs
    H, W = q.shape[2:]
    qh, kh, vh = (torch.unflatten(t.double(), 1, (num_heads, -1)) for t in (q, k, v))  # (B, heads, d, H, W)
    first = block + 2 * halo - 1 + halo  # w - 1 + s of the equation
    outputs = []
    for i in range(H):
        for j in range(W):
            seen = _seen(i, j, block, halo)
            if mask_padding:
                seen = [(a, c) for a, c in seen if 0 <= a < H and 0 <= c < W]
            keys, values = _pick(kh, seen), _pick(vh, seen)  # (B, heads, d, K)
            height = rel_height.double()[[a - i + first for a, _ in seen]]  # (K, d)
            width = rel_width.double()[[c - j + first for _, c in seen]]
            query = qh[..., i, j]  # (B, heads, d)
            logit = torch.einsum("bhd,bhdk->bhk", query, keys) + query @ (height + width).mT
            weight = (logit * qh.shape[2] ** -0.5).softmax(-1)
            outputs.append(torch.einsum("bhk,bhdk->bhd", weight, values).flatten(1))
    return torch.stack(outputs, dim=-1).reshape(v.shape).to(v.dtype)


def _seen(i: int, j: int, block: int, halo: int) -> list[tuple[int, int]]:
    """The K coordinates that the query at (i, j) sees, those outside the map as well."""
    top, left = i // block * block, j // block * block
    rows = range(top - halo, top + block + halo)
    columns = range(left - halo, left + block + halo)
    return [(a, c) for a in rows for c in columns]


def _pick(t: Tensor, seen: list[tuple[int, int]]) -> Tensor:
    """The values (B, heads, d, H, W) at the given coordinates, (B, heads, d, K); zero outside the map."""
    H, W = t.shape[-2:]
    picked = []
    for a, c in seen:
        inside = 0 <= a < H and 0 <= c < W
        picked.append(t[..., a, c] if inside else torch.zeros_like(t[..., 0, 0]))
    return torch.stack(picked, dim=-1)
