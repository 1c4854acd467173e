"""exp2, softplus and sigmoid of vectors, to one unit in the last place or two, with NaN in, NaN out.

No divisions where a polynomial does, no library calls. 2**x has no bias near 0, which matters more than its maximal
error: a decay close to 1 must not drift over thousands of steps.
"""

from __future__ import annotations

from math import factorial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from yolomix.ops._numba.jit import helper
from yolomix.ops._numba.processor import AVX512
from yolomix.ops._numba.simd import (
    FLOATS,
    INT,
    INTS,
    SUFFIX,
    Builder,
    Emitted,
    call_intrinsic,
    constant,
    emit_fma,
    int_constant,
    vector,
)

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
EXP2 = (1.0, 0.693146978, 0.240222421, 0.0555073396, 0.00967151132, 0.00132646524)  # 2**f on [-1/2, 1/2], 7.5e-8
LOG1P = (  # log(1 + z) / z on [0, 1], relative error 3e-8
    1.0,
    -0.499994934,
    0.333190948,
    -0.248429775,
    0.191059887,
    -0.13663207,
    0.0782254934,
    -0.0295049567,
    0.00523262424,
)
ROUND = 12582912.0  # 1.5 * 2**23: adding it leaves a float32 rounded to an integer in its low bits
TAYLOR = tuple(LN_2**n / factorial(n) for n in (1, 2, 3))  # of (2**f - 1) / f; on [-1/32, 1/32] off by 9e-9


def _polynomial(b: Builder, x: Any, coefficients: tuple[float, ...]) -> Any:
    p = constant(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        p = emit_fma(b, p, x, constant(c))
    return p


def _exp2_avx512(b: Builder, xs: list[Any]) -> list[Any]:
    """2**x as 2**k * 2**f with k in sixteenths: 2**(its fraction) from a register, the rest of k by scaling.

    A multiplication less than a polynomial on [-1/2, 1/2] takes, and two thirds of its largest error.
    """
    shift, every_lane = constant(ROUND / 16), ir.Constant(ir.IntType(16), -1)
    current_rounding = ir.Constant(INT, 4)
    # One instruction for all xs after the other, so that none of them waits for its own last result.
    shifted = [b.fadd(x, shift) for x in xs]  # sixteenths in the low bits
    wholes = [b.fsub(s, shift) for s in shifted]
    rests = [b.fsub(x, k) for x, k in zip(xs, wholes, strict=True)]
    roots = [_root_of_two(b, s) for s in shifted]
    slopes = [_polynomial(b, f, TAYLOR) for f in rests]
    rises = [b.fmul(root, f) for root, f in zip(roots, rests, strict=True)]
    powers = [emit_fma(b, *terms) for terms in zip(rises, slopes, roots, strict=True)]
    scaled = []
    for power, whole in zip(powers, wholes, strict=True):
        # Scaling comes last: the table's value scaled first is infinite for large x, and infinite times a slope of 0
        # is not a number. This instruction ignores the sixteenths of ``whole``.
        args = [power, whole, constant(0), every_lane, current_rounding]
        scaled.append(call_intrinsic(b, "llvm.x86.avx512.mask.scalef.ps.512", FLOATS, args))
    return scaled


def _root_of_two(b: Builder, shifted: Any) -> Any:
    """2**(i / 16) from a table in one register; i is the lowest four bits of ``shifted``, the others are ignored."""
    table = ir.Constant(FLOATS, [float(np.float32(2 ** (i / 16))) for i in range(16)])
    return call_intrinsic(b, "llvm.x86.avx512.permvar.sf.512", FLOATS, [table, b.bitcast(shifted, INTS)])


def _exp2_portable(b: Builder, xs: list[Any]) -> list[Any]:
    """2**x by adding to the exponent bits; below 2**-126 it stays there, from 2**128 on it is infinite."""
    return [_exp2_by_bits(b, x) for x in xs]


def _exp2_by_bits(b: Builder, x: Any) -> Any:
    x = _at_least(b, x, -126)  # beyond either bound, the sum of the exponents would run into the sign bit
    x = b.select(b.fcmp_ordered(">", x, constant(128)), constant(128), x)
    rounded = b.fadd(x, constant(ROUND))
    p = _polynomial(b, b.fsub(x, b.fsub(rounded, constant(ROUND))), EXP2)
    exponent = b.shl(b.bitcast(rounded, INTS), int_constant(23))
    return b.bitcast(b.add(b.bitcast(p, INTS), exponent), FLOATS)


_exp2 = _exp2_avx512 if AVX512 else _exp2_portable


def _at_least(b: Builder, x: Any, bound: float) -> Any:
    """A maximum that keeps NaN, which an ordered comparison with a bound does not choose."""
    return b.select(b.fcmp_ordered("<", x, constant(bound)), constant(bound), x)


@intrinsic
def exp2(_typing: Any, x: Any) -> Emitted:
    """2**x for finite x, the exponential of every decay; relative error 1.2e-7, without AVX-512 1.7e-7.

    >>> from yolomix.ops._numba.simd import LANES, lane_sum, splat
    >>> in_one_lane = helper(lambda x: lane_sum(exp2(splat(x))) / LANES)
    >>> in_one_lane(3.0), in_one_lane(-1e9) < 1e-37
    (8.0, True)
    """
    return vector(x), lambda _c, b, _s, a: _exp2(b, list(a))[0]


@intrinsic
def exp2_four(_typing: Any, x0: Any, x1: Any, x2: Any, x3: Any) -> Emitted:
    """Four exponentials whose instructions alternate, so that none waits for its own last result."""

    def emit(context: Any, b: Builder, signature: Any, args: Any) -> Any:
        return context.make_tuple(b, signature.return_type, _exp2(b, list(args)))

    return types.UniTuple(vector, 4)(x0, x1, x2, x3), emit


@intrinsic
def exp_of_minus(_typing: Any, x: Any) -> Emitted:
    """exp(-abs(x)), from which softplus and sigmoid follow without overflow."""

    def emit(_c: Any, b: Builder, _s: Any, args: Any) -> Any:
        magnitude = call_intrinsic(b, f"llvm.fabs{SUFFIX}", FLOATS, [args[0]])
        # x may be infinite, which 2**x does not take; 2**-150 is zero in float32 already.
        return _exp2(b, [_at_least(b, b.fmul(magnitude, constant(-LOG2_E)), -150)])[0]

    return vector(x), emit


@intrinsic
def softplus_from(_typing: Any, x: Any, e: Any) -> Emitted:
    """Softplus as max(x, 0) + log(1 + e), with e = exp(-abs(x))."""

    def emit(_c: Any, b: Builder, _s: Any, args: Any) -> Any:
        x, e = args
        return emit_fma(b, _polynomial(b, e, LOG1P), e, _at_least(b, x, 0))

    return vector(x, e), emit


@intrinsic
def sigmoid_from(_typing: Any, x: Any, e: Any) -> Emitted:
    """1 / (1 + exp(-x)), the slope of softplus, with e = exp(-abs(x))."""

    def emit(_c: Any, b: Builder, _s: Any, args: Any) -> Any:
        x, e = args
        numerator = b.select(b.fcmp_ordered(">", x, constant(0)), constant(1), e)
        return b.fdiv(numerator, b.fadd(e, constant(1)))

    return vector(x, e), emit


@helper
def softplus(x):  # type: ignore[no-untyped-def]
    """log(1 + exp(x)).

    >>> from yolomix.ops._numba.simd import LANES, lane_sum, splat
    >>> in_one_lane = helper(lambda x: lane_sum(softplus(splat(x))) / LANES)
    >>> round(in_one_lane(0.0), 6), in_one_lane(80.0)
    (0.693147, 80.0)
    """
    return softplus_from(x, exp_of_minus(x))


@helper
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x)).

    >>> from yolomix.ops._numba.simd import LANES, lane_sum, splat
    >>> in_one_lane = helper(lambda x: lane_sum(sigmoid(splat(x))) / LANES)
    >>> in_one_lane(0.0), in_one_lane(80.0)
    (0.5, 1.0)
    """
    return sigmoid_from(x, exp_of_minus(x))
