"""SS2D on CPU: the way of a direction through the map, and what the kernels gather on it.

The map is (B, L, D) in memory, channels last. ``rows`` is the projection of every cell for all four directions,
(B, L, 4, R + 2N): the R numbers of delta, then B, then C.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yolomix.ops._numba.jit import helper
from yolomix.ops._numba.layout import TILE, aligned
from yolomix.ops._numba.simd import LANES, fma, load, prefetch, spread, store

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

DIRECTIONS = 4


class Sizes(NamedTuple):
    """Of the map, the states and delta's rank; channel blocks, how many a task takes, and tasks per four directions."""

    batch: int
    H: int
    W: int
    N: int
    R: int
    blocks: int
    chunk: int
    slots: int


class Parameters(NamedTuple):
    """Per direction: delta's projection (4, R, D) and bias (4, D), ``rates`` packed, D's weights (4, D)."""

    dt: np.ndarray
    bias: np.ndarray
    rates: np.ndarray
    D: np.ndarray


class Path(NamedTuple):
    """A tile of a direction: its cells as indices in (B, L), those of the next one, and its rows (steps, R + 2N)."""

    cells: np.ndarray
    cells_ahead: np.ndarray
    rows: np.ndarray


@helper
def new_path(sizes):
    """Memory for a path; vectors may be written across its end."""
    return Path(np.empty(TILE, np.int64), np.empty(TILE, np.int64), aligned(TILE * (sizes.R + 2 * sizes.N) + LANES))


@helper
def task_part(sizes, task):
    """Of a task: first direction, batch entry, number of its part of the channels, first block, one after its last."""
    parts = -(-sizes.blocks // sizes.chunk)
    slot, rest = divmod(task, sizes.batch * parts)
    b, part = divmod(rest, parts)
    return slot, b, part, part * sizes.chunk, min((part + 1) * sizes.chunk, sizes.blocks)


@helper
def visit(cells, sizes, b, direction, step, steps):
    """The cells, as indices in (B, L), that a direction visits from a step on; no division per cell."""
    H, W, start = sizes.H, sizes.W, b * sizes.H * sizes.W
    forth, place = 1, step
    if direction >= 2:
        forth, place = -1, H * W - 1 - step
    if direction % 2 == 0:
        for t in range(steps):
            cells[t] = start + place + forth * t
        return
    column, row = divmod(place, H)
    for t in range(steps):
        cells[t] = start + row * W + column
        row += forth
        if row == H or row < 0:
            row, column = (0, column + 1) if row == H else (H - 1, column - 1)


@helper
def walk(path, rows, sizes, b, direction, step, steps):
    """Gather the cells and rows of a tile."""
    visit(path.cells, sizes, b, direction, step, steps)
    length = sizes.R + 2 * sizes.N
    for t in range(steps):
        copy_row(rows, (path.cells[t] * DIRECTIONS + direction) * length, path.rows, t * length, length)


@helper
def copy_row(source, at, target, to, length):
    """Copy so many numbers from ``source[at]`` on to ``target[to]`` and behind."""
    whole = length - length % LANES
    for i in range(0, whole, LANES):
        store(target, to + i, load(source, at + i))
    for i in range(whole, length):
        target[to + i] = source[at + i]


@helper
def prefetch_tile(path, x, y, rows, sizes, b, direction, step, first_block, end_block):
    """Ask for what the tile from this step on reads, while the one before it is computed."""
    steps = min(TILE, sizes.H * sizes.W - step)
    if step < 0 or steps <= 0:
        return
    visit(path.cells_ahead, sizes, b, direction, step, steps)
    length, D = sizes.R + 2 * sizes.N, sizes.blocks * LANES
    for t in range(steps):
        cell = path.cells_ahead[t]
        for i in range(0, length, 16):
            prefetch(rows, (cell * DIRECTIONS + direction) * length + i)
        for i in range(first_block * LANES, end_block * LANES, 16):
            prefetch(x, cell * D + i)
            prefetch(y, cell * D + i)


@helper
def project(tile, path, parameters, sizes, direction, channel, steps):
    """Delta of a block before softplus, to ``tile.delta``; four steps share a load of the weights."""
    R, D, length = sizes.R, sizes.blocks * LANES, sizes.R + 2 * sizes.N
    shift, weights = load(parameters.bias, direction * D + channel), direction * R * D + channel
    whole = steps - steps % 4
    for t in range(0, whole, 4):
        d0, d1, d2, d3, i = shift, shift, shift, shift, t * length
        for r in range(R):
            w = load(parameters.dt, weights + r * D)
            d0 = fma(w, spread(path.rows, i + r), d0)
            d1 = fma(w, spread(path.rows, i + r + length), d1)
            d2 = fma(w, spread(path.rows, i + r + 2 * length), d2)
            d3 = fma(w, spread(path.rows, i + r + 3 * length), d3)
        store(tile.delta, t * LANES, d0)
        store(tile.delta, (t + 1) * LANES, d1)
        store(tile.delta, (t + 2) * LANES, d2)
        store(tile.delta, (t + 3) * LANES, d3)
    for t in range(whole, steps):
        d = shift
        for r in range(R):
            d = fma(load(parameters.dt, weights + r * D), spread(path.rows, t * length + r), d)
        store(tile.delta, t * LANES, d)
