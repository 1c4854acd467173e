"""exp2, softplus and sigmoid of vectors, to one unit in the last place or two, with NaN in, NaN out.

No tables and no library calls, so the same code serves every instruction set. A polynomial p(f) = 2**f on
[-1/2, 1/2] with p(0) = 1 (minimax; relative error 7.5e-8 at degree 5, 2e-9 at degree 6) is scaled by a power of two.
p(0) = 1 matters more than the maximum: a decay close to 1 must not drift over thousands of steps.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from yolomix.ops._numba.simd import (
    AVX512,
    FLOATS,
    INT,
    INTS,
    SUFFIX,
    Builder,
    Emitted,
    call,
    constant,
    emit_fma,
    int_constant,
    vec,
)

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
DEGREE_5 = (0.693146978, 0.240222421, 0.0555073396, 0.00967151132, 0.00132646524)
DEGREE_6 = (0.693147203, 0.24022648, 0.0555033235, 0.00961842933, 0.00133989352, 0.000153551553)
LOG1P = (0.66666667, 0.4, 0.28571429, 0.2222222)  # of 2 atanh(s) - 2 s, in powers of s**2
ROUND = 12582912.0  # 1.5 * 2**23: adding it leaves a float32 rounded to an integer in its low bits


def _polynomial(b: Builder, x: Any, coefficients: tuple[float, ...]) -> Any:
    p = constant(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        p = emit_fma(b, p, x, constant(c))
    return p


def _exp2_avx512(b: Builder, x: Any, coefficients: tuple[float, ...]) -> Any:
    """2**x by the scaling instruction, which also does underflow and overflow (5 to 12 % faster than integers)."""
    whole = call(b, f"llvm.rint{SUFFIX}", FLOATS, [x])
    p = _polynomial(b, b.fsub(x, whole), (1.0, *coefficients))
    every, current_rounding = ir.Constant(ir.IntType(16), -1), ir.Constant(INT, 4)
    return call(b, "llvm.x86.avx512.mask.scalef.ps.512", FLOATS, [p, whole, constant(0), every, current_rounding])


def _exp2_portable(b: Builder, x: Any, coefficients: tuple[float, ...]) -> Any:
    """2**x by adding to the exponent bits; below 2**-126 it stays there, from 2**128 on it is infinite."""
    x = b.select(b.fcmp_ordered("<", x, constant(-126)), constant(-126), x)  # keeps NaN, unlike a maximum
    x = b.select(b.fcmp_ordered(">", x, constant(128)), constant(128), x)
    rounded = b.fadd(x, constant(ROUND))
    p = _polynomial(b, b.fsub(x, b.fsub(rounded, constant(ROUND))), (1.0, *coefficients))
    exponent = b.shl(b.bitcast(rounded, INTS), int_constant(23))
    return b.bitcast(b.add(b.bitcast(p, INTS), exponent), FLOATS)


def _exp_of_minus_magnitude(b: Builder, x: Any) -> Any:
    magnitude = call(b, f"llvm.fabs{SUFFIX}", FLOATS, [x])
    return _exp2_portable(b, b.fmul(magnitude, constant(-LOG2_E)), DEGREE_6)  # infinities count here, speed less


def _log1p(b: Builder, z: Any) -> Any:
    """log(1 + z) for z in [0, 1]: halved above sqrt(2), then 2 atanh(s) with s = z / (2 + z)."""
    one = constant(1)
    large = b.fcmp_ordered(">", z, constant(0.41421356))
    z = b.select(large, b.fsub(b.fmul(b.fadd(z, one), constant(0.5)), one), z)
    s = b.fdiv(z, b.fadd(z, constant(2)))
    square = b.fmul(s, s)
    tail = b.fmul(_polynomial(b, square, LOG1P), square)
    twice = b.fadd(s, s)
    return b.fadd(emit_fma(b, tail, s, twice), b.select(large, constant(LN_2), constant(0)))


@intrinsic
def exp2(_typing: Any, x: Any) -> Emitted:
    """2**x, the exponential of every decay; relative error 1.6e-7."""
    emit = _exp2_avx512 if AVX512 else _exp2_portable
    return vec(x), lambda _c, b, _s, a: emit(b, a[0], DEGREE_5)


@intrinsic
def softplus(_typing: Any, x: Any) -> Emitted:
    """Softplus as max(x, 0) + log1p(exp(-abs(x)))."""

    def emit(_c: Any, b: Builder, _s: Any, args: Any) -> Any:
        x = args[0]
        positive = b.select(b.fcmp_unordered(">", x, constant(0)), x, constant(0))
        return b.fadd(positive, _log1p(b, _exp_of_minus_magnitude(b, x)))

    return vec(x), emit


@intrinsic
def sigmoid(_typing: Any, x: Any) -> Emitted:
    """1 / (1 + exp(-x)), from exp(-abs(x)), so that neither side overflows."""

    def emit(_c: Any, b: Builder, _s: Any, args: Any) -> Any:
        x = args[0]
        e = _exp_of_minus_magnitude(b, x)
        numerator = b.select(b.fcmp_ordered(">", x, constant(0)), constant(1), e)
        return b.fdiv(numerator, b.fadd(e, constant(1)))

    return vec(x), emit
