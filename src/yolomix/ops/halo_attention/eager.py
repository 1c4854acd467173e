"""Halo attention in plain PyTorch: all blocks of all heads as one batch of small products.

Blocks and windows are gathered position by position through index lists: a gather's gradient is several times cheaper
than that of overlapping views, and positions outside the map need no padded copy. Plain products are used, and not
``scaled_dot_product_attention``: with a bias per query and so few keys it takes up to twice the time on a CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from yolomix.ops.halo_attention.inputs import HaloAttentionInputs
from yolomix.ops.precision import accum_dtype

CLOSED = -1e30  # not -inf: where row and column are both outside two are added, which has to stay finite in float32


class _Plan(NamedTuple):
    """Which positions every block reads, numbered row by row; those outside the map stand for their nearest.

    n blocks of b x b positions, nH under each other and nW beside each other, with windows of w x w.
    """

    queries: Tensor  # (n * b * b,)
    keys: Tensor  # (n * w * w,)
    back: Tensor  # (L,): where in the queries' order each position is
    rows_outside: Tensor  # (nH, w), true for window rows outside the map
    columns_outside: Tensor  # (nW, w)


def refusals(inputs: HaloAttentionInputs) -> list[str]:
    """It takes everything."""
    return []


def run(inputs: HaloAttentionInputs) -> Tensor:
    """Gather blocks and windows, attend, gather the positions back: (B, I, H, W).

    >>> q, table = torch.ones(1, 8, 3, 5), torch.ones(7, 4)
    >>> run(HaloAttentionInputs(q, q, q, table, table, num_heads=2, block=2, halo=1)).shape
    torch.Size([1, 8, 3, 5])
    """
    q, k, v, rel_height, rel_width, num_heads, block, halo, mask_padding = inputs
    dtype = accum_dtype(q.dtype)
    plan = _plan(q.shape[2], q.shape[3], block, halo, q.device)
    scale = (q.shape[1] // num_heads) ** -0.5
    nH, nW = plan.rows_outside.shape[0], plan.columns_outside.shape[0]
    queries = _heads(q, num_heads, dtype).index_select(2, plan.queries)
    queries = torch.unflatten(queries, 2, (nH, nW, block, block))  # (B, heads, nH, nW, b, b, d)
    keys, values = (_heads(t, num_heads, dtype).index_select(2, plan.keys) for t in (k, v))
    keys, values = (torch.unflatten(t, 2, (nH, nW, -1)) for t in (keys, values))  # (B, heads, nH, nW, w*w, d)
    down = _relative(queries, rel_height.to(dtype) * scale, block, halo)  # (B, heads, nH, nW, b, b, w)
    across = _relative(queries.transpose(-3, -2), rel_width.to(dtype) * scale, block, halo).transpose(-3, -2)
    if mask_padding:
        down = down.masked_fill(plan.rows_outside[:, None, None, None], CLOSED)
        across = across.masked_fill(plan.columns_outside[:, None, None], CLOSED)
    else:
        outside = plan.rows_outside[:, None, :, None] | plan.columns_outside[:, None]  # (nH, nW, w, w)
        keys, values = (t.masked_fill(outside.flatten(2)[..., None], 0.0) for t in (keys, values))
    bias = (down[..., None] + across[..., None, :]).flatten(-2).flatten(-3, -2)  # (B, heads, nH, nW, b*b, w*w)
    logits = scale * queries.flatten(-3, -2) @ keys.transpose(-2, -1) + bias
    out = (logits.softmax(-1) @ values).flatten(2, 4).index_select(2, plan.back)  # (B, heads, L, d)
    return out.transpose(2, 3).reshape(q.shape).to(v.dtype)


def _heads(t: Tensor, num_heads: int, dtype: torch.dtype) -> Tensor:
    """(B, I, H, W) as (B, heads, L, d)."""
    return torch.unflatten(t.flatten(2), 1, (num_heads, -1)).transpose(2, 3).to(dtype)


def _plan(H: int, W: int, block: int, halo: int, device: torch.device) -> _Plan:
    """The index lists for a feature map of H x W positions."""
    rows, columns = torch.arange(H, device=device), torch.arange(W, device=device)
    tops, lefts = rows[::block, None], columns[::block, None]
    in_window, in_block = torch.arange(-halo, block + halo, device=device), torch.arange(block, device=device)
    window_rows, window_columns = tops + in_window, lefts + in_window
    back_rows = rows // block * lefts.shape[0] * block * block + rows % block * block
    back_columns = columns // block * block * block + columns % block
    return _Plan(
        queries=_numbers(tops + in_block, lefts + in_block, H, W),
        keys=_numbers(window_rows, window_columns, H, W),
        back=(back_rows[:, None] + back_columns).flatten(),
        rows_outside=(window_rows < 0) | (window_rows >= H),
        columns_outside=(window_columns < 0) | (window_columns >= W),
    )


def _numbers(rows: Tensor, columns: Tensor, H: int, W: int) -> Tensor:
    """Numbers of the positions in given rows (nH, a) and columns (nW, a): (nH * nW * a * a,)."""
    return (rows.clamp(0, H - 1)[:, None, :, None] * W + columns.clamp(0, W - 1)[:, None]).flatten()


def _relative(queries: Tensor, table: Tensor, block: int, halo: int) -> Tensor:
    """Products of each query with the table rows of the window's rows: (..., b, b', d) -> (..., b, b', w).

    Row a of the window (from 0) is a - halo - i rows below query row i: row a - i + w - 1 of the table.
    """
    window = block + 2 * halo
    used = queries @ table[2 * halo :].T  # (..., b, b', 2w - 1 - 2 * halo)
    return torch.stack([used[..., i, :, block - 1 - i : block - 1 - i + window] for i in range(block)], dim=-3)
