"""Small parts of the scan kernels: the step size and its slope, and which part of the work a program does.

Kernel names: ``p_`` pointer, ``b_`` loaded or computed block, ``o_`` offsets in elements, ``m_`` mask, ``i_`` index,
``s_`` stride in elements; compile-time constants are in capitals. ``t`` is a time step, ``dt`` the step size Δ.
"""

# mypy: ignore-errors
# The language of kernels is not checked as Python.

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
SIZES = ["L", "H", "W", "NC"]  # neither alignment nor a size of one is worth another compilation


@triton.jit
def softplus(x):
    """log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)): relative error 2e-7 also where the step size is tiny.

    log1p(e) / e on [0, 1] is a polynomial, because the hardware's logarithm loses all digits of a small result.
    """
    e = tl.exp2(-tl.abs(x) * LOG2E)
    p = e * -0.0032440212089568377 + 0.01985144428908825
    p = p * e - 0.056959498673677444
    p = p * e + 0.10603651404380798
    p = p * e - 0.15305590629577637
    p = p * e + 0.1967593878507614
    p = p * e - 0.24954134225845337
    p = p * e + 0.3332996368408203
    p = p * e - 0.4999990165233612
    p = p * e + 1.0
    return tl.maximum(x, 0.0) + p * e


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)), the derivative of ``softplus``; the exponential is of -|x|, so that it never overflows."""
    e = tl.exp2(-tl.abs(x) * LOG2E)
    return tl.where(x >= 0.0, 1.0, e) / (1.0 + e)


@triton.jit
def program(CG, NC, K: tl.constexpr, BD: tl.constexpr):
    """Channel block, direction or group, chunk and batch of this program.

    Channel blocks and directions vary fastest, so that neighbours read the same cells of a map while these are in
    cache. The batch is of 64 bits, because offsets between images may need them where those inside one do not.
    """
    pid = tl.program_id(0)
    blocks = tl.cdiv(CG, BD)
    i_c = pid % blocks
    pid = pid // blocks
    i_k = pid % K
    pid = pid // K
    return i_c, i_k, pid % NC, (pid // NC).to(tl.int64)


@triton.jit
def first_cell(i_b, i_k, o_c, L, CG, s_l, s_rl, K: tl.constexpr, N: tl.constexpr, R: tl.constexpr, MAP: tl.constexpr):
    """Offsets of an image's first cell for channels o_c: in the input, in the output, and in B, C and the inputs of Δ.

    All directions read the same map, (B, L, CG), and write one of their own, (B, K, L, CG). The groups of a sequence
    are contiguous in both, (B, L, K * CG). B, C and the inputs of Δ are (B, L, K, 2N + R) either way.
    """
    if MAP:
        o_x = i_b * L * s_l + o_c
        o_y = (i_b * K + i_k) * L * CG + o_c
    else:
        o_x = i_b * L * s_l + i_k * CG + o_c
        o_y = o_x
    return o_x, o_y, i_b * L * s_rl + i_k * (2 * N + R)


@triton.jit
def carry(
    b_h, b_a, p_state, p_sum, o_c, o_cn, m_c, o_end, count, CG,
    N: tl.constexpr, STEP: tl.constexpr, AXIS: tl.constexpr,
):  # fmt: skip
    """State b_h carried over ``count`` chunks: h = exp(A * sum of Δ) * h + what the chunk left when it began at zero.

    p_state, p_sum: from ``scan_ends``; o_end: index of the first chunk among all, and ``STEP`` from there to the next,
    1 or -1. Channels are along the other axis than ``AXIS``.
    """
    for _ in range(count):
        b_sum = tl.load(p_sum + o_end * CG + o_c, mask=m_c, other=0.0)
        b_end = tl.load(p_state + o_end * N * CG + o_cn, mask=tl.expand_dims(m_c, AXIS), other=0.0)
        b_h = tl.exp2(b_a * tl.expand_dims(b_sum, AXIS)) * b_h + b_end
        o_end += STEP
    return b_h
