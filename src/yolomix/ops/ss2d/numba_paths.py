"""SS2D on CPU: the way of a direction through the feature map, and what the kernels compute of the tokens on it.

The map is (B, L, D) in memory, channels last. Each direction projects a token to R + 2N values: R for delta, then B,
then C. They are padded to ``width``, a whole number of vectors, and exist for one tile at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yolomix.ops._numba.jit import helper
from yolomix.ops._numba.layout import TILE, aligned_empty
from yolomix.ops._numba.processor import LANES
from yolomix.ops._numba.product import multiply
from yolomix.ops._numba.simd import broadcast, fma, load, transpose

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

DIRECTIONS = 4


class SS2DSizes(NamedTuple):
    """Sizes of a 2D selective scan and of its tasks."""

    batch: int
    H: int
    W: int
    N: int
    R: int
    width: int  # of a projected token
    blocks: int  # D / LANES
    blocks_per_task: int
    slots: int  # how many outputs the directions are added to: 1, 2 or 4


class SS2DParameters(NamedTuple):
    """Parameters of all directions."""

    x_proj: np.ndarray  # (4, R + 2N, D)
    dt_proj: np.ndarray  # (4, R, D), so that the channels of a vector are contiguous
    dt_bias: np.ndarray  # (4, D)
    rates: np.ndarray  # (4D, N), packed
    D: np.ndarray  # (4D,), skip weights


class ProjectedTile(NamedTuple):
    """The tokens of a tile of one direction: where they lie, and what they are projected to."""

    tokens: np.ndarray  # (TILE,), where each begins in a (B, L, D) map
    projected: np.ndarray  # (TILE, width)
    weights: np.ndarray  # (D, width), the projection of this direction
    counting: np.ndarray  # 0, 1, 2 ...
    rows: np.ndarray  # where the rows of a matrix begin that is as wide as a projected token
    channel_rows: np.ndarray  # where the rows of a matrix begin that is as wide as all channels


@helper
def new_projected_tile(sizes):
    """Memory for the tokens of a tile."""
    D = sizes.blocks * LANES
    counting = np.arange(max(D, TILE, sizes.width))
    return ProjectedTile(
        np.empty(TILE, np.int64), aligned_empty(TILE * sizes.width), aligned_empty(D * sizes.width),
        counting, counting * sizes.width, counting * D,
    )  # fmt: skip


@helper
def task_part(sizes, task):
    """Of a task: first direction, batch entry, first channel block and the one after its last.

    >>> sizes = SS2DSizes(batch=2, H=3, W=5, N=4, R=1, width=16, blocks=6, blocks_per_task=4, slots=2)
    >>> task_part.py_func(sizes, 7)
    (1, 1, 4, 6)
    """
    parts = -(-sizes.blocks // sizes.blocks_per_task)
    slot, rest = divmod(task, sizes.batch * parts)
    b, part = divmod(rest, parts)
    return slot, b, part * sizes.blocks_per_task, min((part + 1) * sizes.blocks_per_task, sizes.blocks)


@helper
def visit(tokens, sizes, b, direction, step, steps):
    """Fill in where the tokens lie in a (B, L, D) map that a direction visits from time step ``step`` on.

    >>> sizes = SS2DSizes(batch=1, H=2, W=3, N=4, R=1, width=16, blocks=1, blocks_per_task=1, slots=1)
    >>> tokens = np.empty(6, np.int64)
    >>> visit.py_func(tokens, sizes, b=0, direction=1, step=0, steps=6)
    >>> tokens // LANES  # column by column
    array([0, 3, 1, 4, 2, 5])
    """
    H, W, D, start = sizes.H, sizes.W, sizes.blocks * LANES, b * sizes.H * sizes.W
    forth, position = 1, step
    if direction >= 2:
        forth, position = -1, H * W - 1 - step
    if direction % 2 == 0:
        for t in range(steps):
            tokens[t] = (start + position + forth * t) * D
        return
    column, row = divmod(position, H)  # the only division: the loop steps from column to column by comparison
    for t in range(steps):
        tokens[t] = (start + row * W + column) * D
        row += forth
        if row == H:
            row, column = 0, column + 1
        elif row < 0:
            row, column = H - 1, column - 1


@helper
def load_projection(tile, parameters, sizes, direction):
    """Transpose the projection of a direction, so that the values of a projected token are contiguous."""
    D, length = sizes.blocks * LANES, sizes.R + 2 * sizes.N
    whole, start = length - length % LANES, direction * length * D
    tile.weights[:] = 0
    for d in range(0, D, LANES):
        for i in range(0, whole, LANES):
            transpose(parameters.x_proj, start + i * D + d, D, tile.weights, d * sizes.width + i, sizes.width)
    for i in range(whole, length):
        for d in range(D):
            tile.weights[d * sizes.width + i] = parameters.x_proj[start + i * D + d]


@helper
def project_tile(tile, x, sizes, b, direction, step, steps):
    """Find the tokens of a tile and project them.

    A projection of the whole map at once is no faster, and its result had to be written to memory and read again.
    """
    visit(tile.tokens, sizes, b, direction, step, steps)
    D = sizes.blocks * LANES
    multiply(x, tile.tokens, 1, tile.weights, tile.rows, tile.projected, tile.rows, steps, D, sizes.width, False)


@helper
def four_deltas(tile, parameters, sizes, direction, channel, t):
    """Delta of a channel block before softplus at four time steps, which share a load of the weights."""
    # A tile has room for whole fours of time steps. Past the last one, the result is meaningless and nobody reads it.
    R, D, width = sizes.R, sizes.blocks * LANES, sizes.width
    d0 = d1 = d2 = d3 = load(parameters.dt_bias, direction * D + channel)
    weights, i = direction * R * D + channel, t * width
    for r in range(R):
        w = load(parameters.dt_proj, weights + r * D)
        d0 = fma(w, broadcast(tile.projected, i + r), d0)
        d1 = fma(w, broadcast(tile.projected, i + r + width), d1)
        d2 = fma(w, broadcast(tile.projected, i + r + 2 * width), d2)
        d3 = fma(w, broadcast(tile.projected, i + r + 3 * width), d3)
    return d0, d1, d2, d3
