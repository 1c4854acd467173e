"""The phases of the backward kernel, in the order in which it runs them between two checkpoints.

``project``        step sizes of all time steps, to the scratch
``walk_forward``   states from the checkpoint on: gradient of C, and to the scratch the state before every segment
``replay``         a segment of TS time steps once more, its states and decays kept in registers
``walk_backward``  the same segment against time: gradients of everything but C and the projection
``unproject``      gradients of Δ become gradients of its projection

Blocks are (BD, N), channels by states. Compile-time constants that several phases take: ``N`` state size, ``R`` rank of
the Δ projection (0: Δ is given), ``BD`` channels, ``TS`` time steps of a segment, ``CKPT`` time steps from a checkpoint
to the next; ``MAP``, ``RAGGED`` and ``WIDE`` as in ``path.py``.
"""

# mypy: ignore-errors
# ruff: noqa: RUF005
# The language of kernels is not checked as Python, and has no unpacking.

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from yolomix.ops._triton.parts import LOG2E, sigmoid, softplus
from yolomix.ops._triton.path import advance, inside, locate

LN2 = tl.constexpr(0.6931471805599453)


class Buffers(NamedTuple):
    """Where one program reads and writes: everything at its own image, direction or group, and channels.

    What has channels is (L, BD) with ``s_l`` elements from a time step to the next. B, C and the inputs of Δ are
    (L, 2N + R), with ``s_rl``. The two scratch buffers point at whole blocks, those of the first time steps.
    """

    p_x: Any  # input
    p_q: Any  # gradient of the output
    p_delta: Any  # raw step sizes, not read where they are projected
    p_bcr: Any  # B, C and the inputs of Δ
    p_gx: Any  # gradient of the input
    p_gdelta: Any  # gradient of raw step sizes, not written where they are projected
    p_gbcr: Any  # gradient of B, C and the inputs of Δ, from these channels alone
    p_states: Any  # scratch (CKPT / TS, BD, N): the state before every segment
    p_dt: Any  # scratch (CKPT, 2, BD): the step size of every time step, and its slope, later its gradient
    s_l: Any
    s_rl: Any


@triton.jit
def settle(b_x, p_states):
    """The block b_x (BD, N) in the layout in which the scratch is read.

    Triton takes the layout of a block from how it was loaded. One that was loaded by channels gives each lane a channel
    of its own, and every sum over channels would pass through all lanes.
    """
    tl.debug_barrier()  # all lanes have read what is overwritten now
    tl.store(p_states, b_x)
    tl.debug_barrier()  # all lanes have written
    return tl.load(p_states)


@triton.jit
def project(
    at, path, p_w, p_bias, m_c, i_t, end, steps,
    N: tl.constexpr, R: tl.constexpr, BD: tl.constexpr, MAP: tl.constexpr,
    SOFTPLUS: tl.constexpr, BIAS: tl.constexpr, RAGGED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Step sizes of ``steps`` time steps from i_t on, and their slopes times log(2), to the scratch.

    p_w: weights (BD, R) of the projection; p_bias: (BD,).
    """
    b_bias = tl.zeros((BD,), tl.float32)
    if BIAS:
        b_bias = tl.load(p_bias, mask=m_c, other=0.0).to(tl.float32)
    if R > 0:
        o_r = tl.arange(0, R)
        b_w = tl.load(p_w + (tl.arange(0, BD) * R)[:, None] + o_r[None, :])
    i_p, i_j = locate(path, i_t, MAP, False)
    for i in range(steps):
        o_p = inside(path, i_p, RAGGED, WIDE)
        if R > 0:
            b_r = tl.load(at.p_bcr + o_p * at.s_rl + 2 * N + o_r)
            b_dt = b_bias + tl.sum(b_w * b_r[None, :], 1)
        else:
            b_dt = b_bias + tl.load(at.p_delta + o_p * at.s_l, mask=m_c, other=0.0).to(tl.float32)
        if SOFTPLUS:
            # log(2), because rates are in powers of two: the gradient that meets this slope is log2(e) times too large
            tl.store(at.p_dt + (2 * i + 1) * BD, sigmoid(b_dt) * LN2)
            b_dt = softplus(b_dt)
        if RAGGED:
            b_dt = tl.where(i_t + i < end, b_dt, 0.0)  # a step of size zero leaves the state as it is
        tl.store(at.p_dt + 2 * i * BD, b_dt)
        i_p, i_j = advance(path, i_p, i_j, MAP, False)


@triton.jit
def walk_forward(
    at, path, b_h, b_a, o_n, m_c, i_t, end, segments,
    N: tl.constexpr, BD: tl.constexpr, TS: tl.constexpr, MAP: tl.constexpr, RAGGED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """From the checkpoint b_h before time step i_t: gradients of C, and to the scratch the state before each segment.

    dC_t = sum_d q_t h_t is summed here, where h_t passes by anyway. On the way back, one more state per time step would
    have to stay in registers, which spilled 26 of them.
    """
    i_p, i_j = locate(path, i_t, MAP, False)
    for i_s in range(segments):
        tl.store(at.p_states + i_s * (BD * N), b_h)
        for i in tl.static_range(TS):
            o_p = inside(path, i_p, RAGGED, WIDE)
            b_x = tl.load(at.p_x + o_p * at.s_l, mask=m_c, other=0.0).to(tl.float32)
            b_q = tl.load(at.p_q + o_p * at.s_l, mask=m_c, other=0.0).to(tl.float32)
            b_dt = tl.load(at.p_dt + 2 * (i_s * TS + i) * BD)
            b_b = tl.load(at.p_bcr + o_p * at.s_rl + o_n)
            b_h = tl.exp2(b_a * b_dt[:, None]) * b_h + (b_dt * b_x)[:, None] * b_b[None, :]
            m_n = o_n < tl.where(i_t + i_s * TS + i < end, N, 0) if RAGGED else None
            tl.store(at.p_gbcr + o_p * at.s_rl + N + o_n, tl.sum(b_q[:, None] * b_h, 0), mask=m_n)
            i_p, i_j = advance(path, i_p, i_j, MAP, False)


@triton.jit
def replay(at, cells, b_a, o_n, m_c, i_s, N: tl.constexpr, BD: tl.constexpr, TS: tl.constexpr):
    """What the way back needs of each of the TS time steps of segment i_s, in registers.

    Returns, one per time step, states (BD, N) before it, decays (BD, N), step sizes (BD,) and inputs (BD,). Segments of
    twice the length would spill 113 registers.
    """
    states = (tl.load(at.p_states + i_s * (BD * N)),)
    decays = ()
    dts = ()
    xs = ()
    for i in tl.static_range(TS):
        b_x = tl.load(at.p_x + cells[i] * at.s_l, mask=m_c, other=0.0).to(tl.float32)
        b_dt = tl.load(at.p_dt + 2 * (i_s * TS + i) * BD)
        b_decay = tl.exp2(b_a * b_dt[:, None])
        if i < TS - 1:
            b_b = tl.load(at.p_bcr + cells[i] * at.s_rl + o_n)
            states = states + (b_decay * states[i] + (b_dt * b_x)[:, None] * b_b[None, :],)
        decays = decays + (b_decay,)
        dts = dts + (b_dt,)
        xs = xs + (b_x,)
    return states, decays, dts, xs


@triton.jit
def walk_backward(
    at, cells, segment, sums, b_a, b_d, o_c, o_n, m_c, CG, i_t, i_s, end,
    N: tl.constexpr, R: tl.constexpr, BD: tl.constexpr, TS: tl.constexpr,
    SOFTPLUS: tl.constexpr, BIAS: tl.constexpr, SKIP: tl.constexpr, RAGGED: tl.constexpr,
):  # fmt: skip
    """Against time through segment i_s after the checkpoint at time step i_t.

    segment: from ``replay``, which read the same cells. sums: exp(dt_(t+1) A) g_(t+1) (BD, N), and what was added up so
    far of the gradients of A (BD, N), of the bias (BD,) and of D (BD,). Returns the four as before the segment.
    """
    states, decays, dts, xs = segment
    b_g, b_ga, b_gbias, b_gd = sums
    for i in tl.static_range(TS - 1, -1, -1):
        o_p = cells[i]
        b_x = xs[i]
        b_dt = dts[i]
        live = i_t + i_s * TS + i < end
        # past the end a mask that is all false, by one comparison with another bound
        m_t = o_c < tl.where(live, CG, 0) if RAGGED else m_c
        m_n = o_n < tl.where(live, N, 0) if RAGGED else None
        b_q = tl.load(at.p_q + o_p * at.s_l, mask=m_t, other=0.0).to(tl.float32)
        p_b = at.p_bcr + o_p * at.s_rl + o_n
        b_g += b_q[:, None] * tl.load(p_b + N)[None, :]
        tl.store(at.p_gbcr + o_p * at.s_rl + o_n, tl.sum((b_dt * b_x)[:, None] * b_g, 0), mask=m_n)
        b_gb = tl.sum(b_g * tl.load(p_b)[None, :], 1)  # <g_t, B_t>
        b_g *= decays[i]
        b_e = b_g * states[i]
        b_ga += b_e * b_dt[:, None]
        # b_a is A log2(e), so x has that factor too; the slope, which has log(2), takes it away from both
        b_gdt = b_gb * (b_x * LOG2E) + tl.sum(b_e * b_a, 1)
        p_gdt = at.p_dt + (2 * (i_s * TS + i) + 1) * BD
        b_gdt *= tl.load(p_gdt) if SOFTPLUS else LN2
        b_gx = b_gb * b_dt
        if SKIP:
            b_gx += b_q * b_d
            b_gd += b_q * b_x
        tl.store(at.p_gx + o_p * at.s_l, b_gx, mask=m_t)
        if RAGGED:
            b_gdt = tl.where(live, b_gdt, 0.0)
        if BIAS:
            b_gbias += b_gdt
        if R > 0:
            tl.store(p_gdt, b_gdt)  # in place of the slope, for ``unproject``
        else:
            tl.store(at.p_gdelta + o_p * at.s_l, b_gdt, mask=m_t)
    return b_g, b_ga, b_gbias, b_gd


@triton.jit
def unproject(
    at, path, p_gdt, p_w, p_gw, channels, first, i_t, steps,
    N: tl.constexpr, R: tl.constexpr, BD: tl.constexpr, CKPT: tl.constexpr, MAP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """From gradients of Δ at ``steps`` time steps from i_t on: those of its R inputs, and of the weights (BD, R).

    p_gdt: the first gradient in the scratch; p_gw: gradients of the weights, which hold nothing yet at the ``first``
    call; channels: how many of BD there are. For the inputs a lane is a time step and walks the channels. For the
    weights it is a channel and walks the time steps. So neither sum passes through other lanes. As a matrix product it
    took more instructions, and spilled.
    """
    o_r = tl.arange(0, R)
    o_t = tl.arange(0, CKPT)
    i_ps, _ = locate(path, i_t + o_t, MAP, False)
    p_gr = at.p_gbcr + 2 * N + inside(path, i_ps, False, WIDE)[:, None] * at.s_rl + o_r[None, :]
    # nothing is read: zeros in the layout of the store below, so that the loop converts no layouts
    b_gr = tl.load(p_gr, mask=(o_t < -steps)[:, None], other=0.0)
    for i in range(BD):
        b_gdt = tl.load(p_gdt + o_t * (2 * BD) + i)
        b_gr += b_gdt[:, None] * tl.load(p_w + i * R + o_r)[None, :]
    tl.store(p_gr, b_gr, mask=(o_t < steps)[:, None])

    o_d = tl.arange(0, BD)
    p_gw += (o_d * R)[:, None] + o_r[None, :]
    # added up in memory from checkpoint to checkpoint, so that it takes no registers from the walks
    b_gw = tl.load(p_gw, mask=(o_d < tl.where(first, 0, channels))[:, None], other=0.0)
    i_p, i_j = locate(path, i_t, MAP, False)
    for i in range(steps):
        b_r = tl.load(at.p_bcr + inside(path, i_p, False, WIDE) * at.s_rl + 2 * N + o_r)
        b_gw += tl.load(p_gdt + 2 * i * BD + o_d)[:, None] * b_r[None, :]
        i_p, i_j = advance(path, i_p, i_j, MAP, False)
    tl.store(p_gw, b_gw, mask=(o_d < channels)[:, None])
