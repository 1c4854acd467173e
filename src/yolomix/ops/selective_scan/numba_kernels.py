"""Selective scan on CPU, the two kernels: what a task does, tile by tile.

A task is one batch entry and a run of channel blocks of one group. It walks along time in tiles, and within a tile
over its blocks, so that B and C of the tile come from memory once. No (B, D, L, N) tensor exists: forward keeps a
checkpoint of the states at the start of every tile, and backward computes the states of one tile again.

Tasks write to memory of their own, so nothing is atomic and a result depends on the cut into tasks alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yolomix.ops._numba.jit import helper, kernel
from yolomix.ops._numba.layout import (
    TILE,
    SequenceView,
    aligned_empty,
    at_tile,
    block_of,
    load_tile,
    new_tile,
    prefetch_line,
    store_tile,
)
from yolomix.ops._numba.processor import LANES
from yolomix.ops._numba.simd import fma, load, splat, store, zeros
from yolomix.ops._numba.tile import (
    Tile,
    TileGradients,
    TileHistory,
    advance,
    advance_backward,
    new_history,
    sum_lanes,
)
from yolomix.ops._numba.vecmath import LN_2, exp_of_minus, sigmoid, sigmoid_from, softplus, softplus_from

# mypy: disable-error-code="no-untyped-def, no-untyped-call"


class ScanSizes(NamedTuple):
    """Sizes of a scan and of its tasks."""

    L: int
    N: int
    G: int
    batch: int
    blocks: int  # D / LANES
    tiles: int
    blocks_per_task: int


class ScanFlags(NamedTuple):
    """What a scan includes."""

    softplus: bool
    gate: bool
    checkpoints: bool  # whether a backward pass may follow
    B_constant: bool
    C_constant: bool


@helper
def task_blocks(sizes, task):
    """Of a task: batch entry, group, number within the group, first channel block and the one after its last.

    >>> sizes = ScanSizes(L=9, N=4, G=2, batch=3, blocks=10, tiles=1, blocks_per_task=4)
    >>> task_blocks.py_func(sizes, 7)
    (1, 1, 1, 9, 10)
    """
    per_group = sizes.blocks // sizes.G
    parts = -(-per_group // sizes.blocks_per_task)
    b, rest = divmod(task, sizes.G * parts)
    group, part = divmod(rest, parts)
    first = group * per_group + part * sizes.blocks_per_task
    return b, group, part, first, min(first + sizes.blocks_per_task, (group + 1) * per_group)


@kernel
def forward(u, delta, z, B, C, rates, D, bias, out, ungated, states, checkpoints, sizes, flags, first, end):
    """Run the tasks from ``first`` to before ``end``.

    ``states``, packed per batch entry, has the first states before and the last after. With ``flags.checkpoints``,
    ``checkpoints`` (B, D / LANES, tiles, N, LANES) gets the states before every tile, and ``ungated`` y before the
    gate.
    """
    N, tile = sizes.N, Tile(new_tile(), new_tile(), new_tile())
    for task in range(first, end):
        b, group, _, first_block, end_block = task_blocks(sizes, task)
        for i in range(sizes.tiles):
            step, steps = i * TILE, min(TILE, sizes.L - i * TILE)
            for block in range(first_block, end_block):
                channel, packed = block * LANES, b * sizes.blocks + block
                load_tile(delta, b, channel, step, steps, tile.delta)
                load_tile(u, b, channel, step, steps, tile.drive)
                # What the next round reads and writes travels from memory while this one computes.
                for line in range(TILE):
                    ahead, later = _next(first_block, block, end_block, step, 1)
                    prefetch_line(u, b, ahead, later, line)
                    prefetch_line(delta, b, ahead, later, line)
                    prefetch_line(out, b, ahead, later, line)
                _enter(tile, D, bias, channel, flags, steps)
                h = block_of(states, packed, N)
                if flags.checkpoints:
                    _copy(h, block_of(checkpoints, packed * sizes.tiles + i, N), N)
                B_here, C_here = at_tile(B, b, group, block, N, step), at_tile(C, b, group, block, N, step)
                advance(block_of(rates, block, N), h, tile, B_here, C_here, steps, N)
                if flags.gate:
                    if flags.checkpoints:
                        store_tile(tile.y, ungated, b, channel, step, steps)
                    load_tile(z, b, channel, step, steps, tile.drive)
                    _gate(tile.y, tile.drive, steps)
                store_tile(tile.y, out, b, channel, step, steps)


@helper
def _next(first_block, block, end_block, step, direction):
    """First channel and first time step of the tile that a task takes next."""
    if block + 1 < end_block:
        return (block + 1) * LANES, step
    return first_block * LANES, step + direction * TILE


@helper
def _enter(tile, D, bias, channel, flags, steps):
    """In place: delta to step sizes, u (where the drive goes) to delta * u, and y to the skip connection D * u."""
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


class ScanSequences(NamedTuple):
    """What backward reads of the form (B, D, L)."""

    u: SequenceView
    delta: SequenceView
    z: SequenceView
    ungated: SequenceView  # y before the gate
    out_grad: SequenceView


class ScanGradients(NamedTuple):
    """What backward writes. All but the first three start at zero."""

    u: SequenceView  # (B, D, L)
    delta: SequenceView  # (B, D, L)
    z: SequenceView  # (B, D, L)
    carry: np.ndarray  # packed per batch entry: gradients of the last states before, of the first after
    A: np.ndarray  # packed per batch entry
    D: np.ndarray  # (B, D)
    bias: np.ndarray  # (B, D)
    B: np.ndarray  # (parts, B, G, N, L), a part per task of a group; packed per batch entry if B is constant
    C: np.ndarray  # as B


class _ScanScratch(NamedTuple):
    """Memory of a backward task."""

    tile: Tile
    grad: TileGradients
    u: np.ndarray  # (TILE, LANES)
    slope: np.ndarray  # (TILE, LANES), of softplus
    history: TileHistory
    B: np.ndarray  # (N, TILE, LANES), gradient of B, not yet summed over the lanes
    C: np.ndarray  # as B


@kernel
def backward(given, B, C, rates, D, bias, checkpoints, grads, sizes, flags, first, end):
    """Run the tasks from ``first`` to before ``end``, each from the last tile to the first."""
    N = sizes.N
    sums = N * TILE * LANES
    s = _ScanScratch(
        Tile(new_tile(), new_tile(), new_tile()), TileGradients(new_tile(), new_tile(), new_tile()),
        new_tile(), new_tile(), new_history(), aligned_empty(sums), aligned_empty(sums),
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
                    prefetch_line(given.out_grad, b, ahead, later, line)
                    prefetch_line(grads.u, b, ahead, later, line)
                    prefetch_line(grads.delta, b, ahead, later, line)
                _enter_backward(s, given, grads, D, bias, flags, b, block * LANES, packed * LANES, step, steps)
                B_here, C_here = at_tile(B, b, group, block, N, step), at_tile(C, b, group, block, N, step)
                # Gradients of a B or C that varies in time are those of all blocks, summed over the lanes later.
                B_grad = block_of(grads.B, packed, N) if flags.B_constant else s.B
                C_grad = block_of(grads.C, packed, N) if flags.C_constant else s.C
                advance_backward(
                    block_of(rates, block, N), block_of(checkpoints, packed * sizes.tiles + i, N),
                    block_of(grads.carry, packed, N), block_of(grads.A, packed, N), s.tile, s.grad, s.history,
                    B_here, B_grad, C_here, C_grad, steps, N,
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
    load_tile(given.delta, b, channel, step, steps, s.tile.delta)
    load_tile(given.u, b, channel, step, steps, s.u)
    load_tile(given.out_grad, b, channel, step, steps, s.grad.y)
    if flags.gate:
        load_tile(given.z, b, channel, step, steps, s.tile.drive)
        load_tile(given.ungated, b, channel, step, steps, s.tile.y)
        _gate_backward(s.grad.y, s.tile.drive, s.tile.y, steps)
        store_tile(s.tile.drive, grads.z, b, channel, step, steps)
    shift, D_sum = load(bias, channel), load(grads.D, own)
    for i in range(0, steps * LANES, LANES):
        d, x = load(s.tile.delta, i) + shift, load(s.u, i)
        if flags.softplus:
            e = exp_of_minus(d)  # shared by softplus and its slope
            store(s.slope, i, sigmoid_from(d, e))
            d = softplus_from(d, e)
        store(s.tile.delta, i, d)
        store(s.tile.drive, i, d * x)
        store(s.grad.delta, i, zeros())
        store(s.grad.drive, i, zeros())
        D_sum = fma(x, load(s.grad.y, i), D_sum)
    store(grads.D, own, D_sum)


@helper
def _gate_backward(out_grad, z, ungated, steps):
    """From the gradient of y * silu(z): in place, ``out_grad`` to that of y and ``z`` to that of z."""
    for i in range(0, steps * LANES, LANES):
        q, v = load(out_grad, i), load(z, i)
        open_ = sigmoid(v)
        gate = v * open_
        store(out_grad, i, q * gate)
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
    store_tile(s.u, grads.u, b, channel, step, steps)
    store_tile(s.slope, grads.delta, b, channel, step, steps)
