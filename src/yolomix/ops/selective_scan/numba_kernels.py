"""Selective scan on CPU, the two kernels: what a task does, tile by tile.

A task is one batch entry and a run of channel blocks of one group. It walks along time in tiles, and within a tile
over its blocks, so that B and C of the tile come from memory once. No (B, D, L, N) tensor exists: forward keeps the
states at the start of every tile, and backward computes those of one tile again.

Tasks write to memory of their own, so nothing is atomic and a result depends on the cut into tasks alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yolomix.ops._numba.jit import helper, kernel
from yolomix.ops._numba.layout import TILE, Rows, aligned, block_of, here, new_tile, prefetch_line, stage, unstage
from yolomix.ops._numba.simd import LANES, fma, load, splat, store, zeros
from yolomix.ops._numba.tile import History, Tile, TileGrad, advance, new_history, retreat, sum_lanes
from yolomix.ops._numba.vecmath import LN_2, exp_of_minus, sigmoid, sigmoid_from, softplus, softplus_from

# mypy: disable-error-code="no-untyped-def, no-untyped-call"


class Sizes(NamedTuple):
    """Steps, states, groups, batch entries, channel blocks, saved states per channel, and blocks that a task takes."""

    L: int
    N: int
    G: int
    batch: int
    blocks: int
    tiles: int
    chunk: int


class Flags(NamedTuple):
    """What a scan includes; ``save`` when a backward pass may follow."""

    softplus: bool
    gate: bool
    save: bool
    B_constant: bool
    C_constant: bool


@helper
def task_blocks(sizes, task):
    """Of a task: batch entry, group, number within the group, first channel block and the one after its last."""
    per_group = sizes.blocks // sizes.G
    parts = -(-per_group // sizes.chunk)
    b, rest = divmod(task, sizes.G * parts)
    group, part = divmod(rest, parts)
    first = group * per_group + part * sizes.chunk
    return b, group, part, first, min(first + sizes.chunk, (group + 1) * per_group)


@kernel
def forward(u, delta, z, B, C, rates, D, bias, out, ungated, states, saved, sizes, flags, first, end):
    """Run the tasks from ``first`` to before ``end``.

    ``states``, packed per batch entry, has the first states before and the last after. With ``flags.save``, ``saved``
    (B, D / LANES, tiles, N, LANES) gets the states before every tile, and ``ungated`` y before the gate.
    """
    N, tile = sizes.N, Tile(new_tile(), new_tile(), new_tile())
    for task in range(first, end):
        b, group, _, first_block, end_block = task_blocks(sizes, task)
        for i in range(sizes.tiles):
            step, steps = i * TILE, min(TILE, sizes.L - i * TILE)
            for block in range(first_block, end_block):
                channel, packed = block * LANES, b * sizes.blocks + block
                stage(delta, b, channel, step, steps, tile.delta)
                stage(u, b, channel, step, steps, tile.drive)
                for line in range(TILE):
                    ahead, later = _next(first_block, block, end_block, step, 1)
                    prefetch_line(u, b, ahead, later, line)
                    prefetch_line(delta, b, ahead, later, line)
                    prefetch_line(out, b, ahead, later, line)
                _enter(tile, D, bias, channel, flags, steps)
                h = block_of(states, packed, N)
                if flags.save:
                    _copy(h, block_of(saved, packed * sizes.tiles + i, N), N)
                at_B, at_C = here(B, b, group, block, N, step), here(C, b, group, block, N, step)
                advance(block_of(rates, block, N), h, tile, at_B, at_C, steps, N)
                if flags.gate:
                    if flags.save:
                        unstage(tile.y, ungated, b, channel, step, steps)
                    stage(z, b, channel, step, steps, tile.drive)
                    _gate(tile.y, tile.drive, steps)
                unstage(tile.y, out, b, channel, step, steps)


@helper
def _next(first_block, block, end_block, step, direction):
    """First channel and first step of the tile that a task takes next."""
    if block + 1 < end_block:
        return (block + 1) * LANES, step
    return first_block * LANES, step + direction * TILE


@helper
def _enter(tile, D, bias, channel, flags, steps):
    """In place: delta to step sizes, u (where the drive goes) to delta * u, and y to the direct path D * u."""
    weight, shift = load(D, channel), load(bias, channel)
    for i in range(0, steps * LANES, LANES):
        d, x = load(tile.delta, i) + shift, load(tile.drive, i)
        if flags.softplus:
            d = softplus(d)
        store(tile.delta, i, d)
        store(tile.drive, i, d * x)
        store(tile.y, i, weight * x)


@helper
def _copy(source, target, N):
    for i in range(0, N * LANES, LANES):
        store(target, i, load(source, i))


@helper
def _gate(y, z, steps):
    """Multiply y by z * sigmoid(z)."""
    for i in range(0, steps * LANES, LANES):
        v = load(z, i)
        store(y, i, load(y, i) * (v * sigmoid(v)))


class Given(NamedTuple):
    """What backward reads of the form (B, D, L): arguments, y before the gate, and the gradient of the output."""

    u: Rows
    delta: Rows
    z: Rows
    ungated: Rows
    out: Rows


class Grads(NamedTuple):
    """What backward writes: gradients, (B, D, L) for the first three.

    ``carry`` packed, of the last states before and of the first after; A packed per batch entry; D and bias (B, D);
    B and C (parts, B, G, N, L) if they vary in time, one part per task of a group, else packed per batch entry.
    All but the first three start at zero.
    """

    u: Rows
    delta: Rows
    z: Rows
    carry: np.ndarray
    A: np.ndarray
    D: np.ndarray
    bias: np.ndarray
    B: np.ndarray
    C: np.ndarray


class Scratch(NamedTuple):
    """Memory of a backward task: tiles, and the lane-wise sums of the gradients of B and C."""

    tile: Tile
    grad: TileGrad
    u: np.ndarray
    slope: np.ndarray
    history: History
    B: np.ndarray
    C: np.ndarray


@kernel
def backward(given, B, C, rates, D, bias, saved, grads, sizes, flags, first, end):
    """Run the tasks from ``first`` to before ``end``, each from the last tile to the first."""
    N = sizes.N
    sums = N * TILE * LANES
    s = Scratch(
        Tile(new_tile(), new_tile(), new_tile()), TileGrad(new_tile(), new_tile(), new_tile()),
        new_tile(), new_tile(), new_history(), aligned(sums), aligned(sums),
    )  # fmt: skip
    for task in range(first, end):
        b, group, part, first_block, end_block = task_blocks(sizes, task)
        for i in range(sizes.tiles - 1, -1, -1):
            step, steps = i * TILE, min(TILE, sizes.L - i * TILE)
            s.B[:], s.C[:] = 0, 0
            for block in range(first_block, end_block):
                packed = b * sizes.blocks + block
                for line in range(TILE):
                    ahead, later = _next(first_block, block, end_block, step, -1)
                    prefetch_line(given.u, b, ahead, later, line)
                    prefetch_line(given.delta, b, ahead, later, line)
                    prefetch_line(given.out, b, ahead, later, line)
                    prefetch_line(grads.u, b, ahead, later, line)
                    prefetch_line(grads.delta, b, ahead, later, line)
                _enter_backward(s, given, grads, D, bias, flags, b, block * LANES, packed * LANES, step, steps)
                retreat(
                    block_of(rates, block, N), block_of(saved, packed * sizes.tiles + i, N),
                    block_of(grads.carry, packed, N), block_of(grads.A, packed, N), s.tile, s.grad, s.history,
                    here(B, b, group, block, N, step), block_of(grads.B, packed, N) if flags.B_constant else s.B,
                    here(C, b, group, block, N, step), block_of(grads.C, packed, N) if flags.C_constant else s.C,
                    steps, N,
                )  # fmt: skip
                _leave_backward(s, grads, D, flags, b, block * LANES, packed * LANES, step, steps)
            start = ((part * sizes.batch + b) * sizes.G + group) * N * sizes.L + step
            if not flags.B_constant:
                sum_lanes(s.B, N, steps, grads.B, start, sizes.L, 1)
            if not flags.C_constant:
                sum_lanes(s.C, N, steps, grads.C, start, sizes.L, 1)


@helper
def _enter_backward(s, given, grads, D, bias, flags, b, channel, own, step, steps):
    """Stage a tile, undo the gate, and add what D's gradient gets from it; ``own`` is the index in (B, D)."""
    stage(given.delta, b, channel, step, steps, s.tile.delta)
    stage(given.u, b, channel, step, steps, s.u)
    stage(given.out, b, channel, step, steps, s.grad.y)
    if flags.gate:
        stage(given.z, b, channel, step, steps, s.tile.drive)
        stage(given.ungated, b, channel, step, steps, s.tile.y)
        _gate_backward(s.grad.y, s.tile.drive, s.tile.y, steps)
        unstage(s.tile.drive, grads.z, b, channel, step, steps)
    shift, D_sum = load(bias, channel), load(grads.D, own)
    for i in range(0, steps * LANES, LANES):
        d, x = load(s.tile.delta, i) + shift, load(s.u, i)
        if flags.softplus:
            e = exp_of_minus(d)
            store(s.slope, i, sigmoid_from(d, e))
            d = softplus_from(d, e)
        store(s.tile.delta, i, d)
        store(s.tile.drive, i, d * x)
        store(s.grad.delta, i, zeros())
        store(s.grad.drive, i, zeros())
        D_sum = fma(x, load(s.grad.y, i), D_sum)
    store(grads.D, own, D_sum)


@helper
def _gate_backward(out, z, ungated, steps):
    """From the gradient of y * silu(z): in place, ``out`` to that of y and ``z`` to that of z."""
    for i in range(0, steps * LANES, LANES):
        q, v = load(out, i), load(z, i)
        open_ = sigmoid(v)
        gate = v * open_
        store(out, i, q * gate)
        store(z, i, q * load(ungated, i) * fma(gate, splat(1.0) - open_, open_))


@helper
def _leave_backward(s, grads, D, flags, b, channel, own, step, steps):
    """From the gradients of step sizes and drive to those of delta, u and the bias."""
    weight, bias_sum = load(D, channel), load(grads.bias, own)
    for i in range(0, steps * LANES, LANES):
        to_drive = load(s.grad.drive, i)
        to_u = fma(load(s.grad.y, i), weight, to_drive * load(s.tile.delta, i))
        to_delta = fma(load(s.grad.delta, i), splat(LN_2), to_drive * load(s.u, i))
        if flags.softplus:
            to_delta = to_delta * load(s.slope, i)
        store(s.u, i, to_u)
        store(s.slope, i, to_delta)
        bias_sum = bias_sum + to_delta
    store(grads.bias, own, bias_sum)
    unstage(s.u, grads.u, b, channel, step, steps)
    unstage(s.slope, grads.delta, b, channel, step, steps)
