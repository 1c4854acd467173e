"""Halo attention in plain PyTorch: all blocks of all heads as one batch of small products."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from yolomix.ops.precision import wide_dtype


def refusals(*args: object) -> list[str]:
    """It takes everything."""
    return []


def run(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    heads: int,
    block: int,
    halo: int,
    mask_padding: bool,
) -> Tensor:
    """Queries cut into blocks, keys and values into overlapping windows; arguments of the public function."""
    H, W = q.shape[2:]
    wide = wide_dtype(q.dtype)
    scale = (q.shape[1] // heads) ** -0.5
    queries = _windows(q, heads, block, 0).to(wide)  # (B, nH, nW, heads, b, b, d)
    keys, values = (_windows(t, heads, block, halo).flatten(-3, -2).to(wide) for t in (k, v))
    down, across = (
        _relative(t, table.to(wide) * scale, block, halo)
        for t, table in ((queries, rel_height), (queries.transpose(-3, -2), rel_width))
    )
    if mask_padding:
        down = down + _closed(H, block, halo, down)[:, None, None, None, None]
        across = across + _closed(W, block, halo, across)[:, None, None, None]
    bias = down[..., None] + across.transpose(-3, -2)[..., None, :]  # (B, nH, nW, heads, b, b, w, w)
    logits = scale * queries.flatten(-3, -2) @ keys.mT + bias.flatten(-2).flatten(-3, -2)
    out = torch.unflatten(logits.softmax(-1) @ values, -2, (block, block))  # (B, nH, nW, heads, b, b, d)
    rows = out.permute(0, 1, 4, 2, 5, 3, 6).flatten(-2).flatten(3, 4).flatten(1, 2)  # (B, nH * b, nW * b, I)
    return rows[:, :H, :W].permute(0, 3, 1, 2).to(v.dtype)


def _windows(t: Tensor, heads: int, block: int, halo: int) -> Tensor:
    """Each block with its border, zero outside the map: (B, I, H, W) -> (B, nH, nW, heads, w, w, d), contiguous."""
    H, W = t.shape[2:]
    side = block + 2 * halo
    cells = t.permute(0, 2, 3, 1)
    cells = F.pad(cells, (0, 0, halo, halo + -W % block, halo, halo + -H % block))
    windows = torch.unflatten(cells.unfold(1, side, block).unfold(2, side, block), 3, (heads, -1))
    return windows.permute(0, 1, 2, 3, 5, 6, 4).contiguous()


def _relative(queries: Tensor, table: Tensor, block: int, halo: int) -> Tensor:
    """Products of each query with the table rows of the window lines: (..., b, b', d) -> (..., b, b', w).

    The line a of the window (from 0) is a - halo - i lines below query line i: row a - i + w - 1 of the table.
    """
    side = block + 2 * halo
    used = queries @ table[2 * halo :].T  # (..., b, b', 2w - 1 - 2 * halo)
    return torch.stack([used[..., i, :, block - 1 - i : block - 1 - i + side] for i in range(block)], dim=-3)


def _closed(length: int, block: int, halo: int, like: Tensor) -> Tensor:
    """0 for the lines of each window inside the map, a very negative number outside, (n, w).

    Two of them still add up to a finite number, and every window of a block has a line inside, so no softmax is empty.
    Computed anew each time: it has only as many numbers as the map has lines, and a graph that is exported needs it.
    """
    starts = torch.arange(0, length, block, device=like.device)[:, None] - halo
    lines = starts + torch.arange(block + 2 * halo, device=like.device)
    outside = (lines < 0) | (lines >= length)
    return torch.zeros(outside.shape, dtype=like.dtype, device=like.device).masked_fill(outside, -1e30)
