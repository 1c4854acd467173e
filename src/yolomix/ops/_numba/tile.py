"""The scan of one tile: ``TILE`` time steps of ``LANES`` channels, staged in the L1 cache, and its gradient.

Tiles are (steps, LANES). ``rates`` = A * log2(e), the states and their gradients are those of one block of channels,
(N, LANES). A decay is 2**(delta * rate). A few states stay in registers while time runs through the tile, then the next
few. What is summed over the states is collected in a tile.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yolomix.ops._numba.jit import helper
from yolomix.ops._numba.layout import TILE, aligned_empty, gradient_slot, value_at
from yolomix.ops._numba.processor import LANES
from yolomix.ops._numba.simd import fma, lane_sum, lane_sums, load, store
from yolomix.ops._numba.vecmath import exp2, exp2_four

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

TILE_FLOATS = TILE * LANES


class Tile(NamedTuple):
    """What drives the states of a tile, and what comes of them."""

    delta: np.ndarray  # (steps, LANES), step sizes after softplus
    drive: np.ndarray  # (steps, LANES), step size * input
    y: np.ndarray  # (steps, LANES), collects <h_t, C_t>


class TileGradients(NamedTuple):
    """Gradients of a tile."""

    delta: np.ndarray  # (steps, LANES), the part through the decays; lacks a factor log(2), which is applied once later
    drive: np.ndarray  # (steps, LANES)
    y: np.ndarray  # (steps, LANES)


class TileHistory(NamedTuple):
    """What two states went through in a tile, for the way back."""

    decays: np.ndarray  # (steps, 2, LANES)
    states: np.ndarray  # (steps + 1, 2, LANES), before the first time step and after every one


@helper
def new_history():
    """Memory for a history."""
    return TileHistory(aligned_empty(2 * TILE_FLOATS), aligned_empty(2 * TILE_FLOATS + 2 * LANES))


@helper
def advance(rates, states, tile, B, C, steps, N):
    """h_t = decay_t * h_(t-1) + drive_t * B_t and y_t += <h_t, C_t>; ``states`` go from before the tile to after it."""
    n = 0
    # Four states at a time hide the latency of a multiply-add; those left over go one by one.
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
        h0 = fma(e0, h0, x * value_at(B, n, t))
        h1 = fma(e1, h1, x * value_at(B, n + 1, t))
        h2 = fma(e2, h2, x * value_at(B, n + 2, t))
        h3 = fma(e3, h3, x * value_at(B, n + 3, t))
        y = fma(h1, value_at(C, n + 1, t), fma(h0, value_at(C, n, t), y))
        y = fma(h3, value_at(C, n + 3, t), fma(h2, value_at(C, n + 2, t), y))
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
        h = fma(exp2(load(tile.delta, i) * a), h, load(tile.drive, i) * value_at(B, n, t))
        store(tile.y, i, fma(h, value_at(C, n, t), load(tile.y, i)))
    store(states, n * LANES, h)


@helper
def advance_backward(rates, checkpoint, carry, rates_grad, tile, grad, history, B, B_grad, C, C_grad, steps, N):
    """The gradient of ``advance``: the tile once more from its ``checkpoint`` of the states, then backward in time.

    ``carry`` goes from the gradient of the states after the tile to that of the states before it; ``grad.y`` is
    given. ``grad.delta``, ``grad.drive``, ``rates_grad`` (of A) and, lane by lane, ``B_grad`` and ``C_grad`` are
    added to.
    """
    n = 0
    # Two states at a time: more of them do not fit the registers.
    while n + 2 <= N:
        _replay_two(rates, checkpoint, tile, grad, history, B, C, C_grad, n, steps)
        _reverse_two(rates, carry, rates_grad, tile, grad, history, B, B_grad, C, n, steps)
        n += 2
    if n < N:
        _replay_one(rates, checkpoint, tile, grad, history, B, C, C_grad, n, steps)
        _reverse_one(rates, carry, rates_grad, tile, grad, history, B, B_grad, C, n, steps)


@helper
def _replay_two(rates, checkpoint, tile, grad, history, B, C, C_grad, n, steps):
    a0, a1 = load(rates, n * LANES), load(rates, (n + 1) * LANES)
    h0, h1 = load(checkpoint, n * LANES), load(checkpoint, (n + 1) * LANES)
    store(history.states, 0, h0)
    store(history.states, LANES, h1)
    for t in range(steps):
        d, x, i = load(tile.delta, t * LANES), load(tile.drive, t * LANES), 2 * t * LANES
        e0, e1 = exp2(d * a0), exp2(d * a1)
        h0 = fma(e0, h0, x * value_at(B, n, t))
        h1 = fma(e1, h1, x * value_at(B, n + 1, t))
        q = load(grad.y, t * LANES)
        # C's gradient needs h_t alone. Here it takes work off the way back, so that both ways take equally long.
        _add_product(C_grad, gradient_slot(C, n, t), q, h0)
        _add_product(C_grad, gradient_slot(C, n + 1, t), q, h1)
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
        g0, g1 = fma(q, value_at(C, n, t), g0), fma(q, value_at(C, n + 1, t), g1)
        _add_product(B_grad, gradient_slot(B, n, t), x, g0)
        _add_product(B_grad, gradient_slot(B, n + 1, t), x, g1)
        to_drive = fma(g0, value_at(B, n, t), load(grad.drive, t * LANES))
        store(grad.drive, t * LANES, fma(g1, value_at(B, n + 1, t), to_drive))
        # From here on, g is the gradient of h_(t-1). Times h_(t-1) it is also that of the decay's exponent, but for
        # a factor log(2), because the derivative of 2**x contains 2**x.
        g0, g1 = g0 * load(history.decays, i), g1 * load(history.decays, i + LANES)
        w0, w1 = g0 * load(history.states, i), g1 * load(history.states, i + LANES)
        s0, s1 = fma(w0, d, s0), fma(w1, d, s1)
        store(grad.delta, t * LANES, fma(w1, a1, fma(w0, a0, load(grad.delta, t * LANES))))
    store(carry, n * LANES, g0)
    store(carry, (n + 1) * LANES, g1)
    store(rates_grad, n * LANES, s0)
    store(rates_grad, (n + 1) * LANES, s1)


@helper
def _replay_one(rates, checkpoint, tile, grad, history, B, C, C_grad, n, steps):
    a, h = load(rates, n * LANES), load(checkpoint, n * LANES)
    store(history.states, 0, h)
    for t in range(steps):
        i = t * LANES
        e = exp2(load(tile.delta, i) * a)
        h = fma(e, h, load(tile.drive, i) * value_at(B, n, t))
        _add_product(C_grad, gradient_slot(C, n, t), load(grad.y, i), h)
        store(history.decays, i, e)
        store(history.states, i + LANES, h)


@helper
def _reverse_one(rates, carry, rates_grad, tile, grad, history, B, B_grad, C, n, steps):
    a, g, s = load(rates, n * LANES), load(carry, n * LANES), load(rates_grad, n * LANES)
    for t in range(steps - 1, -1, -1):
        i = t * LANES
        q, x = load(grad.y, i), load(tile.drive, i)
        g = fma(q, value_at(C, n, t), g)
        _add_product(B_grad, gradient_slot(B, n, t), x, g)
        store(grad.drive, i, fma(g, value_at(B, n, t), load(grad.drive, i)))
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
def sum_lanes(sums, N, steps, target, start, state_stride, time_stride):
    """Write the lane sums of a tile's vectors (N, TILE, LANES) to ``target``, with strides per state and time step."""
    whole, totals = steps - steps % LANES, aligned_empty(LANES)
    for n in range(N):
        for t in range(0, whole, LANES):
            store(totals, 0, lane_sums(sums, (n * TILE + t) * LANES))
            for i in range(LANES):
                target[start + n * state_stride + (t + i) * time_stride] = totals[i]
        for t in range(whole, steps):
            target[start + n * state_stride + t * time_stride] = lane_sum(load(sums, (n * TILE + t) * LANES))
