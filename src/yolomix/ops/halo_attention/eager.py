"""Halo attention in plain PyTorch: all blocks of all heads as one batch of small products.

Blocks and windows are gathered cell by cell through index lists: a gather's gradient is several times cheaper than
that of overlapping views, and cells outside the map need no padded copy. Plain products are used, and not
``scaled_dot_product_attention``: with a bias per query and so few keys it takes up to twice the time on a CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from yolomix.ops.halo_attention.inputs import HaloAttentionInputs
from yolomix.ops.precision import accum_dtype

CLOSED = -1e30  # two of them still add up to a finite number in float32


class Plan(NamedTuple):
    """Which cells every block reads; cells are numbered row by row, cells outside the map stand for their nearest."""

    queries: Tensor  # (n * b * b,), n blocks
    keys: Tensor  # (n * w * w,)
    back: Tensor  # (L,): where in the queries' order each cell is
    rows_outside: Tensor  # (nH, w), true for window lines outside the map
    columns_outside: Tensor  # (nW, w)


def refusals(inputs: HaloAttentionInputs) -> list[str]:
    """It takes everything."""
    return []


def run(inputs: HaloAttentionInputs) -> Tensor:
    """Gather blocks and windows, attend, gather the cells back; arguments of the public function."""
    q, k, v, rel_height, rel_width, heads, block, halo, mask_padding = inputs
    wide = accum_dtype(q.dtype)
    plan = make_plan(q.shape[2], q.shape[3], block, halo, q.device)
    scale = (q.shape[1] // heads) ** -0.5
    split = [torch.unflatten(t.flatten(2), 1, (heads, -1)).transpose(2, 3).to(wide) for t in (q, k, v)]
    nH, nW = plan.rows_outside.shape[0], plan.columns_outside.shape[0]
    queries = torch.unflatten(split[0].index_select(2, plan.queries), 2, (nH, nW, block, block))
    keys, values = (torch.unflatten(t.index_select(2, plan.keys), 2, (nH, nW, -1)) for t in split[1:])
    down = _relative(queries, rel_height.to(wide) * scale, block, halo)  # (B, heads, nH, nW, b, b, w)
    across = _relative(queries.transpose(-3, -2), rel_width.to(wide) * scale, block, halo).transpose(-3, -2)
    if mask_padding:
        down = down.masked_fill(plan.rows_outside[:, None, None, None], CLOSED)
        across = across.masked_fill(plan.columns_outside[:, None, None], CLOSED)
    else:
        outside = plan.rows_outside[:, None, :, None] | plan.columns_outside[:, None]  # (nH, nW, w, w)
        keys, values = (t.masked_fill(outside.flatten(2)[..., None], 0.0) for t in (keys, values))
    bias = (down[..., None] + across[..., None, :]).flatten(-2).flatten(-3, -2)  # (B, heads, nH, nW, b*b, w*w)
    logits = scale * queries.flatten(-3, -2) @ keys.transpose(-2, -1) + bias
    out = (logits.softmax(-1) @ values).flatten(2, 4).index_select(2, plan.back)  # (B, heads, L, d)
    mixed: Tensor = out.transpose(2, 3).reshape(q.shape)
    return mixed.to(v.dtype)


def make_plan(H: int, W: int, block: int, halo: int, device: torch.device) -> Plan:
    """The index lists for a map of H x W cells."""
    rows, columns = torch.arange(H, device=device), torch.arange(W, device=device)
    tops, lefts = rows[::block, None], columns[::block, None]
    side, step = torch.arange(-halo, block + halo, device=device), torch.arange(block, device=device)
    window_rows, window_columns = tops + side, lefts + side
    back_rows = rows // block * lefts.shape[0] * block * block + rows % block * block
    back_columns = columns // block * block * block + columns % block
    return Plan(
        queries=_cells(tops + step, lefts + step, H, W),
        keys=_cells(window_rows, window_columns, H, W),
        back=(back_rows[:, None] + back_columns).flatten(),
        rows_outside=(window_rows < 0) | (window_rows >= H),
        columns_outside=(window_columns < 0) | (window_columns >= W),
    )


def _cells(rows: Tensor, columns: Tensor, H: int, W: int) -> Tensor:
    """Numbers of the cells in given lines: (nH, a) and (nW, a) -> (nH * nW * a * a,)."""
    return (rows.clamp(0, H - 1)[:, None, :, None] * W + columns.clamp(0, W - 1)[:, None]).flatten()


def _relative(queries: Tensor, table: Tensor, block: int, halo: int) -> Tensor:
    """Products of each query with the table rows of the window lines: (..., b, b', d) -> (..., b, b', w).

    Line a of the window (from 0) is a - halo - i lines below query line i: row a - i + w - 1 of the table.
    """
    side = block + 2 * halo
    used = queries @ table[2 * halo :].T  # (..., b, b', 2w - 1 - 2 * halo)
    return torch.stack([used[..., i, :, block - 1 - i : block - 1 - i + side] for i in range(block)], dim=-3)
