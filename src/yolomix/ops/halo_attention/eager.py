"""Halo attention in plain PyTorch: all blocks of all heads as one batch of small products.

Blocks and windows are gathered position by position through index lists: a gather's gradient is several times cheaper
than that of overlapping views, and positions outside the map need no padded copy. A graph for elsewhere has slices
instead. Plain products are used, and not ``scaled_dot_product_attention``: with a bias per query and so few keys it
takes up to twice the time on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yolomix.ops.halo_attention import slices
from yolomix.ops.halo_attention.inputs import HaloAttentionInputs
from yolomix.ops.precision import accum_dtype
from yolomix.ops.tracing import exporting

CLOSED = -1e30  # not -inf: where row and column are both outside two are added, which has to stay finite in float32


def refusals(inputs: HaloAttentionInputs) -> list[str]:
    """It takes everything."""
    return []


def run(inputs: HaloAttentionInputs) -> Tensor:
    """Cut blocks and windows, attend, put the blocks together: (B, I, H, W).

    >>> q, table = torch.ones(1, 8, 3, 5), torch.ones(7, 4)
    >>> run(HaloAttentionInputs(q, q, q, table, table, num_heads=2, block=2, halo=1)).shape
    torch.Size([1, 8, 3, 5])
    """
    q, k, v, rel_height, rel_width, num_heads, block, halo, mask_padding = inputs
    dtype = accum_dtype(q.dtype)
    H, W = q.shape[2:]
    scale = (int(q.shape[1]) // num_heads) ** -0.5
    windows = slices.windows if exporting() else _windows
    queries = windows(q.to(dtype), num_heads, block, 0)  # (B, heads * n, b * b, d), n = nH * nW
    keys, values = (windows(t.to(dtype), num_heads, block, halo) for t in (k, v))  # (B, heads * n, w * w, d)
    square = queries.reshape(*queries.shape[:2], block, block, -1)
    down = _relative(square, rel_height.to(dtype) * scale, block, halo)  # (B, heads * n, b, b, w)
    across = _relative(square.transpose(2, 3), rel_width.to(dtype) * scale, block, halo).transpose(2, 3)
    down, across = down.flatten(2, 3), across.flatten(2, 3)  # (B, heads * n, b * b, w)
    rows, columns = _outside(H, block, halo, q), _outside(W, block, halo, q)  # (nH, w) and (nW, w)
    if mask_padding:
        # Added, not filled in: ncnn has no masked_fill. A sum with so large a number is that number.
        closed_rows, closed_columns = CLOSED * rows.to(dtype), CLOSED * columns.to(dtype)
        down = down + _for_every_head(closed_rows[:, None].expand(-1, columns.shape[0], -1), num_heads)
        across = across + _for_every_head(closed_columns.expand(rows.shape[0], -1, -1), num_heads)
    elif not exporting():  # slices have zeros there
        outside = (rows[:, None, :, None] | columns[:, None]).flatten(2).flatten(0, 1)  # (n, w * w)
        keys, values = (t.masked_fill(outside.repeat(num_heads, 1)[..., None], 0.0) for t in (keys, values))
    bias = (down[..., None] + across[..., None, :]).flatten(3)  # (B, heads * n, b * b, w * w)
    logits = scale * queries @ keys.transpose(2, 3) + bias
    together = slices.together if exporting() else _together
    return together(logits.softmax(-1) @ values, num_heads, block, H, W).to(v.dtype)


def _windows(x: Tensor, num_heads: int, block: int, halo: int) -> Tensor:
    """As :func:`slices.windows`, but positions outside the map have the values of their nearest."""
    H, W = x.shape[2:]
    rows, columns = _lines(H, block, halo, x).clamp(0, H - 1), _lines(W, block, halo, x).clamp(0, W - 1)
    numbers = rows[:, None, :, None] * W + columns[:, None]  # (nH, nW, w, w), positions numbered row by row
    tokens = torch.unflatten(x.flatten(2), 1, (num_heads, -1)).transpose(2, 3)  # (B, heads, L, d)
    cut = tokens.index_select(2, numbers.flatten())
    return torch.unflatten(cut, 2, (-1, numbers[0, 0].numel())).flatten(1, 2)


def _together(y: Tensor, num_heads: int, block: int, H: int, W: int) -> Tensor:
    """As :func:`slices.together`."""
    rows, columns = torch.arange(H, device=y.device), torch.arange(W, device=y.device)
    first_of_row = (rows // block * slices.count_blocks(W, block) * block + rows % block) * block
    numbers = first_of_row[:, None] + columns // block * block * block + columns % block  # (H, W), in y's order
    tokens = torch.unflatten(y, 1, (num_heads, -1)).flatten(2, 3)  # (B, heads, n * b * b, d)
    return tokens.index_select(2, numbers.flatten()).transpose(2, 3).reshape(y.shape[0], -1, H, W)


def _lines(length: int, block: int, halo: int, like: Tensor) -> Tensor:
    """The rows or columns of the map that each window has, (n, w); some are outside."""
    n = slices.count_blocks(length, block)
    return block * torch.arange(n, device=like.device)[:, None] + torch.arange(-halo, block + halo, device=like.device)


def _outside(length: int, block: int, halo: int, like: Tensor) -> Tensor:
    """Which rows or columns of each window are outside the map, (n, w)."""
    lines = _lines(length, block, halo, like)
    return ~((lines >= 0) & (lines < length))  # no `|`, which Core ML's converter lacks


def _for_every_head(closed: Tensor, num_heads: int) -> Tensor:
    """(nH, nW, w) as (heads * nH * nW, 1, w)."""
    return closed.flatten(0, 1).repeat(num_heads, 1)[:, None]


def _relative(queries: Tensor, table: Tensor, block: int, halo: int) -> Tensor:
    """Products of each query with the table rows of the window's rows: (..., b, b', d) -> (..., b, b', w).

    Row a of the window (from 0) is a - halo - i rows below query row i: row a - i + w - 1 of the table.
    """
    window = block + 2 * halo
    used = queries @ table[2 * halo :].transpose(0, 1)  # (..., b, b', 2w - 1 - 2 * halo)
    return torch.stack([used[..., i, :, block - 1 - i : block - 1 - i + window] for i in range(block)], dim=-3)
