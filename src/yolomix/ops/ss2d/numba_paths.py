"""SS2D on CPU: the way of a direction through the map, and what the kernels compute of the cells on it.

The map is (B, L, D) in memory, channels last. A cell's *row* is its projection for one direction: the R numbers of
delta, then B, then C, then nothing up to a whole number of vectors. Rows exist for one tile at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yolomix.ops._numba.jit import helper
from yolomix.ops._numba.layout import TILE, aligned
from yolomix.ops._numba.product import multiply
from yolomix.ops._numba.simd import LANES, fma, load, spread, transpose

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

DIRECTIONS = 4


class Sizes(NamedTuple):
    """Of the map, the states, delta's rank and a row; channel blocks, how many a task takes; tasks per directions."""

    batch: int
    H: int
    W: int
    N: int
    R: int
    row: int
    blocks: int
    chunk: int
    slots: int


class Parameters(NamedTuple):
    """Per direction: projection to rows (4, R + 2N, D), that of delta (4, R, D), bias, ``rates`` packed, and D."""

    rows: np.ndarray
    dt: np.ndarray
    bias: np.ndarray
    rates: np.ndarray
    D: np.ndarray


class Path(NamedTuple):
    """A tile of a direction: where its cells lie in a (B, L, D) map, and their rows.

    ``weights`` (D, row) project a cell to its row. ``row_at`` and ``channel_at`` are where rows of matrices begin that
    are as wide as a row and as all channels; ``numbers`` counts.
    """

    cells: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    numbers: np.ndarray
    row_at: np.ndarray
    channel_at: np.ndarray


@helper
def new_path(sizes):
    """Memory for a path."""
    D = sizes.blocks * LANES
    numbers = np.arange(max(D, TILE, sizes.row))
    return Path(
        np.empty(TILE, np.int64), aligned(TILE * sizes.row), aligned(D * sizes.row),
        numbers, numbers * sizes.row, numbers * D,
    )  # fmt: skip


@helper
def task_part(sizes, task):
    """Of a task: first direction, batch entry, first channel block and the one after its last."""
    parts = -(-sizes.blocks // sizes.chunk)
    slot, rest = divmod(task, sizes.batch * parts)
    b, part = divmod(rest, parts)
    return slot, b, part * sizes.chunk, min((part + 1) * sizes.chunk, sizes.blocks)


@helper
def visit(cells, sizes, b, direction, step, steps):
    """The cells, as where they lie in a (B, L, D) map, that a direction visits from a step on; no division per cell."""
    H, W, D, start = sizes.H, sizes.W, sizes.blocks * LANES, b * sizes.H * sizes.W
    forth, place = 1, step
    if direction >= 2:
        forth, place = -1, H * W - 1 - step
    if direction % 2 == 0:
        for t in range(steps):
            cells[t] = (start + place + forth * t) * D
        return
    column, row = divmod(place, H)
    for t in range(steps):
        cells[t] = (start + row * W + column) * D
        row += forth
        if row == H or row < 0:
            row, column = (0, column + 1) if row == H else (H - 1, column - 1)


@helper
def enter(path, parameters, sizes, direction):
    """Turn the projection to rows so that the numbers of a row lie side by side."""
    D, length = sizes.blocks * LANES, sizes.R + 2 * sizes.N
    whole, start = length - length % LANES, direction * length * D
    path.weights[:] = 0
    for d in range(0, D, LANES):
        for i in range(0, whole, LANES):
            transpose(parameters.rows, start + i * D + d, D, path.weights, d * sizes.row + i, sizes.row)
    for i in range(whole, length):
        for d in range(D):
            path.weights[d * sizes.row + i] = parameters.rows[start + i * D + d]


@helper
def walk(path, x, sizes, b, direction, step, steps):
    """Find the cells of a tile and project them."""
    visit(path.cells, sizes, b, direction, step, steps)
    D = sizes.blocks * LANES
    multiply(x, path.cells, 1, path.weights, path.row_at, path.rows, path.row_at, steps, D, sizes.row, False)


@helper
def four_deltas(path, parameters, sizes, direction, channel, t):
    """Delta of a block before softplus at four steps, which share a load of the weights; junk past the last step."""
    R, D, length = sizes.R, sizes.blocks * LANES, sizes.row
    d0 = d1 = d2 = d3 = load(parameters.bias, direction * D + channel)
    weights, i = direction * R * D + channel, t * length
    for r in range(R):
        w = load(parameters.dt, weights + r * D)
        d0 = fma(w, spread(path.rows, i + r), d0)
        d1 = fma(w, spread(path.rows, i + r + length), d1)
        d2 = fma(w, spread(path.rows, i + r + 2 * length), d2)
        d3 = fma(w, spread(path.rows, i + r + 3 * length), d3)
    return d0, d1, d2, d3
