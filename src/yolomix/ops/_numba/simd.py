"""A vector of ``LANES`` float32 values as a type of Numba, so that a kernel says what its registers hold.

Numba's own vectoriser gives up on these loops (7 to 11 times slower: aliasing and run-time checks). Here every
operation is emitted as an LLVM vector instruction. LLVM splits it for the machine at hand: one AVX-512 register, one
of AVX2, two of SSE or NEON.

Arrays are flat, contiguous float32; an index counts elements. Nothing is checked: callers own their bounds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing import signature
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from yolomix.ops._numba.processor import LANES

FLOAT = ir.FloatType()
INT = ir.IntType(32)
FLOATS = ir.VectorType(FLOAT, LANES)
INTS = ir.VectorType(INT, LANES)
SUFFIX = f".v{LANES}f32"

Builder = Any  # llvmlite carries no types
Emitted = tuple[Any, Callable[..., Any]]


class _Vector(types.Type):
    """Numba's type of a vector of ``LANES`` float32 values."""

    def __init__(self) -> None:
        super().__init__(name=f"f32x{LANES}")


vector = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend: Any) -> None:
        super().__init__(manager, frontend, FLOATS)


def constant(value: float) -> Any:
    """The LLVM constant with a value in every lane, rounded to float32.

    >>> str(constant(1.0)).count("float 0x3ff0000000000000") == LANES
    True
    """
    return ir.Constant(FLOATS, [float(np.float32(value))] * LANES)


def int_constant(value: int) -> Any:
    """The LLVM constant with an integer in every lane.

    >>> str(int_constant(3)).count("i32 3") == LANES
    True
    """
    return ir.Constant(INTS, [value] * LANES)


def call_intrinsic(b: Builder, name: str, result: Any, args: list[Any]) -> Any:
    """Emit a call of an LLVM intrinsic, declared on its first use in a module."""
    function = b.module.globals.get(name)
    if function is None:
        function = ir.Function(b.module, ir.FunctionType(result, [a.type for a in args]), name)
    return b.call(function, args)


def emit_fma(b: Builder, x: Any, y: Any, z: Any) -> Any:
    """Emit x * y + z; ``fmuladd`` because ``fma`` is a library call per lane where the hardware has none."""
    return call_intrinsic(b, f"llvm.fmuladd{SUFFIX}", FLOATS, [x, y, z])


def _broadcast(b: Builder, scalar: Any) -> Any:
    undefined = ir.Constant(FLOATS, ir.Undefined)
    first = b.insert_element(undefined, scalar, ir.Constant(INT, 0))
    return b.shuffle_vector(first, undefined, int_constant(0))


def _pointer(context: Any, b: Builder, signature: Any, args: Any, array: int, index: int) -> Any:
    """Pointer to element ``args[index]`` of the array ``args[array]``."""
    kind = signature.args[array]
    offset = context.cast(b, args[index], signature.args[index], types.intp)
    return b.gep(context.make_array(kind)(context, b, args[array]).data, [offset])


def _load(b: Builder, pointer: Any) -> Any:
    value = b.load(b.bitcast(pointer, FLOATS.as_pointer()))
    # LLVM would assume the alignment of a whole vector, and a tensor's rows begin at any element.
    value.align = 4
    return value


def _store(b: Builder, value: Any, pointer: Any) -> None:
    b.store(value, b.bitcast(pointer, FLOATS.as_pointer())).align = 4


@intrinsic
def load(_typing: Any, array: Any, index: Any) -> Emitted:
    """``LANES`` values from ``array[index]`` on.

    >>> from yolomix.ops._numba.jit import helper
    >>> double = helper(lambda x: store(x, 0, load(x, 0) + load(x, 0)))
    >>> x = np.ones(LANES + 1, np.float32)
    >>> double(x)
    >>> x[[0, LANES - 1, LANES]].tolist()
    [2.0, 2.0, 1.0]
    """
    return vector(array, index), lambda c, b, s, a: _load(b, _pointer(c, b, s, a, 0, 1))


@intrinsic
def store(_typing: Any, array: Any, index: Any, value: Any) -> Emitted:
    """Write a vector to ``array[index]`` and the ``LANES - 1`` elements behind it."""

    def emit(context: Any, b: Builder, signature: Any, args: Any) -> Any:
        _store(b, args[2], _pointer(context, b, signature, args, 0, 1))
        return context.get_dummy_value()

    return types.void(array, index, value), emit


@intrinsic
def broadcast(_typing: Any, array: Any, index: Any) -> Emitted:
    """The value ``array[index]`` in every lane.

    >>> from yolomix.ops._numba.jit import helper
    >>> mean = helper(lambda x: lane_sum(broadcast(x, 1)) / LANES)
    >>> mean(np.array([0.0, 3.0], np.float32))
    3.0
    """
    return vector(array, index), lambda c, b, s, a: _broadcast(b, b.load(_pointer(c, b, s, a, 0, 1)))


@intrinsic
def prefetch(_typing: Any, array: Any, index: Any) -> Emitted:
    """Ask for the cache line of ``array[index]`` to come to the L2 cache; any index is harmless."""

    def emit(context: Any, b: Builder, signature: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        pointer = b.bitcast(_pointer(context, b, signature, args, 0, 1), byte)
        read, second_level, data = (ir.Constant(INT, i) for i in (0, 2, 1))
        call_intrinsic(b, "llvm.prefetch.p0", ir.VoidType(), [pointer, read, second_level, data])
        return context.get_dummy_value()

    return types.void(array, index), emit


@intrinsic
def splat(_typing: Any, number: Any) -> Emitted:
    """A number, rounded to float32, in every lane.

    >>> from yolomix.ops._numba.jit import helper
    >>> mean = helper(lambda: lane_sum(splat(0.1)) / LANES)
    >>> round(mean(), 12)
    0.10000000149
    """

    def emit(context: Any, b: Builder, signature: Any, args: Any) -> Any:
        return _broadcast(b, context.cast(b, args[0], signature.args[0], types.float32))

    return vector(number), emit


@intrinsic
def zeros(_typing: Any) -> Emitted:
    """A vector of zeros.

    >>> from yolomix.ops._numba.jit import helper
    >>> total = helper(lambda: lane_sum(zeros()))
    >>> total()
    0.0
    """
    return vector(), lambda _c, _b, _s, _a: constant(0.0)


@intrinsic
def fma(_typing: Any, x: Any, y: Any, z: Any) -> Emitted:
    """X * y + z, rounded once where the hardware can.

    >>> from yolomix.ops._numba.jit import helper
    >>> mean = helper(lambda: lane_sum(fma(splat(2.0), splat(3.0), splat(1.0))) / LANES)
    >>> mean()
    7.0
    """
    return vector(x, y, z), lambda _c, b, _s, a: emit_fma(b, *a)


@intrinsic
def lane_sum(_typing: Any, x: Any) -> Emitted:
    """The sum over the lanes, as a number; always in the same order.

    >>> from yolomix.ops._numba.jit import helper
    >>> total = helper(lambda x: lane_sum(load(x, 0)))
    >>> total(np.ones(LANES, np.float32)) == LANES
    True
    """

    def emit(_c: Any, b: Builder, _s: Any, args: Any) -> Any:
        x, width = args[0], LANES
        while width > 1:
            width //= 2
            swap = ir.Constant(INTS, [(i + width) % LANES for i in range(LANES)])
            x = b.fadd(x, b.shuffle_vector(x, ir.Constant(FLOATS, ir.Undefined), swap))
        return b.extract_element(x, ir.Constant(INT, 0))

    return types.float32(x), emit


@intrinsic
def lane_sums(_typing: Any, array: Any, index: Any) -> Emitted:
    """The sums over the lanes of ``LANES`` vectors that lie one behind the other: sum i in lane i."""

    def emit(context: Any, b: Builder, signature: Any, args: Any) -> Any:
        first = _pointer(context, b, signature, args, 0, 1)
        rows = [_load(b, b.gep(first, [ir.Constant(INT, i * LANES)])) for i in range(LANES)]
        width = 1
        while width < LANES:  # a transposition that adds the halves it brings together: LANES - 1 additions in all
            rows = [b.fadd(*_exchanged(b, rows[i], rows[i + 1], width)) for i in range(0, len(rows), 2)]
            width *= 2
        return rows[0]

    return vector(array, index), emit


@intrinsic
def transpose(
    _typing: Any, source: Any, start: Any, stride: Any, target: Any, target_start: Any, target_stride: Any
) -> Emitted:
    """Write the ``LANES`` x ``LANES`` square of ``source`` to ``target`` with rows and columns exchanged."""

    def emit(context: Any, b: Builder, signature: Any, args: Any) -> Any:
        def row(pointer: Any, stride: int, i: int) -> Any:
            step = context.cast(b, args[stride], signature.args[stride], types.intp)
            return b.gep(pointer, [b.mul(step, ir.Constant(step.type, i))])

        read, write = _pointer(context, b, signature, args, 0, 1), _pointer(context, b, signature, args, 3, 4)
        rows = [_load(b, row(read, 2, i)) for i in range(LANES)]
        for i, value in enumerate(_transposed(b, rows)):
            _store(b, value, row(write, 5, i))
        return context.get_dummy_value()

    return types.void(source, start, stride, target, target_start, target_stride), emit


def _transposed(b: Builder, rows: list[Any]) -> list[Any]:
    """Exchange ever larger off-diagonal squares, 1 to LANES / 2 wide: log2(LANES) rounds of two-vector shuffles."""
    width = 1
    while width < LANES:
        for i in range(LANES):
            if not i & width:
                rows[i], rows[i + width] = _exchanged(b, rows[i], rows[i + width], width)
        width *= 2
    return rows


def _exchanged(b: Builder, x: Any, y: Any, width: int) -> tuple[Any, Any]:
    """Two rows after the exchange of the squares of this width."""
    top, bottom = [], []
    for k in range(LANES):  # in a shuffle of two vectors, LANES + k is lane k of the second
        if k & width:
            top.append(LANES + k - width)
            bottom.append(LANES + k)
        else:
            top.append(k)
            bottom.append(k + width)
    return b.shuffle_vector(x, y, ir.Constant(INTS, top)), b.shuffle_vector(x, y, ir.Constant(INTS, bottom))


def _arithmetic(python: Callable[..., Any], instruction: str) -> None:
    """Give vectors one of Python's operators."""

    @infer_global(python)
    class _Typing(ConcreteTemplate):
        cases = [signature(vector, vector, vector)]

    @lower_builtin(python, vector, vector)
    def _lowering(_context: Any, b: Builder, _signature: Any, args: Any) -> Any:
        return getattr(b, instruction)(*args)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
