"""Backward kernel: states recomputed from checkpoints, gradients carried against time, nothing added atomically.

Layout. Blocks are (BD, N). The compiler takes the layout of a block from how it is read, so every block passes through
the program's scratch once (``settle``), which is read 16 bytes of states at a time: a lane holds a tile of 4 channels
by 4 states. Sums over channels (gradients of B and C) and sums over states (gradients of the input and of Δ) then
cost a few shuffles each.

A program walks its chunk checkpoint by checkpoint from the end, with a scratch of its own, which stays in cache; the
phases between two checkpoints are in ``phases.py``. With q the gradient of the output and
g_t = q_t C_t + exp(dt_(t+1) A) g_(t+1):

    dC_t = sum_d q_t h_t        dB_t = sum_d dt_t u_t g_t        e_t = g_t exp(dt_t A) h_(t-1)
    du_t = dt_t <g_t, B_t>      d dt_t = u_t <g_t, B_t> + <e_t, A>        dA = sum_t dt_t e_t
"""

# mypy: ignore-errors
# The language of kernels is not checked as Python.

from __future__ import annotations

import triton
import triton.language as tl

from yolomix.ops._triton.parts import LOG2E, SIZES, carry, first_cell, program
from yolomix.ops._triton.path import Path, cells_before, locate
from yolomix.ops._triton.phases import Buffers, project, replay, settle, unproject, walk_backward, walk_forward

# no promise of alignment: with one, each lane would load 16 bytes of channels, and states would spread over lanes
CHANNELS = ["p_x", "p_q", "p_delta", "p_bias", "p_a", "p_d", "p_state", "p_sum", "p_ckpt", "p_gx", "p_gdelta"]


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=CHANNELS)
def scan_backward(
    p_x, p_q, p_delta, p_bcr, p_w, p_bias, p_a, p_d, p_state, p_sum, p_end, p_ckpt, p_scratch, p_dt,
    p_gx, p_gdelta, p_gbcr, p_ga, p_gw, p_gbias, p_gd,
    L, H, W, CG, NS, NC, LC, s_l, s_rl, s_rc,
    K: tl.constexpr, N: tl.constexpr, R: tl.constexpr, BD: tl.constexpr, TS: tl.constexpr, CKPT: tl.constexpr,
    CHUNKED: tl.constexpr, LAST: tl.constexpr, MAP: tl.constexpr, SOFTPLUS: tl.constexpr,
    BIAS: tl.constexpr, SKIP: tl.constexpr, RAGGED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Gradients of one chunk, p_q being the gradient of the output before the gate.

    p_state, p_sum: ``scan_ends`` with ``BACK``; p_end (B, K, N, CG): gradient of the last state; p_ckpt: from
    ``scan_forward``; p_scratch, p_dt: CKPT / TS * BD * N and CKPT * 2 * BD elements per program; p_w (K, C, R), C being
    CG in whole channel blocks, zero where it pads.
    p_gx, p_gdelta: gradients of the input and of raw Δ; p_gbcr: of B, C and the inputs of Δ, one copy per channel
    block; p_ga (B, K, NC, CG, N), p_gw (B, K, NC, CG, R), p_gbias and p_gd (B, K, NC, CG): of the parameters, to be
    summed.
    """
    i_c, i_k, i_ch, i_b = program(CG, NC, K, BD)
    path = Path(i_k, L, H, W)
    o_l = tl.arange(0, BD)
    o_c = i_c * BD + o_l
    o_n = tl.arange(0, N)
    o_d = i_k * CG + o_c
    o_cn = o_c[:, None] + (o_n * CG)[None, :]
    m_c = o_c < CG
    m_a = m_c[:, None] & (o_n < NS)[None, :]
    b_a = tl.load(p_a + o_d[:, None] + o_n[None, :] * (K * CG), mask=m_a, other=0.0) * LOG2E
    b_d = tl.zeros((BD,), tl.float32)
    if SKIP:
        b_d = tl.load(p_d + o_d, mask=m_c, other=0.0).to(tl.float32)
    b_g = tl.zeros((BD, N), tl.float32)  # exp(dt_(t+1) A) g_(t+1), from whatever comes after this chunk
    if LAST:
        b_g = tl.load(p_end + (i_b * K + i_k) * N * CG + o_cn, mask=m_c[:, None], other=0.0)
    if CHUNKED:
        o_end = (i_b * K + i_k) * NC + NC - 1
        b_g = carry(b_g, b_a, p_state, p_sum, o_c, o_cn, m_c, o_end, NC - 1 - i_ch, CG, N, -1, 1)

    o_x, o_y, o_bcr = first_cell(i_b, i_k, o_c, L, CG, s_l, s_rl, K, N, R, MAP)
    o_tile = (o_l * N)[:, None] + o_n[None, :]
    o_part = ((i_b * K + i_k) * NC + i_ch) * CG + i_c * BD
    pid = tl.program_id(0).to(tl.int64)
    p_dt += pid * (CKPT * 2 * BD)
    p_w += (i_k * tl.cdiv(CG, BD) + i_c) * (BD * R)
    p_gw += o_part * R
    at = Buffers(
        p_x + o_x, p_q + o_x, p_delta + o_x, p_bcr + o_bcr,
        p_gx + o_y, p_gdelta + o_x, p_gbcr + o_bcr + i_c * s_rc.to(tl.int64),
        p_scratch + pid * (CKPT // TS * BD * N) + o_tile, p_dt + o_l, s_l, s_rl,
    )  # fmt: skip
    b_g = settle(b_g, at.p_states)
    b_a = settle(b_a, at.p_states)
    # from here on b_g, and the gradients of A, of the bias and of D
    sums = (b_g, tl.zeros((BD, N), tl.float32), tl.zeros((BD,), tl.float32), tl.zeros((BD,), tl.float32))

    start = i_ch * LC
    end = tl.minimum(start + LC, L)
    ckpts = tl.cdiv(end - start, CKPT)
    for i_m in range(ckpts):
        i_t = start + (ckpts - 1 - i_m) * CKPT
        steps = tl.minimum(end - i_t, CKPT)
        segments = tl.cdiv(steps, TS)
        project(
            at, path, p_w, p_bias + o_d, m_c, i_t, end, segments * TS,
            N, R, BD, MAP, SOFTPLUS, BIAS, RAGGED, WIDE,
        )  # fmt: skip
        o_ckpt = ((i_b * K + i_k) * tl.cdiv(L, CKPT) + i_t // CKPT) * N * CG
        # the barriers in settle also stand between the scratch that project wrote and the walk that reads it
        b_h = settle(tl.load(p_ckpt + o_ckpt + o_cn, mask=m_c[:, None], other=0.0), at.p_states)
        walk_forward(at, path, b_h, b_a, o_n, m_c, i_t, end, segments, N, BD, TS, MAP, RAGGED, WIDE)
        tl.debug_barrier()  # other lanes read the states that a lane left in the scratch
        i_p, i_j = locate(path, L - i_t - segments * TS, MAP, True)
        for i_s in range(segments):
            i_s = segments - 1 - i_s
            cells, i_p, i_j = cells_before(path, i_p, i_j, TS, MAP, RAGGED, WIDE)
            segment = replay(at, cells, b_a, o_n, m_c, i_s, N, BD, TS)
            sums = walk_backward(
                at, cells, segment, sums, b_a, b_d, o_c, o_n, m_c, CG, i_t, i_s, end,
                N, R, BD, TS, SOFTPLUS, BIAS, SKIP, RAGGED,
            )  # fmt: skip
        tl.debug_barrier()  # and the gradients of step sizes, and then the scratch is written anew
        if R > 0:
            unproject(at, path, p_dt + BD, p_w, p_gw, CG - i_c * BD, i_m == 0, i_t, steps, N, R, BD, CKPT, MAP, WIDE)
            tl.debug_barrier()

    _, b_ga, b_gbias, b_gd = sums
    tl.store(p_ga + (o_part + o_l)[:, None] * N + o_n[None, :], b_ga, mask=m_c[:, None])
    if BIAS:
        tl.store(p_gbias + o_part + o_l, b_gbias, mask=m_c)
    if SKIP:
        tl.store(p_gd + o_part + o_l, b_gd, mask=m_c)
