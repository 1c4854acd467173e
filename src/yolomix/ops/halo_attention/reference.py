"""Halo attention, the specification: float64, a loop over the cells, keys picked by their coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from yolomix.ops.halo_attention.inputs import HaloAttentionInputs


def refusals(inputs: HaloAttentionInputs) -> list[str]:
    """It takes everything."""
    return []


def run(inputs: HaloAttentionInputs) -> Tensor:
    """The equation of :mod:`yolomix.ops.halo_attention`, cell by cell; shapes as there."""
    q, k, v, rel_height, rel_width, heads, block, halo, mask_padding = inputs
    H, W = q.shape[2:]
    side = block + 2 * halo
    qh, kh, vh = (torch.unflatten(t.double(), 1, (heads, -1)) for t in (q, k, v))  # (B, heads, d, H, W)
    first = side - 1 + halo
    cells = []
    for i in range(H):
        for j in range(W):
            rows, columns = (_span(n, block, halo) for n in (i, j))
            pairs = [(a, c) for a in rows for c in columns]
            if mask_padding:
                pairs = [(a, c) for a, c in pairs if 0 <= a < H and 0 <= c < W]
            keys, values = (_pick(t, pairs) for t in (kh, vh))  # (B, heads, d, K)
            height = rel_height.double()[[a - i + first for a, _ in pairs]]  # (K, d)
            width = rel_width.double()[[c - j + first for _, c in pairs]]
            query = qh[..., i, j]  # (B, heads, d)
            logit = torch.einsum("bhd,bhdk->bhk", query, keys) + query @ (height + width).mT
            weight = (logit * qh.shape[2] ** -0.5).softmax(-1)
            cells.append(torch.einsum("bhk,bhdk->bhd", weight, values).flatten(1))
    return torch.stack(cells, dim=-1).reshape(v.shape).to(v.dtype)


def _span(n: int, block: int, halo: int) -> range:
    """The rows (or columns) that a cell in row (or column) n sees."""
    start = n // block * block
    return range(start - halo, start + block + halo)


def _pick(t: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """The cells at the given coordinates, (B, heads, d, K); zero outside the map."""
    H, W = t.shape[-2:]
    zero = torch.zeros_like(t[..., 0, 0])
    return torch.stack([t[..., a, c] if 0 <= a < H and 0 <= c < W else zero for a, c in pairs], dim=-1)
