"""Forward kernels: one thread is one channel with all its states in registers, time runs in the thread.

Layout. Blocks are (N, BD), states by channels, and every pointer to channels is left without an alignment promise:
then the compiler gives each lane one channel with all its states (16-byte loads of channels would spread the states
over lanes and cost shuffles at every step). B, C and the inputs of delta are the same for all channels of a group:
they are loaded once per warp, 16 bytes at a time.

A sequence is cut into NC chunks when there are too few channels to fill the device. ``scan_ends`` leaves each chunk's
end state and sum of delta, and ``scan_forward`` starts by carrying those of the chunks before its own:
h = exp(A * sum) * h + end.

``p_row`` holds rows of N numbers of B, N of C and R that ``p_w`` (R, D) turns into raw step sizes; with R = 0 those
are in ``p_delta``. ``p_a`` is (NS, D), NS <= N. ``K`` is the number of groups, or of directions if ``MAP``.
"""

# mypy: ignore-errors
# ruff: noqa: RUF005
# The language of kernels is not checked as Python, and has no unpacking.

from __future__ import annotations

import triton
import triton.language as tl

from yolomix.ops._triton.parts import LOG2E, SIZES, advance, inside, locate, program, sigmoid, softplus

CHANNELS = [
    "p_x",
    "p_delta",
    "p_w",
    "p_bias",
    "p_a",
    "p_d",
    "p_z",
    "p_y",
    "p_raw",
    "p_state",
    "p_sum",
    "p_mark",
    "p_last",
]


@triton.jit
def rates(p_a, n, d, m_c, NS, D):
    """Decay rates (N, BD) in powers of two per unit of time; zero for the states that pad N."""
    return tl.load(p_a + n[:, None] * D + d[None, :], mask=(n < NS)[:, None] & m_c[None, :], other=0.0) * LOG2E


@triton.jit
def raw_delta(p_delta, row, b_w, b_bias, r, m_c, N: tl.constexpr, R: tl.constexpr):
    """Step sizes (BD,) before the softplus: read, or projected from the R numbers of the row."""
    if R > 0:
        return b_bias + tl.sum(b_w * tl.load(row + 2 * N + r)[:, None], 0)
    else:
        return b_bias + tl.load(p_delta, mask=m_c, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=CHANNELS)
def scan_ends(
    p_x, p_delta, p_row, p_w, p_bias, p_a, p_state, p_sum,
    L, H, W, CG, NS, RS, NC, LC,
    s_l, s_xk, s_rl, s_rk4,
    K: tl.constexpr, N: tl.constexpr, R: tl.constexpr, BD: tl.constexpr, U: tl.constexpr,
    BACK: tl.constexpr, MAP: tl.constexpr, SOFTPLUS: tl.constexpr,
    BIAS: tl.constexpr, RAGGED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """What each chunk leaves behind when it starts from zero: p_state (B, K, NC, N, CG), p_sum (B, K, NC, CG).

    Forward it is the state after the chunk; of the last nobody asks. With ``BACK``, p_x being the gradient of the
    output, it is the gradient that the chunk passes on to the state before it; of the first nobody asks.
    """
    i_c, k, i_ch, b = program(CG, NC - 1, K, BD)
    if BACK:
        i_ch += 1
    c = i_c * BD + tl.arange(0, BD)
    n = tl.arange(0, N)
    m_c = c < CG
    d = k * CG + c
    a = rates(p_a, n, d, m_c, NS, K * CG)
    r = tl.arange(0, R if R > 0 else 1)
    b_w = 0.0
    if R > 0:
        b_w = tl.load(p_w + r[:, None] * (K * CG) + d[None, :], mask=(r < RS)[:, None] & m_c[None, :], other=0.0)
    b_bias = tl.zeros((BD,), tl.float32)
    if BIAS:
        b_bias = tl.load(p_bias + d, mask=m_c, other=0.0).to(tl.float32)
    h = tl.zeros((N, BD), tl.float32)
    total = tl.zeros((BD,), tl.float32)
    t = i_ch * LC
    end = tl.minimum(t + LC, L)
    p, j = locate(L - end if BACK else t, k, L, H, W, MAP, BACK)
    o_x = b * L * s_l + k * s_xk + c
    p_x += o_x
    p_delta += o_x
    p_row += b * L * s_rl + k * (s_rk4 * 4)
    for i_u in range(tl.cdiv(end - t, U)):
        for i in tl.static_range(U):
            o = inside(p, L, RAGGED, WIDE)
            row = p_row + o * s_rl
            x = tl.load(p_x + o * s_l, mask=m_c, other=0.0).to(tl.float32)
            dt = raw_delta(p_delta + o * s_l, row, b_w, b_bias, r, m_c, N, R)
            if SOFTPLUS:
                dt = softplus(dt)
            if RAGGED:
                live = i_u * U + i < end - t
                dt = tl.where(live, dt, 0.0)
                x = tl.where(live, x, 0.0)
            decay = tl.exp2(a * dt[None, :])
            if BACK:
                h = decay * (h + x[None, :] * tl.load(row + N + n)[:, None])
            else:
                h = decay * h + (dt * x)[None, :] * tl.load(row + n)[:, None]
            total += dt
            p, j = advance(p, j, k, L, H, W, MAP, BACK)
    o_end = (b * K + k) * NC + i_ch
    tl.store(p_state + o_end * N * CG + (n * CG)[:, None] + c[None, :], h, mask=m_c[None, :])
    tl.store(p_sum + o_end * CG + c, total, mask=m_c)


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=CHANNELS)
def scan_forward(
    p_x, p_delta, p_row, p_w, p_bias, p_a, p_d, p_z, p_y, p_raw, p_state, p_sum, p_mark, p_last,
    L, H, W, CG, NS, RS, NC, LC,
    s_l, s_xk, s_yb, s_yk, s_rl, s_rk4,
    K: tl.constexpr, N: tl.constexpr, R: tl.constexpr, BD: tl.constexpr, U: tl.constexpr, LM: tl.constexpr,
    CHUNKED: tl.constexpr, MARKS: tl.constexpr, LAST: tl.constexpr, MAP: tl.constexpr, SOFTPLUS: tl.constexpr,
    BIAS: tl.constexpr, SKIP: tl.constexpr, GATE: tl.constexpr, RAGGED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Outputs of one chunk: p_y, and p_raw before the gate if it is needed for gradients.

    p_mark (B, K, marks, N, CG): the state before every LM-th step, for the backward pass; p_last (B, K, N, CG): the
    state after the last step.
    """
    i_c, k, i_ch, b = program(CG, NC, K, BD)
    c = i_c * BD + tl.arange(0, BD)
    n = tl.arange(0, N)
    m_c = c < CG
    d = k * CG + c
    a = rates(p_a, n, d, m_c, NS, K * CG)
    r = tl.arange(0, R if R > 0 else 1)
    b_w = 0.0
    if R > 0:
        b_w = tl.load(p_w + r[:, None] * (K * CG) + d[None, :], mask=(r < RS)[:, None] & m_c[None, :], other=0.0)
    b_bias = tl.zeros((BD,), tl.float32)
    if BIAS:
        b_bias = tl.load(p_bias + d, mask=m_c, other=0.0).to(tl.float32)
    if SKIP:
        b_d = tl.load(p_d + d, mask=m_c, other=0.0).to(tl.float32)
    h = tl.zeros((N, BD), tl.float32)
    o_cn = (n * CG)[:, None] + c[None, :]
    if CHUNKED:
        p_state += (b * K + k) * NC * N * CG
        p_sum += (b * K + k) * NC * CG + c
        for _e in range(i_ch):
            decay = tl.exp2(a * tl.load(p_sum, mask=m_c, other=0.0)[None, :])
            h = decay * h + tl.load(p_state + o_cn, mask=m_c[None, :], other=0.0)
            p_state += N * CG
            p_sum += CG
    t = i_ch * LC
    end = tl.minimum(t + LC, L)
    p, j = locate(t, k, L, H, W, MAP, False)
    o_x = b * L * s_l + k * s_xk + c
    p_x += o_x
    p_delta += o_x
    p_z += o_x
    p_raw += o_x
    p_y += b * s_yb + k.to(tl.int64) * s_yk + c
    p_row += b * L * s_rl + k * (s_rk4 * 4)
    p_mark += ((b * K + k) * tl.cdiv(L, LM) + t // LM) * N * CG
    while t < end:
        if MARKS:
            tl.store(p_mark + o_cn, h, mask=m_c[None, :])
            p_mark += N * CG
        for i_u in range(tl.cdiv(tl.minimum(end - t, LM), U)):
            ys = ()
            cells = ()
            for i in tl.static_range(U):
                o = inside(p, L, RAGGED, WIDE)
                row = p_row + o * s_rl
                x = tl.load(p_x + o * s_l, mask=m_c, other=0.0).to(tl.float32)
                dt = raw_delta(p_delta + o * s_l, row, b_w, b_bias, r, m_c, N, R)
                if SOFTPLUS:
                    dt = softplus(dt)
                if RAGGED:
                    dt = tl.where(t + i_u * U + i < end, dt, 0.0)
                h = tl.exp2(a * dt[None, :]) * h + (dt * x)[None, :] * tl.load(row + n)[:, None]
                y = tl.sum(h * tl.load(row + N + n)[:, None], 0)
                if SKIP:
                    y += x * b_d
                ys = ys + (y,)
                cells = cells + (o,)
                p, j = advance(p, j, k, L, H, W, MAP, False)
            for i in tl.static_range(U):  # after all loads of the block, so that these need not wait
                m_y = c < tl.where(t + i_u * U + i < end, CG, 0) if RAGGED else m_c
                y = ys[i]
                if GATE:
                    if MARKS:
                        tl.store(p_raw + cells[i] * s_l, y, mask=m_y)
                    z = tl.load(p_z + cells[i] * s_l, mask=m_y, other=0.0).to(tl.float32)
                    y *= z * sigmoid(z)
                tl.store(p_y + cells[i] * s_l, y, mask=m_y)
        t += LM
    if LAST:
        m_last = c < tl.where(end == L, CG, 0)
        tl.store(p_last + (b * K + k) * N * CG + o_cn, h, mask=m_last[None, :])
