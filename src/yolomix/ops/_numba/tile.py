"""The scan of one tile: ``TILE`` steps of ``LANES`` channels, staged in the first-level cache, and its gradient.

Tiles are (steps, LANES). ``rates`` = A * log2(e), the states and their gradients are those of one block of channels,
(N, LANES). A decay is 2**(delta * rate). States stay in registers while time runs; what is summed over the states is
collected in a tile, group of states by group of states.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yolomix.ops._numba.jit import helper
from yolomix.ops._numba.layout import TILE, aligned, slot, value
from yolomix.ops._numba.simd import LANES, fma, lane_sum, lane_sums, load, store
from yolomix.ops._numba.vecmath import exp2, exp2_four

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

TILE_FLOATS = TILE * LANES


class Tile(NamedTuple):
    """What drives the states: step sizes, step size * input, and the output that collects <h_t, C_t>."""

    delta: np.ndarray
    drive: np.ndarray
    y: np.ndarray


class TileGrad(NamedTuple):
    """Gradients of a tile. That of ``delta`` is the part through the decays, and lacks a factor log(2)."""

    delta: np.ndarray
    drive: np.ndarray
    y: np.ndarray


class History(NamedTuple):
    """Decays and states of two states at every step of a tile, interleaved; a state before every step."""

    decays: np.ndarray
    states: np.ndarray


@helper
def new_history():
    """Memory for a history."""
    return History(aligned(2 * TILE_FLOATS), aligned(2 * TILE_FLOATS + 2 * LANES))


@helper
def advance(rates, states, tile, B, C, steps, N):
    """h_t = decay_t * h_(t-1) + drive_t * B_t and y_t += <h_t, C_t>; ``states`` go from before the tile to after it.

    Four states at a time hide the latency of a multiply-add; the states left over go one by one.
    """
    n = 0
    while n + 4 <= N:
        _advance_four(rates, states, tile, B, C, n, steps)
        n += 4
    while n < N:
        _advance_one(rates, states, tile, B, C, n, steps)
        n += 1


@helper
def _advance_four(rates, states, tile, B, C, n, steps):
    a0, a1, a2, a3 = _vectors_four(rates, n)
    h0, h1, h2, h3 = _vectors_four(states, n)
    for t in range(steps):
        d, x, y = load(tile.delta, t * LANES), load(tile.drive, t * LANES), load(tile.y, t * LANES)
        e0, e1, e2, e3 = exp2_four(d * a0, d * a1, d * a2, d * a3)
        h0 = fma(e0, h0, x * value(B, n, t))
        h1 = fma(e1, h1, x * value(B, n + 1, t))
        h2 = fma(e2, h2, x * value(B, n + 2, t))
        h3 = fma(e3, h3, x * value(B, n + 3, t))
        y = fma(h1, value(C, n + 1, t), fma(h0, value(C, n, t), y))
        y = fma(h3, value(C, n + 3, t), fma(h2, value(C, n + 2, t), y))
        store(tile.y, t * LANES, y)
    store(states, n * LANES, h0)
    store(states, (n + 1) * LANES, h1)
    store(states, (n + 2) * LANES, h2)
    store(states, (n + 3) * LANES, h3)


@helper
def _vectors_four(array, n):
    return (
        load(array, n * LANES),
        load(array, (n + 1) * LANES),
        load(array, (n + 2) * LANES),
        load(array, (n + 3) * LANES),
    )


@helper
def _advance_one(rates, states, tile, B, C, n, steps):
    a, h = load(rates, n * LANES), load(states, n * LANES)
    for t in range(steps):
        i = t * LANES
        h = fma(exp2(load(tile.delta, i) * a), h, load(tile.drive, i) * value(B, n, t))
        store(tile.y, i, fma(h, value(C, n, t), load(tile.y, i)))
    store(states, n * LANES, h)


@helper
def retreat(rates, saved, carry, rates_grad, tile, grad, history, B, B_grad, C, C_grad, steps, N):
    """The gradient of ``advance``: the tile once more from its ``saved`` states, then backward in time.

    ``carry`` goes from the gradient of the states after the tile to that of the states before it; ``grad.y`` is
    given. ``grad.delta``, ``grad.drive``, ``rates_grad`` (of A) and, lane by lane, ``B_grad`` and ``C_grad`` are
    added to. Two states at a time: more of them do not fit the registers.
    """
    n = 0
    while n + 2 <= N:
        _replay_two(rates, saved, tile, grad, history, B, C, C_grad, n, steps)
        _reverse_two(rates, carry, rates_grad, tile, grad, history, B, B_grad, C, n, steps)
        n += 2
    if n < N:
        _replay_one(rates, saved, tile, grad, history, B, C, C_grad, n, steps)
        _reverse_one(rates, carry, rates_grad, tile, grad, history, B, B_grad, C, n, steps)


@helper
def _replay_two(rates, saved, tile, grad, history, B, C, C_grad, n, steps):
    a0, a1 = load(rates, n * LANES), load(rates, (n + 1) * LANES)
    h0, h1 = load(saved, n * LANES), load(saved, (n + 1) * LANES)
    store(history.states, 0, h0)
    store(history.states, LANES, h1)
    for t in range(steps):
        d, x, i = load(tile.delta, t * LANES), load(tile.drive, t * LANES), 2 * t * LANES
        e0, e1 = exp2(d * a0), exp2(d * a1)
        h0 = fma(e0, h0, x * value(B, n, t))
        h1 = fma(e1, h1, x * value(B, n + 1, t))
        q = load(grad.y, t * LANES)
        _add_product(C_grad, slot(C, n, t), q, h0)
        _add_product(C_grad, slot(C, n + 1, t), q, h1)
        store(history.decays, i, e0)
        store(history.decays, i + LANES, e1)
        store(history.states, i + 2 * LANES, h0)
        store(history.states, i + 3 * LANES, h1)


@helper
def _reverse_two(rates, carry, rates_grad, tile, grad, history, B, B_grad, C, n, steps):
    a0, a1 = load(rates, n * LANES), load(rates, (n + 1) * LANES)
    g0, g1 = load(carry, n * LANES), load(carry, (n + 1) * LANES)
    s0, s1 = load(rates_grad, n * LANES), load(rates_grad, (n + 1) * LANES)
    for t in range(steps - 1, -1, -1):
        i = 2 * t * LANES
        q, x, d = load(grad.y, t * LANES), load(tile.drive, t * LANES), load(tile.delta, t * LANES)
        g0, g1 = fma(q, value(C, n, t), g0), fma(q, value(C, n + 1, t), g1)
        _add_product(B_grad, slot(B, n, t), x, g0)
        _add_product(B_grad, slot(B, n + 1, t), x, g1)
        to_drive = fma(g0, value(B, n, t), load(grad.drive, t * LANES))
        store(grad.drive, t * LANES, fma(g1, value(B, n + 1, t), to_drive))
        g0, g1 = g0 * load(history.decays, i), g1 * load(history.decays, i + LANES)
        w0, w1 = g0 * load(history.states, i), g1 * load(history.states, i + LANES)
        s0, s1 = fma(w0, d, s0), fma(w1, d, s1)
        store(grad.delta, t * LANES, fma(w1, a1, fma(w0, a0, load(grad.delta, t * LANES))))
    store(carry, n * LANES, g0)
    store(carry, (n + 1) * LANES, g1)
    store(rates_grad, n * LANES, s0)
    store(rates_grad, (n + 1) * LANES, s1)


@helper
def _replay_one(rates, saved, tile, grad, history, B, C, C_grad, n, steps):
    a, h = load(rates, n * LANES), load(saved, n * LANES)
    store(history.states, 0, h)
    for t in range(steps):
        i = t * LANES
        e = exp2(load(tile.delta, i) * a)
        h = fma(e, h, load(tile.drive, i) * value(B, n, t))
        _add_product(C_grad, slot(C, n, t), load(grad.y, i), h)
        store(history.decays, i, e)
        store(history.states, i + LANES, h)


@helper
def _reverse_one(rates, carry, rates_grad, tile, grad, history, B, B_grad, C, n, steps):
    a, g, s = load(rates, n * LANES), load(carry, n * LANES), load(rates_grad, n * LANES)
    for t in range(steps - 1, -1, -1):
        i = t * LANES
        q, x = load(grad.y, i), load(tile.drive, i)
        g = fma(q, value(C, n, t), g)
        _add_product(B_grad, slot(B, n, t), x, g)
        store(grad.drive, i, fma(g, value(B, n, t), load(grad.drive, i)))
        g = g * load(history.decays, i)
        w = g * load(history.states, i)
        s = fma(w, load(tile.delta, i), s)
        store(grad.delta, i, fma(w, a, load(grad.delta, i)))
    store(carry, n * LANES, g)
    store(rates_grad, n * LANES, s)


@helper
def _add_product(sums, i, x, y):
    store(sums, i * LANES, fma(x, y, load(sums, i * LANES)))


@helper
def sum_lanes(sums, N, steps, target, start, state, step):
    """Write the lane sums of the (N, TILE) vectors of a tile to ``target[start + n * state + t * step]``."""
    whole, totals = steps - steps % LANES, aligned(LANES)
    for n in range(N):
        for t in range(0, whole, LANES):
            store(totals, 0, lane_sums(sums, (n * TILE + t) * LANES))
            for i in range(LANES):
                target[start + n * state + (t + i) * step] = totals[i]
        for t in range(whole, steps):
            target[start + n * state + t * step] = lane_sum(load(sums, (n * TILE + t) * LANES))
