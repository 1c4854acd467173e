"""A small matrix product in the cache, with rows wherever they lie: what projects the tokens of a tile."""

from __future__ import annotations

from yolomix.ops._numba.jit import helper
from yolomix.ops._numba.processor import LANES
from yolomix.ops._numba.simd import broadcast, fma, load, store, zeros

# mypy: disable-error-code="no-untyped-def, no-untyped-call"


@helper
def multiply(left, left_at, stride, right, right_at, out, out_at, rows, depth, width, adds):
    """Row i of ``out``, from ``out_at[i]`` on, gets (or with ``adds``, adds) a sum of ``depth`` rows of ``right``.

    Term k is the value ``left[left_at[i] + k * stride]`` times the row from ``right_at[k]`` on. ``width`` is a multiple
    of ``LANES``.
    """
    last = rows - 1
    # Eight rows share a load of ``right``. Where fewer are left, the last row is repeated: it is computed more than
    # once and the same values are written to it again, which is cheaper than a second loop for the remainder.
    for i in range(0, rows, 8):
        i1, i2, i3 = min(i + 1, last), min(i + 2, last), min(i + 3, last)
        i4, i5, i6, i7 = min(i + 4, last), min(i + 5, last), min(i + 6, last), min(i + 7, last)
        p0, p1, p2, p3 = left_at[i], left_at[i1], left_at[i2], left_at[i3]
        p4, p5, p6, p7 = left_at[i4], left_at[i5], left_at[i6], left_at[i7]
        for j in range(0, width, LANES):
            a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = zeros()
            if adds:
                a0, a1 = load(out, out_at[i] + j), load(out, out_at[i1] + j)
                a2, a3 = load(out, out_at[i2] + j), load(out, out_at[i3] + j)
                a4, a5 = load(out, out_at[i4] + j), load(out, out_at[i5] + j)
                a6, a7 = load(out, out_at[i6] + j), load(out, out_at[i7] + j)
            for k in range(depth):
                row, at = load(right, right_at[k] + j), k * stride
                a0, a1 = fma(broadcast(left, p0 + at), row, a0), fma(broadcast(left, p1 + at), row, a1)
                a2, a3 = fma(broadcast(left, p2 + at), row, a2), fma(broadcast(left, p3 + at), row, a3)
                a4, a5 = fma(broadcast(left, p4 + at), row, a4), fma(broadcast(left, p5 + at), row, a5)
                a6, a7 = fma(broadcast(left, p6 + at), row, a6), fma(broadcast(left, p7 + at), row, a7)
            store(out, out_at[i] + j, a0)
            store(out, out_at[i1] + j, a1)
            store(out, out_at[i2] + j, a2)
            store(out, out_at[i3] + j, a3)
            store(out, out_at[i4] + j, a4)
            store(out, out_at[i5] + j, a5)
            store(out, out_at[i6] + j, a6)
            store(out, out_at[i7] + j, a7)
