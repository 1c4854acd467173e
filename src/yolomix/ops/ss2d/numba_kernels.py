"""SS2D on CPU, the two kernels: what a task does, tile by tile.

A direction is a way to compute the cell of a step (``numba_paths``): nothing is copied, flipped or merged. A task is
one batch entry, a run of channel blocks and every ``slots``-th direction; it walks along the direction in tiles. Per
tile, the cells are projected once for all blocks; then, block by block, delta is projected, the states advance, and y
is added to the output in place. The backward pass projects again, so nothing but states is kept for it; a task of it
takes all channels, since all of them get something from the gradient of a row.

Tasks write to memory of their own, so nothing is atomic and a result depends on the cut into tasks alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yolomix.ops._numba.jit import helper, kernel
from yolomix.ops._numba.layout import TILE, Here, PerStep, aligned, block_of, new_tile
from yolomix.ops._numba.product import multiply
from yolomix.ops._numba.simd import LANES, fma, load, splat, spread, store, zeros
from yolomix.ops._numba.tile import History, Tile, TileGrad, advance, new_history, retreat, sum_lanes
from yolomix.ops._numba.vecmath import LN_2, exp_of_minus, sigmoid_from, softplus, softplus_from
from yolomix.ops.ss2d.numba_paths import DIRECTIONS, Path, enter, four_deltas, new_path, task_part, walk

# mypy: disable-error-code="no-untyped-def, no-untyped-call"


@kernel
def forward(x, parameters, out, states, saved, sizes, save, first, end):
    """Run the tasks from ``first`` to before ``end``.

    ``out`` is (slots, B, L, D). ``states``, packed per direction and batch entry, start at zero; with ``save``, those
    before every tile go to ``saved`` (4, B, D / LANES, tiles, N, LANES).
    """
    N, L, D = sizes.N, sizes.H * sizes.W, sizes.blocks * LANES
    tiles = -(-L // TILE)
    tile, path = Tile(new_tile(), new_tile(), new_tile()), new_path(sizes)
    B = Here(PerStep(path.rows, 0, 0, 1, sizes.row), sizes.R)
    C = Here(PerStep(path.rows, 0, 0, 1, sizes.row), sizes.R + N)
    for task in range(first, end):
        slot, b, first_block, end_block = task_part(sizes, task)
        y = out[slot * sizes.batch * L * D :]
        for direction in range(slot, DIRECTIONS, sizes.slots):
            enter(path, parameters, sizes, direction)
            for i in range(tiles):
                step, steps = i * TILE, min(TILE, L - i * TILE)
                walk(path, x, sizes, b, direction, step, steps)
                for block in range(first_block, end_block):
                    packed = (direction * sizes.batch + b) * sizes.blocks + block
                    h, channel = block_of(states, packed, N), block * LANES
                    if save:
                        _copy(h, block_of(saved, packed * tiles + i, N))
                    _enter(tile, x, y, path, parameters, sizes, direction, channel, steps, direction > slot)
                    rates = block_of(parameters.rates, direction * sizes.blocks + block, N)
                    advance(rates, h, tile, B, C, steps, N)
                    for t in range(steps):
                        store(y, path.cells[t] + channel, load(tile.y, t * LANES))


@helper
def _enter(tile, x, y, path, parameters, sizes, direction, channel, steps, adds):
    """Stage a block: step sizes, drive, and in y the direct path, on top of what other directions left there."""
    D = sizes.blocks * LANES
    weight = load(parameters.D, direction * D + channel)
    for t in range(0, steps, 4):
        d0, d1, d2, d3 = four_deltas(path, parameters, sizes, direction, channel, t)
        store(tile.delta, t * LANES, softplus(d0))
        store(tile.delta, (t + 1) * LANES, softplus(d1))
        store(tile.delta, (t + 2) * LANES, softplus(d2))
        store(tile.delta, (t + 3) * LANES, softplus(d3))
    for t in range(steps):
        i, place = t * LANES, path.cells[t] + channel
        v = load(x, place)
        store(tile.drive, i, load(tile.delta, i) * v)
        store(tile.y, i, fma(weight, v, load(y, place)) if adds else weight * v)


@helper
def _copy(source, target):
    for i in range(0, source.size, LANES):
        store(target, i, load(source, i))


class Grads(NamedTuple):
    """What backward writes: x (slots, B, L, D); the rest starts at zero.

    weights, of the projection to rows, (B, 4, R + 2N, D); dt (B, 4, R, D), bias and D (B, 4, D); ``carry``, of the
    states, and A packed per direction and batch entry.
    """

    x: np.ndarray
    weights: np.ndarray
    dt: np.ndarray
    bias: np.ndarray
    D: np.ndarray
    carry: np.ndarray
    A: np.ndarray


class Scratch(NamedTuple):
    """Memory of a backward task: tiles, and lane-wise sums of the gradients of delta's rows, of B and of C."""

    tile: Tile
    grad: TileGrad
    x: np.ndarray
    slope: np.ndarray
    history: History
    path: Path
    r: np.ndarray
    B: np.ndarray
    C: np.ndarray


@helper
def _new_scratch(sizes):
    vectors = TILE * LANES
    return Scratch(
        Tile(new_tile(), new_tile(), new_tile()), TileGrad(new_tile(), new_tile(), new_tile()), new_tile(), new_tile(),
        new_history(), new_path(sizes), aligned(sizes.R * vectors), aligned(sizes.N * vectors),
        aligned(sizes.N * vectors),
    )  # fmt: skip


@kernel
def backward(x, parameters, saved, out_grad, grads, sizes, first, end):
    """Run the tasks from ``first`` to before ``end``, each direction from its last tile to its first."""
    N, L, D = sizes.N, sizes.H * sizes.W, sizes.blocks * LANES
    tiles = -(-L // TILE)
    s = _new_scratch(sizes)
    B = Here(PerStep(s.path.rows, 0, 0, 1, sizes.row), sizes.R)
    C = Here(PerStep(s.path.rows, 0, 0, 1, sizes.row), sizes.R + N)
    for task in range(first, end):
        slot, b, first_block, end_block = task_part(sizes, task)
        x_grad = grads.x[slot * sizes.batch * L * D :]
        for direction in range(slot, DIRECTIONS, sizes.slots):
            enter(s.path, parameters, sizes, direction)
            for i in range(tiles - 1, -1, -1):
                step, steps = i * TILE, min(TILE, L - i * TILE)
                walk(s.path, x, sizes, b, direction, step, steps)
                s.r[:], s.B[:], s.C[:] = 0, 0, 0
                for block in range(first_block, end_block):
                    packed = (direction * sizes.batch + b) * sizes.blocks + block
                    _enter_backward(s, x, out_grad, parameters, grads, sizes, b, direction, block, steps)
                    rates = block_of(parameters.rates, direction * sizes.blocks + block, N)
                    carry, A_grad = block_of(grads.carry, packed, N), block_of(grads.A, packed, N)
                    h = block_of(saved, packed * tiles + i, N)
                    retreat(rates, h, carry, A_grad, s.tile, s.grad, s.history, B, s.B, C, s.C, steps, N)
                    _leave_backward(s, x_grad, parameters, grads, sizes, b, direction, block, steps, direction > slot)
                _rows_backward(s, x, x_grad, parameters, grads, sizes, b, direction, steps)


@helper
def _enter_backward(s, x, out_grad, parameters, grads, sizes, b, direction, block, steps):
    """Stage a block as forward does, with the slope of softplus and the gradient of y; add to D's gradient."""
    D, channel = sizes.blocks * LANES, block * LANES
    own = (b * DIRECTIONS + direction) * D + channel
    D_sum = load(grads.D, own)
    for t in range(0, steps, 4):
        d0, d1, d2, d3 = four_deltas(s.path, parameters, sizes, direction, channel, t)
        _soften(s, d0, t)
        _soften(s, d1, t + 1)
        _soften(s, d2, t + 2)
        _soften(s, d3, t + 3)
    for t in range(steps):
        i, place = t * LANES, s.path.cells[t] + channel
        v, q = load(x, place), load(out_grad, place)
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
    weight, bias_sum = load(parameters.D, direction * D + channel), load(grads.bias, own)
    for t in range(steps):
        i, place = t * LANES, s.path.cells[t] + channel
        to_drive = load(s.grad.drive, i)
        to_x = fma(load(s.grad.y, i), weight, to_drive * load(s.tile.delta, i))
        store(x_grad, place, to_x + load(x_grad, place) if adds else to_x)
        to_delta = fma(load(s.grad.delta, i), splat(LN_2), to_drive * load(s.x, i)) * load(s.slope, i)
        store(s.slope, i, to_delta)
        bias_sum = bias_sum + to_delta
    store(grads.bias, own, bias_sum)
    for r in range(sizes.R):
        _project_backward(s, parameters, grads, sizes, b, direction, channel, r, steps)


@helper
def _project_backward(s, parameters, grads, sizes, b, direction, channel, r, steps):
    """Number r of delta's rows: add to the gradient of its weights, and lane by lane to its own."""
    D = sizes.blocks * LANES
    weight = load(parameters.dt, (direction * sizes.R + r) * D + channel)
    own = ((b * DIRECTIONS + direction) * sizes.R + r) * D + channel
    weight_sum = load(grads.dt, own)
    for t in range(steps):
        g, i = load(s.slope, t * LANES), (r * TILE + t) * LANES
        weight_sum = fma(g, spread(s.path.rows, t * sizes.row + r), weight_sum)
        store(s.r, i, fma(g, weight, load(s.r, i)))
    store(grads.dt, own, weight_sum)


@helper
def _rows_backward(s, x, x_grad, parameters, grads, sizes, b, direction, steps):
    """Sum the lanes of the gradients of rows, over the rows, which have served; from them to cells and weights."""
    R, N, D = sizes.R, sizes.N, sizes.blocks * LANES
    p, length = s.path, R + 2 * N
    sum_lanes(s.r, R, steps, p.rows, 0, 1, sizes.row)
    sum_lanes(s.B, N, steps, p.rows, R, 1, sizes.row)
    sum_lanes(s.C, N, steps, p.rows, R + N, 1, sizes.row)
    own, sums = parameters.rows[direction * length * D :], grads.weights[(b * DIRECTIONS + direction) * length * D :]
    multiply(p.rows, p.row_at, 1, own, p.channel_at, x_grad, p.cells, steps, length, D, True)
    multiply(p.rows, p.numbers, sizes.row, x, p.cells, sums, p.channel_at, length, steps, D, True)
