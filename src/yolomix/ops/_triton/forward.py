"""Forward kernels: one thread is one channel with all its states in registers, time runs in the thread.

Layout. Blocks are (N, BD), states by channels, and every pointer to channels is left without an alignment promise:
then the compiler gives each lane one channel with all its states (16-byte loads of channels would spread the states
over lanes and cost shuffles at every time step). B, C and the inputs of Δ are the same for all channels of a group:
they are loaded once per warp, 16 bytes at a time.

A sequence is cut into NC chunks when there are too few channels to fill the device. ``scan_ends`` leaves each chunk's
end state and sum of Δ, and ``scan_forward`` starts by carrying those of the chunks before its own (``carry``).

``p_bcr`` holds N elements of B, N of C and R that ``p_w`` (R, D) turns into raw step sizes; with R = 0 those are in
``p_delta``. ``p_a`` is (NS, D), NS <= N. ``K`` is the number of groups, or of directions if ``MAP``.
"""

# mypy: ignore-errors
# ruff: noqa: RUF005
# The language of kernels is not checked as Python, and has no unpacking.

from __future__ import annotations

import triton
import triton.language as tl

from yolomix.ops._triton.parts import LOG2E, SIZES, carry, first_cell, program, sigmoid, softplus
from yolomix.ops._triton.path import Path, advance, inside, locate

# no promise of alignment: see "Layout" above
CHANNELS = ["p_x", "p_delta", "p_w", "p_bias", "p_a", "p_d", "p_z", "p_y", "p_raw", "p_state", "p_sum", "p_ckpt",
            "p_last"]  # fmt: skip


@triton.jit
def _rates(p_a, o_n, o_d, m_c, NS, D):
    """Decay rates (N, BD) in powers of two per unit of time; zero for the states that pad N."""
    m_a = (o_n < NS)[:, None] & m_c[None, :]
    return tl.load(p_a + o_n[:, None] * D + o_d[None, :], mask=m_a, other=0.0) * LOG2E


@triton.jit
def _projection(p_w, p_bias, o_r, o_d, m_c, RS, D, R: tl.constexpr, BD: tl.constexpr, BIAS: tl.constexpr):
    """What turns the R inputs into raw step sizes: weights (R, BD), zero where R pads them, and bias (BD,)."""
    b_w = tl.zeros((1, BD), tl.float32)
    if R > 0:
        b_w = tl.load(p_w + o_r[:, None] * D + o_d[None, :], mask=(o_r < RS)[:, None] & m_c[None, :], other=0.0)
    b_bias = tl.zeros((BD,), tl.float32)
    if BIAS:
        b_bias = tl.load(p_bias + o_d, mask=m_c, other=0.0).to(tl.float32)
    return b_w, b_bias


@triton.jit
def _step_size(
    p_delta, p_bcr, b_w, b_bias, o_r, m_c, live,
    N: tl.constexpr, R: tl.constexpr, SOFTPLUS: tl.constexpr, RAGGED: tl.constexpr,
):  # fmt: skip
    """Step sizes Δ (BD,) of one time step: read, or projected from its R inputs; zero past the end of the chunk."""
    if R > 0:
        b_dt = b_bias + tl.sum(b_w * tl.load(p_bcr + 2 * N + o_r)[:, None], 0)
    else:
        b_dt = b_bias + tl.load(p_delta, mask=m_c, other=0.0).to(tl.float32)
    if SOFTPLUS:
        b_dt = softplus(b_dt)
    if RAGGED:
        b_dt = tl.where(live, b_dt, 0.0)  # a step of size zero leaves the state as it is
    return b_dt


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=CHANNELS)
def scan_ends(
    p_x, p_delta, p_bcr, p_w, p_bias, p_a, p_state, p_sum,
    L, H, W, CG, NS, RS, NC, LC, s_l, s_rl,
    K: tl.constexpr, N: tl.constexpr, R: tl.constexpr, BD: tl.constexpr, U: tl.constexpr,
    BACK: tl.constexpr, MAP: tl.constexpr, SOFTPLUS: tl.constexpr,
    BIAS: tl.constexpr, RAGGED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """What each chunk leaves behind when it starts from zero: p_state (B, K, NC, N, CG), p_sum (B, K, NC, CG).

    Forward it is the state after the chunk; of the last nobody asks. With ``BACK``, p_x being the gradient of the
    output, it is the gradient that the chunk passes on to the state before it; of the first nobody asks.
    """
    i_c, i_k, i_ch, i_b = program(CG, NC - 1, K, BD)
    if BACK:
        i_ch += 1
    path = Path(i_k, L, H, W)
    o_c = i_c * BD + tl.arange(0, BD)
    o_n = tl.arange(0, N)
    o_r = tl.arange(0, R if R > 0 else 1)
    o_d = i_k * CG + o_c
    m_c = o_c < CG
    b_a = _rates(p_a, o_n, o_d, m_c, NS, K * CG)
    b_w, b_bias = _projection(p_w, p_bias, o_r, o_d, m_c, RS, K * CG, R, BD, BIAS)
    b_h = tl.zeros((N, BD), tl.float32)
    b_sum = tl.zeros((BD,), tl.float32)
    i_t = i_ch * LC
    end = tl.minimum(i_t + LC, L)
    i_p, i_j = locate(path, L - end if BACK else i_t, MAP, BACK)
    o_x, _, o_bcr = first_cell(i_b, i_k, o_c, L, CG, s_l, s_rl, K, N, R, MAP)
    p_x += o_x
    p_delta += o_x
    p_bcr += o_bcr
    for i_u in range(tl.cdiv(end - i_t, U)):
        for i in tl.static_range(U):
            o_p = inside(path, i_p, RAGGED, WIDE)
            p_bc = p_bcr + o_p * s_rl
            live = i_u * U + i < end - i_t
            b_x = tl.load(p_x + o_p * s_l, mask=m_c, other=0.0).to(tl.float32)
            b_dt = _step_size(p_delta + o_p * s_l, p_bc, b_w, b_bias, o_r, m_c, live, N, R, SOFTPLUS, RAGGED)
            if RAGGED:
                b_x = tl.where(live, b_x, 0.0)
            b_decay = tl.exp2(b_a * b_dt[None, :])
            if BACK:
                b_h = b_decay * (b_h + b_x[None, :] * tl.load(p_bc + N + o_n)[:, None])
            else:
                b_h = b_decay * b_h + (b_dt * b_x)[None, :] * tl.load(p_bc + o_n)[:, None]
            b_sum += b_dt
            i_p, i_j = advance(path, i_p, i_j, MAP, BACK)
    o_end = (i_b * K + i_k) * NC + i_ch
    tl.store(p_state + o_end * N * CG + (o_n * CG)[:, None] + o_c[None, :], b_h, mask=m_c[None, :])
    tl.store(p_sum + o_end * CG + o_c, b_sum, mask=m_c)


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=CHANNELS)
def scan_forward(
    p_x, p_delta, p_bcr, p_w, p_bias, p_a, p_d, p_z, p_y, p_raw, p_state, p_sum, p_ckpt, p_last,
    L, H, W, CG, NS, RS, NC, LC, s_l, s_rl,
    K: tl.constexpr, N: tl.constexpr, R: tl.constexpr, BD: tl.constexpr, U: tl.constexpr, CKPT: tl.constexpr,
    CHUNKED: tl.constexpr, SAVE: tl.constexpr, LAST: tl.constexpr, MAP: tl.constexpr, SOFTPLUS: tl.constexpr,
    BIAS: tl.constexpr, SKIP: tl.constexpr, GATE: tl.constexpr, RAGGED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Outputs of one chunk: p_y, and with ``SAVE`` what a backward pass needs.

    That is p_ckpt (B, K, checkpoints, N, CG), the state before every CKPT-th time step, and p_raw, of the shape of p_x,
    the output before the gate. p_last (B, K, N, CG): the state after the last time step.
    """
    i_c, i_k, i_ch, i_b = program(CG, NC, K, BD)
    path = Path(i_k, L, H, W)
    o_c = i_c * BD + tl.arange(0, BD)
    o_n = tl.arange(0, N)
    o_r = tl.arange(0, R if R > 0 else 1)
    o_d = i_k * CG + o_c
    o_cn = (o_n * CG)[:, None] + o_c[None, :]
    m_c = o_c < CG
    b_a = _rates(p_a, o_n, o_d, m_c, NS, K * CG)
    b_w, b_bias = _projection(p_w, p_bias, o_r, o_d, m_c, RS, K * CG, R, BD, BIAS)
    if SKIP:
        b_d = tl.load(p_d + o_d, mask=m_c, other=0.0).to(tl.float32)
    b_h = tl.zeros((N, BD), tl.float32)
    if CHUNKED:
        b_h = carry(b_h, b_a, p_state, p_sum, o_c, o_cn, m_c, (i_b * K + i_k) * NC, i_ch, CG, N, 1, 0)
    i_t = i_ch * LC
    end = tl.minimum(i_t + LC, L)
    i_p, i_j = locate(path, i_t, MAP, False)
    o_x, o_y, o_bcr = first_cell(i_b, i_k, o_c, L, CG, s_l, s_rl, K, N, R, MAP)
    p_x += o_x
    p_delta += o_x
    p_z += o_x
    p_raw += o_x
    p_y += o_y
    p_bcr += o_bcr
    p_ckpt += ((i_b * K + i_k) * tl.cdiv(L, CKPT) + i_t // CKPT) * N * CG
    while i_t < end:
        if SAVE:
            tl.store(p_ckpt + o_cn, b_h, mask=m_c[None, :])
            p_ckpt += N * CG
        for i_u in range(tl.cdiv(tl.minimum(end - i_t, CKPT), U)):
            ys = ()
            cells = ()
            for i in tl.static_range(U):
                o_p = inside(path, i_p, RAGGED, WIDE)
                p_bc = p_bcr + o_p * s_rl
                live = i_t + i_u * U + i < end
                b_x = tl.load(p_x + o_p * s_l, mask=m_c, other=0.0).to(tl.float32)
                b_dt = _step_size(p_delta + o_p * s_l, p_bc, b_w, b_bias, o_r, m_c, live, N, R, SOFTPLUS, RAGGED)
                b_h = tl.exp2(b_a * b_dt[None, :]) * b_h + (b_dt * b_x)[None, :] * tl.load(p_bc + o_n)[:, None]
                b_y = tl.sum(b_h * tl.load(p_bc + N + o_n)[:, None], 0)
                if SKIP:
                    b_y += b_x * b_d
                ys = ys + (b_y,)
                cells = cells + (o_p,)
                i_p, i_j = advance(path, i_p, i_j, MAP, False)
            # stores after all loads of the block: in between, the next loads would wait for them
            for i in tl.static_range(U):
                m_y = o_c < tl.where(i_t + i_u * U + i < end, CG, 0) if RAGGED else m_c
                b_y = ys[i]
                if GATE:
                    if SAVE:
                        tl.store(p_raw + cells[i] * s_l, b_y, mask=m_y)
                    b_z = tl.load(p_z + cells[i] * s_l, mask=m_y, other=0.0).to(tl.float32)
                    b_y *= b_z * sigmoid(b_z)
                tl.store(p_y + cells[i] * s_l, b_y, mask=m_y)
        i_t += CKPT
    if LAST:
        m_last = o_c < tl.where(end == L, CG, 0)
        tl.store(p_last + (i_b * K + i_k) * N * CG + o_cn, b_h, mask=m_last[None, :])
