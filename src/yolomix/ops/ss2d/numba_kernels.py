"""SS2D on CPU, the two kernels: what a task does, tile by tile.

A direction is a way to compute where the token of a time step lies (``numba_paths``): nothing is copied, flipped or
merged. A task is one batch entry, a run of channel blocks and every ``slots``-th direction. It walks along the
direction in tiles. Per tile, the tokens are projected once for all blocks. Then, block by block, delta is projected,
the states advance, and y is added to the output in place. The backward pass projects again, so nothing but checkpoints
of the states is kept for it. A task of it takes all channels, since all share the gradient of a projected token.

Tasks write to memory of their own, so nothing is atomic and a result depends on the cut into tasks alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yolomix.ops._numba.jit import helper, kernel
from yolomix.ops._numba.layout import TILE, TileMatrix, TimeVarying, aligned_empty, block_of, new_tile
from yolomix.ops._numba.processor import LANES
from yolomix.ops._numba.product import multiply
from yolomix.ops._numba.simd import broadcast, fma, load, splat, store, zeros
from yolomix.ops._numba.tile import (
    Tile,
    TileGradients,
    TileHistory,
    advance,
    advance_backward,
    new_history,
    sum_lanes,
)
from yolomix.ops._numba.vecmath import LN_2, exp_of_minus, sigmoid_from, softplus, softplus_from
from yolomix.ops.ss2d.numba_paths import (
    DIRECTIONS,
    ProjectedTile,
    four_deltas,
    load_projection,
    new_projected_tile,
    project_tile,
    task_part,
)

# mypy: disable-error-code="no-untyped-def, no-untyped-call"


@kernel
def forward(x, parameters, out, states, checkpoints, sizes, keeps, first, end):
    """Run the tasks from ``first`` to before ``end``.

    ``out`` is (slots, B, L, D). ``states``, packed per direction and batch entry, start at zero. If it ``keeps``
    checkpoints, the states before every tile go to ``checkpoints`` (4, B, D / LANES, tiles, N, LANES).
    """
    N, L, D = sizes.N, sizes.H * sizes.W, sizes.blocks * LANES
    tiles = -(-L // TILE)
    tile, tokens = Tile(new_tile(), new_tile(), new_tile()), new_projected_tile(sizes)
    # B and C of a tile lie behind delta's R values in the projected tokens, which are overwritten tile by tile.
    B = TileMatrix(TimeVarying(tokens.projected, 0, 0, 1, sizes.width), sizes.R)
    C = TileMatrix(TimeVarying(tokens.projected, 0, 0, 1, sizes.width), sizes.R + N)
    for task in range(first, end):
        slot, b, first_block, end_block = task_part(sizes, task)
        y = out[slot * sizes.batch * L * D :]
        for direction in range(slot, DIRECTIONS, sizes.slots):
            load_projection(tokens, parameters, sizes, direction)
            for i in range(tiles):
                step, steps = i * TILE, min(TILE, L - i * TILE)
                project_tile(tokens, x, sizes, b, direction, step, steps)
                for block in range(first_block, end_block):
                    packed = (direction * sizes.batch + b) * sizes.blocks + block
                    h, channel = block_of(states, packed, N), block * LANES
                    if keeps:
                        _copy(h, block_of(checkpoints, packed * tiles + i, N))
                    # The first direction of a slot finds uninitialised memory in y, the others add to it.
                    _enter(tile, x, y, tokens, parameters, sizes, direction, channel, steps, direction > slot)
                    rates = block_of(parameters.rates, direction * sizes.blocks + block, N)
                    advance(rates, h, tile, B, C, steps, N)
                    for t in range(steps):
                        store(y, tokens.tokens[t] + channel, load(tile.y, t * LANES))


@helper
def _enter(tile, x, y, tokens, parameters, sizes, direction, channel, steps, adds):
    """Stage a block: step sizes, drive, and in y the skip connection, on top of what other directions left there."""
    D = sizes.blocks * LANES
    weight = load(parameters.D, direction * D + channel)
    for t in range(0, steps, 4):
        d0, d1, d2, d3 = four_deltas(tokens, parameters, sizes, direction, channel, t)
        store(tile.delta, t * LANES, softplus(d0))
        store(tile.delta, (t + 1) * LANES, softplus(d1))
        store(tile.delta, (t + 2) * LANES, softplus(d2))
        store(tile.delta, (t + 3) * LANES, softplus(d3))
    for t in range(steps):
        i, at = t * LANES, tokens.tokens[t] + channel
        v = load(x, at)
        store(tile.drive, i, load(tile.delta, i) * v)
        store(tile.y, i, fma(weight, v, load(y, at)) if adds else weight * v)


@helper
def _copy(source, target):
    for i in range(0, source.size, LANES):
        store(target, i, load(source, i))


class SS2DGradients(NamedTuple):
    """What backward writes. All but the first start at zero."""

    x: np.ndarray  # (slots, B, L, D)
    x_proj: np.ndarray  # (B, 4, R + 2N, D)
    dt_proj: np.ndarray  # (B, 4, R, D)
    dt_bias: np.ndarray  # (B, 4, D)
    D: np.ndarray  # (B, 4, D)
    carry: np.ndarray  # packed per direction and batch entry, of the states
    A: np.ndarray  # packed per direction and batch entry


class _SS2DScratch(NamedTuple):
    """Memory of a backward task."""

    tile: Tile
    grad: TileGradients
    x: np.ndarray  # (TILE, LANES)
    slope: np.ndarray  # (TILE, LANES), of softplus
    history: TileHistory
    tokens: ProjectedTile
    r: np.ndarray  # (R, TILE, LANES), gradient of delta's R values, not yet summed over the lanes
    B: np.ndarray  # (N, TILE, LANES), that of B
    C: np.ndarray  # (N, TILE, LANES), that of C


@helper
def _new_scratch(sizes):
    floats = TILE * LANES
    return _SS2DScratch(
        Tile(new_tile(), new_tile(), new_tile()), TileGradients(new_tile(), new_tile(), new_tile()),
        new_tile(), new_tile(), new_history(), new_projected_tile(sizes),
        aligned_empty(sizes.R * floats), aligned_empty(sizes.N * floats), aligned_empty(sizes.N * floats),
    )  # fmt: skip


@kernel
def backward(x, parameters, checkpoints, out_grad, grads, sizes, first, end):
    """Run the tasks from ``first`` to before ``end``, each direction from its last tile to its first."""
    N, L, D = sizes.N, sizes.H * sizes.W, sizes.blocks * LANES
    tiles = -(-L // TILE)
    s = _new_scratch(sizes)
    B = TileMatrix(TimeVarying(s.tokens.projected, 0, 0, 1, sizes.width), sizes.R)
    C = TileMatrix(TimeVarying(s.tokens.projected, 0, 0, 1, sizes.width), sizes.R + N)
    for task in range(first, end):
        slot, b, first_block, end_block = task_part(sizes, task)
        x_grad = grads.x[slot * sizes.batch * L * D :]
        for direction in range(slot, DIRECTIONS, sizes.slots):
            load_projection(s.tokens, parameters, sizes, direction)
            for i in range(tiles - 1, -1, -1):
                step, steps = i * TILE, min(TILE, L - i * TILE)
                project_tile(s.tokens, x, sizes, b, direction, step, steps)
                s.r[:], s.B[:], s.C[:] = 0, 0, 0
                for block in range(first_block, end_block):
                    packed = (direction * sizes.batch + b) * sizes.blocks + block
                    _enter_backward(s, x, out_grad, parameters, grads, sizes, b, direction, block, steps)
                    rates = block_of(parameters.rates, direction * sizes.blocks + block, N)
                    carry, A_grad = block_of(grads.carry, packed, N), block_of(grads.A, packed, N)
                    h = block_of(checkpoints, packed * tiles + i, N)
                    advance_backward(rates, h, carry, A_grad, s.tile, s.grad, s.history, B, s.B, C, s.C, steps, N)
                    _leave_backward(s, x_grad, parameters, grads, sizes, b, direction, block, steps, direction > slot)
                _projection_backward(s, x, x_grad, parameters, grads, sizes, b, direction, steps)


@helper
def _enter_backward(s, x, out_grad, parameters, grads, sizes, b, direction, block, steps):
    """Stage a block as forward does, with the slope of softplus and the gradient of y; add to D's gradient."""
    D, channel = sizes.blocks * LANES, block * LANES
    own = (b * DIRECTIONS + direction) * D + channel
    D_sum = load(grads.D, own)
    for t in range(0, steps, 4):
        d0, d1, d2, d3 = four_deltas(s.tokens, parameters, sizes, direction, channel, t)
        _soften(s, d0, t)
        _soften(s, d1, t + 1)
        _soften(s, d2, t + 2)
        _soften(s, d3, t + 3)
    for t in range(steps):
        i, at = t * LANES, s.tokens.tokens[t] + channel
        v, q = load(x, at), load(out_grad, at)
        store(s.x, i, v)
        store(s.tile.drive, i, load(s.tile.delta, i) * v)
        store(s.grad.y, i, q)
        store(s.grad.delta, i, zeros())
        store(s.grad.drive, i, zeros())
        D_sum = fma(v, q, D_sum)
    store(grads.D, own, D_sum)


@helper
def _soften(s, d, t):
    """The step size that softplus makes of delta, and its slope."""
    e = exp_of_minus(d)
    store(s.tile.delta, t * LANES, softplus_from(d, e))
    store(s.slope, t * LANES, sigmoid_from(d, e))


@helper
def _leave_backward(s, x_grad, parameters, grads, sizes, b, direction, block, steps, adds):
    """From the gradients of step sizes and drive to those of x, of the bias and, through delta, of its projection."""
    D, channel = sizes.blocks * LANES, block * LANES
    own = (b * DIRECTIONS + direction) * D + channel
    weight, bias_sum = load(parameters.D, direction * D + channel), load(grads.dt_bias, own)
    for t in range(steps):
        i, at = t * LANES, s.tokens.tokens[t] + channel
        to_drive = load(s.grad.drive, i)
        to_x = fma(load(s.grad.y, i), weight, to_drive * load(s.tile.delta, i))
        store(x_grad, at, to_x + load(x_grad, at) if adds else to_x)
        to_delta = fma(load(s.grad.delta, i), splat(LN_2), to_drive * load(s.x, i)) * load(s.slope, i)
        store(s.slope, i, to_delta)
        bias_sum = bias_sum + to_delta
    store(grads.dt_bias, own, bias_sum)
    for r in range(sizes.R):
        _delta_backward(s, parameters, grads, sizes, b, direction, channel, r, steps)


@helper
def _delta_backward(s, parameters, grads, sizes, b, direction, channel, r, steps):
    """Value r of delta's R: add to the gradient of its weights, and lane by lane to its own."""
    D = sizes.blocks * LANES
    weight = load(parameters.dt_proj, (direction * sizes.R + r) * D + channel)
    own = ((b * DIRECTIONS + direction) * sizes.R + r) * D + channel
    weight_sum = load(grads.dt_proj, own)
    for t in range(steps):
        g, i = load(s.slope, t * LANES), (r * TILE + t) * LANES
        weight_sum = fma(g, broadcast(s.tokens.projected, t * sizes.width + r), weight_sum)
        store(s.r, i, fma(g, weight, load(s.r, i)))
    store(grads.dt_proj, own, weight_sum)


@helper
def _projection_backward(s, x, x_grad, parameters, grads, sizes, b, direction, steps):
    """From the lane-wise gradients of the projected tokens of a tile to those of the tokens and of the projection."""
    R, N, D = sizes.R, sizes.N, sizes.blocks * LANES
    tokens, length = s.tokens, R + 2 * N
    # The projected tokens have served all blocks: their gradient takes their place.
    sum_lanes(s.r, R, steps, tokens.projected, 0, 1, sizes.width)
    sum_lanes(s.B, N, steps, tokens.projected, R, 1, sizes.width)
    sum_lanes(s.C, N, steps, tokens.projected, R + N, 1, sizes.width)
    weights = parameters.x_proj[direction * length * D :]
    sums = grads.x_proj[(b * DIRECTIONS + direction) * length * D :]
    grad, rows, channel_rows = tokens.projected, tokens.rows, tokens.channel_rows
    multiply(grad, rows, 1, weights, channel_rows, x_grad, tokens.tokens, steps, length, D, True)
    multiply(grad, tokens.counting, sizes.width, x, tokens.tokens, sums, channel_rows, length, steps, D, True)
