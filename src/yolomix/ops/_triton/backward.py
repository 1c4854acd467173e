"""Backward kernel: states recomputed from marks, gradients carried against time, nothing added atomically.

Layout. Blocks are (BD, N). The compiler takes the layout of a block from how it is read, so every block passes through
the program's scratch once (``settle``), which is read 16 bytes of states at a time: a lane holds a tile of 4 channels
by 4 states. Sums over channels (gradients of B and C) and sums over states (gradients of the input and of delta) then
cost a few shuffles each.

A program walks its chunk mark by mark from the end, with a scratch of its own, which stays in cache. Between two marks
``project`` leaves the step sizes there. ``walk_forward`` writes the gradient of C and leaves the state before every
TS-th step. Then, segment by segment from the end, the states in between are recomputed into registers and walked
backwards, which leaves the gradients of delta; ``unproject`` turns those into gradients of its projection. With q
the gradient of the output and g_t = q_t C_t + exp(dt_(t+1) A) g_(t+1):

    dC_t = sum_d q_t h_t        dB_t = sum_d dt_t u_t g_t        e_t = g_t exp(dt_t A) h_(t-1)
    du_t = dt_t <g_t, B_t>      d dt_t = u_t <g_t, B_t> + <e_t, A>        dA = sum_t dt_t e_t
"""

# mypy: ignore-errors
# ruff: noqa: RUF005
# The language of kernels is not checked as Python, and has no unpacking.

from __future__ import annotations

import triton
import triton.language as tl

from yolomix.ops._triton.parts import LOG2E, SIZES, advance, inside, locate, program, sigmoid, softplus

LN2 = tl.constexpr(0.6931471805599453)
CHANNELS = [
    "p_x",
    "p_q",
    "p_delta",
    "p_bias",
    "p_a",
    "p_d",
    "p_state",
    "p_sum",
    "p_mark",
    "p_gx",
    "p_gdelta",
]


@triton.jit
def settle(block, p_scratch, o_tile):
    """The block in the layout of the scratch."""
    tl.debug_barrier()
    tl.store(p_scratch + o_tile, block)
    tl.debug_barrier()
    return tl.load(p_scratch + o_tile)


@triton.jit
def project(
    p_delta, p_row, p_w, p_bias, p_steps, m_c, t, end, steps, k, L, H, W, s_l, s_rl,
    N: tl.constexpr, R: tl.constexpr, BD: tl.constexpr, MAP: tl.constexpr,
    SOFTPLUS: tl.constexpr, BIAS: tl.constexpr, RAGGED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """From step t on, to the scratch: step sizes, and their slopes times log(2)."""
    bias = tl.zeros((BD,), tl.float32)
    if BIAS:
        bias = tl.load(p_bias, mask=m_c, other=0.0).to(tl.float32)
    if R > 0:
        r = tl.arange(0, R)
        w = tl.load(p_w + (tl.arange(0, BD) * R)[:, None] + r[None, :])
    p, j = locate(t, k, L, H, W, MAP, False)
    for i in range(steps):
        o = inside(p, L, RAGGED, WIDE)
        if R > 0:
            dt = bias + tl.sum(w * tl.load(p_row + o * s_rl + 2 * N + r)[None, :], 1)
        else:
            dt = bias + tl.load(p_delta + o * s_l, mask=m_c, other=0.0).to(tl.float32)
        if SOFTPLUS:
            tl.store(p_steps + (2 * i + 1) * BD, sigmoid(dt) * LN2)
            dt = softplus(dt)
        if RAGGED:
            dt = tl.where(t + i < end, dt, 0.0)
        tl.store(p_steps + 2 * i * BD, dt)
        p, j = advance(p, j, k, L, H, W, MAP, False)


@triton.jit
def walk_forward(
    p_x, p_q, p_row, p_grow, p_scratch, p_steps, h, a, n, m_c, t, end, segments, k, L, H, W, s_l, s_rl,
    N: tl.constexpr, BD: tl.constexpr, TS: tl.constexpr, MAP: tl.constexpr, RAGGED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """From the mark at step t with state h: gradients of C, and to the scratch states."""
    p, j = locate(t, k, L, H, W, MAP, False)
    for i_s in range(segments):
        tl.store(p_scratch + i_s * (BD * N), h)
        for i in tl.static_range(TS):
            o = inside(p, L, RAGGED, WIDE)
            x = tl.load(p_x + o * s_l, mask=m_c, other=0.0).to(tl.float32)
            q = tl.load(p_q + o * s_l, mask=m_c, other=0.0).to(tl.float32)
            dt = tl.load(p_steps + 2 * (i_s * TS + i) * BD)
            h = tl.exp2(a * dt[:, None]) * h + (dt * x)[:, None] * tl.load(p_row + o * s_rl + n)[None, :]
            m_n = n < tl.where(t + i_s * TS + i < end, N, 0) if RAGGED else None
            tl.store(p_grow + o * s_rl + N + n, tl.sum(q[:, None] * h, 0), mask=m_n)
            p, j = advance(p, j, k, L, H, W, MAP, False)


@triton.jit
def unproject(
    p_gdt, p_row, p_grow, p_w, p_gw, channels, first, t, steps, k, L, H, W, s_rl,
    R: tl.constexpr, BD: tl.constexpr, LM: tl.constexpr, MAP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """From gradients of delta at ``steps`` steps from t on: those of the R numbers of their rows, and of the weights.

    For the rows a lane is a step and walks the channels; for the weights it is a channel and walks the steps.
    """
    r = tl.arange(0, R)
    i_t = tl.arange(0, LM)
    cells, _ = locate(t + i_t, k, L, H, W, MAP, False)
    if WIDE:
        cells = cells.to(tl.int64)
    p_grow += cells[:, None] * s_rl + r[None, :]
    grow = tl.load(p_grow, mask=(i_t < -steps)[:, None], other=0.0)  # nothing is read: zeros in the layout of the store
    for i in range(BD):
        gdt = tl.load(p_gdt + i_t * (2 * BD) + i)
        grow += gdt[:, None] * tl.load(p_w + i * R + r)[None, :]
    tl.store(p_grow, grow, mask=(i_t < steps)[:, None])
    i_d = tl.arange(0, BD)
    p_gw += (i_d * R)[:, None] + r[None, :]
    gw = tl.load(p_gw, mask=(i_d < tl.where(first, 0, channels))[:, None], other=0.0)
    p, j = locate(t, k, L, H, W, MAP, False)
    for i in range(steps):
        o = inside(p, L, False, WIDE)
        gw += tl.load(p_gdt + 2 * i * BD + i_d)[:, None] * tl.load(p_row + o * s_rl + r)[None, :]
        p, j = advance(p, j, k, L, H, W, MAP, False)
    tl.store(p_gw, gw, mask=(i_d < channels)[:, None])


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=CHANNELS)
def scan_backward(
    p_x, p_q, p_delta, p_row, p_w, p_bias, p_a, p_d, p_state, p_sum, p_end, p_mark, p_scratch, p_steps,
    p_gx, p_gdelta, p_grow, p_ga, p_gw, p_gbias, p_gd,
    L, H, W, CG, NS, RS, NC, LC,
    s_l, s_xk, s_gb, s_gk, s_rl, s_rk4, s_rc,
    K: tl.constexpr, N: tl.constexpr, R: tl.constexpr, BD: tl.constexpr, TS: tl.constexpr, LM: tl.constexpr,
    CHUNKED: tl.constexpr, LAST: tl.constexpr, MAP: tl.constexpr, SOFTPLUS: tl.constexpr,
    BIAS: tl.constexpr, SKIP: tl.constexpr, RAGGED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Gradients of one chunk, p_q being the gradient of the output before the gate.

    p_state, p_sum: ``scan_ends`` with ``BACK``; p_end (B, K, N, CG): gradient of the last state; p_mark: states from
    ``scan_forward``; p_scratch, p_steps: LM / TS * BD * N and LM * 2 * BD numbers per program; p_w (K, C, R), C being
    CG in whole channel blocks, zero where it pads.
    p_gx, p_gdelta: gradients of the input and of raw delta; p_grow: of the rows, one copy per channel block;
    p_ga (B, K, NC, CG, N), p_gw (B, K, NC, CG, R), p_gbias and p_gd (B, K, NC, CG): of the parameters, to be summed.
    """
    i_c, k, i_ch, b = program(CG, NC, K, BD)
    c = i_c * BD + tl.arange(0, BD)
    n = tl.arange(0, N)
    m_c = c < CG
    d = k * CG + c
    o_nc = c[:, None] + (n * CG)[None, :]
    a = tl.load(p_a + d[:, None] + n[None, :] * (K * CG), mask=m_c[:, None] & (n < NS)[None, :], other=0.0) * LOG2E
    if SKIP:
        b_d = tl.load(p_d + d, mask=m_c, other=0.0).to(tl.float32)
    g = tl.zeros((BD, N), tl.float32)  # exp(dt_(t+1) A) g_(t+1)
    if LAST:
        g = tl.load(p_end + (b * K + k) * N * CG + o_nc, mask=m_c[:, None], other=0.0)
    if CHUNKED:
        o_end = (b * K + k) * NC + NC - 1
        for _e in range(i_ch + 1, NC):
            decay = tl.exp2(a * tl.load(p_sum + o_end * CG + c, mask=m_c, other=0.0)[:, None])
            g = decay * g + tl.load(p_state + o_end * N * CG + o_nc, mask=m_c[:, None], other=0.0)
            o_end -= 1
    o_x = b * L * s_l + k * s_xk + c
    p_x += o_x
    p_q += o_x
    p_delta += o_x
    p_gdelta += o_x
    p_gx += b * s_gb + k.to(tl.int64) * s_gk + c
    p_row += b * L * s_rl + k * (s_rk4 * 4)
    p_grow += b * L * s_rl + k * (s_rk4 * 4) + i_c * s_rc.to(tl.int64)
    p_scratch += tl.program_id(0).to(tl.int64) * (LM // TS * BD * N)
    o_tile = (tl.arange(0, BD) * N)[:, None] + n[None, :]
    g = settle(g, p_scratch, o_tile)
    a = settle(a, p_scratch, o_tile)
    o_part = ((b * K + k) * NC + i_ch) * CG
    p_w += (k * tl.cdiv(CG, BD) + i_c) * (BD * R)
    p_gw += (o_part + i_c * BD) * R
    p_gdt = p_steps + tl.program_id(0).to(tl.int64) * (LM * 2 * BD) + BD
    p_steps = p_gdt - BD + tl.arange(0, BD)
    b_ga = tl.zeros((BD, N), tl.float32)
    b_gbias = tl.zeros((BD,), tl.float32)
    b_gd = tl.zeros((BD,), tl.float32)
    start = i_ch * LC
    end = tl.minimum(start + LC, L)
    marks = tl.cdiv(end - start, LM)
    for i_m in range(marks):
        t = start + (marks - 1 - i_m) * LM
        segments = tl.cdiv(tl.minimum(end - t, LM), TS)
        project(
            p_delta, p_row, p_w, p_bias + d, p_steps, m_c, t, end, segments * TS, k, L, H, W, s_l, s_rl,
            N, R, BD, MAP, SOFTPLUS, BIAS, RAGGED, WIDE,
        )  # fmt: skip
        o_mark = ((b * K + k) * tl.cdiv(L, LM) + t // LM) * N * CG
        h = settle(tl.load(p_mark + o_mark + o_nc, mask=m_c[:, None], other=0.0), p_scratch, o_tile)
        walk_forward(
            p_x, p_q, p_row, p_grow, p_scratch + o_tile, p_steps, h, a, n, m_c, t, end, segments, k, L, H, W, s_l, s_rl,
            N, BD, TS, MAP, RAGGED, WIDE,
        )  # fmt: skip
        tl.debug_barrier()
        p, j = locate(L - t - segments * TS, k, L, H, W, MAP, True)
        for i_s in range(segments):
            i_t = segments - 1 - i_s
            ts = t + i_t * TS
            hs = (tl.load(p_scratch + i_t * (BD * N) + o_tile),)
            decays = ()
            dts = ()
            xs = ()
            cells = ()
            for _b in tl.static_range(TS):
                cells = (inside(p, L, RAGGED, WIDE),) + cells
                p, j = advance(p, j, k, L, H, W, MAP, True)
            for i in tl.static_range(TS):
                o = cells[i]
                row = p_row + o * s_rl
                x = tl.load(p_x + o * s_l, mask=m_c, other=0.0).to(tl.float32)
                dt = tl.load(p_steps + 2 * (i_t * TS + i) * BD)
                decay = tl.exp2(a * dt[:, None])
                if i < TS - 1:
                    hs = hs + (decay * hs[i] + (dt * x)[:, None] * tl.load(row + n)[None, :],)
                decays = decays + (decay,)
                dts = dts + (dt,)
                xs = xs + (x,)
            for i in tl.static_range(TS - 1, -1, -1):
                o = cells[i]
                x = xs[i]
                dt = dts[i]
                live = ts + i < end
                m_t = c < tl.where(live, CG, 0) if RAGGED else m_c
                m_n = n < tl.where(live, N, 0) if RAGGED else None
                q = tl.load(p_q + o * s_l, mask=m_t, other=0.0).to(tl.float32)
                row = p_row + o * s_rl
                grow = p_grow + o * s_rl
                g += q[:, None] * tl.load(row + N + n)[None, :]
                tl.store(grow + n, tl.sum((dt * x)[:, None] * g, 0), mask=m_n)
                w = tl.sum(g * tl.load(row + n)[None, :], 1)
                g *= decays[i]
                e = g * hs[i]
                b_ga += e * dt[:, None]
                gdt = w * (x * LOG2E) + tl.sum(e * a, 1)
                gdt *= tl.load(p_steps + (2 * (i_t * TS + i) + 1) * BD) if SOFTPLUS else LN2
                gx = w * dt
                if SKIP:
                    gx += q * b_d
                    b_gd += q * x
                tl.store(p_gx + o * s_l, gx, mask=m_t)
                if RAGGED:
                    gdt = tl.where(live, gdt, 0.0)
                if BIAS:
                    b_gbias += gdt
                if R > 0:
                    tl.store(p_steps + (2 * (i_t * TS + i) + 1) * BD, gdt)
                else:
                    tl.store(p_gdelta + o * s_l, gdt, mask=m_t)
        tl.debug_barrier()
        if R > 0:
            unproject(
                p_gdt, p_row + 2 * N, p_grow + 2 * N, p_w, p_gw, CG - i_c * BD, i_m == 0, t, tl.minimum(end - t, LM),
                k, L, H, W, s_rl,
                R, BD, LM, MAP, WIDE,
            )  # fmt: skip
            tl.debug_barrier()
    tl.store(p_ga + (o_part + c)[:, None] * N + n[None, :], b_ga, mask=m_c[:, None])
    if BIAS:
        tl.store(p_gbias + o_part + c, b_gbias, mask=m_c)
    if SKIP:
        tl.store(p_gd + o_part + c, b_gd, mask=m_c)
