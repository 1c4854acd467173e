"""Small parts of the scan kernels: step sizes, and the walk through the cells of a map in each direction.

Kernel names: ``p_`` pointer, ``b_`` loaded block, ``o_`` offsets, ``m_`` mask, ``i_`` index, ``s_`` stride in elements.
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
    """1 / (1 + exp(-x)), the derivative of ``softplus``."""
    e = tl.exp2(-tl.abs(x) * LOG2E)
    return tl.where(x >= 0.0, 1.0, e) / (1.0 + e)


@triton.jit
def program(CG, NC, K: tl.constexpr, BD: tl.constexpr):
    """Channel block, direction or group, chunk and batch of this program; neighbours share a map's cells."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(CG, BD)
    i_c = pid % blocks
    pid = pid // blocks
    k = pid % K
    pid = pid // K
    return i_c, k, pid % NC, (pid // NC).to(tl.int64)


@triton.jit
def locate(t, k, L, H, W, MAP: tl.constexpr, BACK: tl.constexpr):
    """The cell that direction k reads at step t, and its place in its line; a plain sequence is its own order.

    With ``BACK`` t counts from the end, so that ``advance`` walks against time: direction k backwards is k + 2.
    """
    if MAP:
        q = tl.where((k >= 2) != BACK, L - 1 - t, t)
        j = tl.where(k % 2 == 1, q % H, q)
        p = tl.where(k % 2 == 1, j * W + q // H, q)
    else:
        p = L - 1 - t if BACK else t
        j = p
    return p, j


@triton.jit
def advance(p, j, k, L, H, W, MAP: tl.constexpr, BACK: tl.constexpr):
    """The cell one step later: along the line, or the first one of the next line."""
    if MAP:
        down = (k >= 2) != BACK
        sign = tl.where(down, -1, 1)
        last = tl.where(k % 2 == 1, H, L) - 1
        step = tl.where(k % 2 == 1, W, 1)
        over = j == tl.where(down, 0, last)
        p += sign * tl.where(over, step - (L - 1), step)
        j = tl.where(over, tl.where(down, last, 0), j + sign)
    else:
        p += -1 if BACK else 1
    return p, j


@triton.jit
def inside(p, L, RAGGED: tl.constexpr, WIDE: tl.constexpr):
    """A cell number, held inside the map for steps past the end, and of 64 bits where its offsets need them."""
    if RAGGED:
        p = tl.minimum(tl.maximum(p, 0), L - 1)
    if WIDE:
        p = p.to(tl.int64)
    return p
