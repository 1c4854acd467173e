"""The order in which a program of a scan kernel visits the cells of a feature map, in each of the four directions.

Direction 0 reads the map row by row, 1 column by column, 2 and 3 are 0 and 1 backwards. A plain sequence has one order,
and its time step is its cell. Kernel names are as in ``parts.py``.
"""

# mypy: ignore-errors
# ruff: noqa: RUF005
# The language of kernels is not checked as Python, and has no unpacking.

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl


class Path(NamedTuple):
    """One direction through one feature map, or one plain sequence, as kernels hand it to their helpers.

    A tuple in a kernel cannot hold compile-time constants, so these are arguments of their own: ``MAP`` is False for a
    plain sequence, ``RAGGED`` says that unrolled blocks of time steps end past the sequence, ``WIDE`` that offsets
    inside an image need 64 bits.
    """

    i_k: Any  # direction, 0 to 3
    L: Any  # time steps, H * W
    H: Any  # height of the map
    W: Any  # width of the map


@triton.jit
def locate(path, i_t, MAP: tl.constexpr, BACK: tl.constexpr):
    """The cell that the path reads at time step i_t, and the place of that cell in its line.

    With ``BACK`` i_t counts from the end, so that ``advance`` walks against time: direction k backwards is k + 2.
    """
    if MAP:
        i_q = tl.where((path.i_k >= 2) != BACK, path.L - 1 - i_t, i_t)
        i_j = tl.where(path.i_k % 2 == 1, i_q % path.H, i_q)
        i_p = tl.where(path.i_k % 2 == 1, i_j * path.W + i_q // path.H, i_q)
    else:
        i_p = path.L - 1 - i_t if BACK else i_t
        i_j = i_p
    return i_p, i_j


@triton.jit
def advance(path, i_p, i_j, MAP: tl.constexpr, BACK: tl.constexpr):
    """The cell one time step later: along the line, or the first one of the next line.

    Additions and comparisons only, because a division at every time step would cost more than the recurrence. Row by
    row the whole map is one line.
    """
    if MAP:
        down = (path.i_k >= 2) != BACK
        sign = tl.where(down, -1, 1)
        last = tl.where(path.i_k % 2 == 1, path.H, path.L) - 1
        step = tl.where(path.i_k % 2 == 1, path.W, 1)
        over = i_j == tl.where(down, 0, last)
        # from the last cell of a column to the first of the next: back by L - W cells, and one to the right
        i_p += sign * tl.where(over, step - (path.L - 1), step)
        i_j = tl.where(over, tl.where(down, last, 0), i_j + sign)
    else:
        i_p += -1 if BACK else 1
    return i_p, i_j


@triton.jit
def inside(path, i_p, RAGGED: tl.constexpr, WIDE: tl.constexpr):
    """A cell index for offsets: time steps past the end read the last cell again, so that loads need no mask.

    It is of 64 bits only where an image has offsets beyond 32: those of 32 save 4 to 7 % of a backward pass.
    """
    if RAGGED:
        i_p = tl.minimum(tl.maximum(i_p, 0), path.L - 1)
    if WIDE:
        i_p = i_p.to(tl.int64)
    return i_p


@triton.jit
def cells_before(
    path, i_p, i_j, COUNT: tl.constexpr, MAP: tl.constexpr, RAGGED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The cells of ``COUNT`` time steps that end with this one, in order of time, and the cell before those."""
    cells = ()
    for _ in tl.static_range(COUNT):
        cells = (inside(path, i_p, RAGGED, WIDE),) + cells
        i_p, i_j = advance(path, i_p, i_j, MAP, True)
    return cells, i_p, i_j
