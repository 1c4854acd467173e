"""How kernels see tensors: flat memory with strides, in three kinds.

Every kernel works on blocks of ``LANES`` channels, so numbers that belong to a channel and a state are kept *packed*:
(..., D / LANES, N, LANES), the lanes of a block side by side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload
from torch import Tensor

from yolomix.ops._numba.jit import helper
from yolomix.ops._numba.simd import LANES, load, prefetch, spread, store, transpose

TILE = 64  # steps that are staged in the first-level cache at a time, and between two saved states


class Rows(NamedTuple):
    """A (B, D, L) tensor; its channels or its steps lie side by side."""

    data: np.ndarray
    batch: int
    channel: int
    step: int


class PerStep(NamedTuple):
    """B or C as (B, G, N, L): one number per state and step, the same for all channels of a group."""

    data: np.ndarray
    batch: int
    group: int
    state: int
    step: int


class Either(NamedTuple):
    """B or C in either form: as in ``PerStep``, or constant (D, N), packed, and then without strides."""

    data: np.ndarray
    constant: bool
    batch: int
    group: int
    state: int
    step: int


def flat(tensor: Tensor) -> np.ndarray:
    """The memory from a tensor's first element to its last, as one array."""
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    memory: np.ndarray = tensor.detach().as_strided((extent if tensor.numel() else 0,), (1,)).numpy()
    return memory


def rows(tensor: Tensor) -> Rows:
    """A (B, D, L) tensor for a kernel; the tensor must satisfy ``in_rows``."""
    return Rows(flat(tensor), *tensor.stride())


def in_rows(tensor: Tensor) -> Tensor:
    """The (B, D, L) tensor itself if its channels or its steps lie side by side, else a contiguous copy."""
    return tensor if 1 in tensor.stride()[1:] else tensor.contiguous()


def pack(matrix: Tensor) -> Tensor:
    """(..., D, N) to (..., D / LANES, N, LANES), contiguous."""
    *outer, D, N = matrix.shape
    return matrix.reshape(*outer, D // LANES, LANES, N).transpose(-1, -2).contiguous()


def unpack(packed: Tensor) -> Tensor:
    """(..., D / LANES, N, LANES) to (..., D, N)."""
    return packed.transpose(-1, -2).flatten(-3, -2)


def padded(channels: int) -> int:
    """The next multiple of ``LANES``."""
    return -(-channels // LANES) * LANES


def tiles(steps: int) -> int:
    """The number of tiles that cover so many steps."""
    return -(-steps // TILE)


# mypy: disable-error-code="no-untyped-def, no-untyped-call"


@helper
def aligned(size):
    """Uninitialised memory for vectors, on a boundary of 64 bytes: NumPy's own is on one of 32, half as fast."""
    memory = np.empty(size + 16, np.float32)
    start = ((64 - (memory.ctypes.data & 63)) & 63) >> 2
    return memory[start : start + size]


@helper
def new_tile():
    """Memory for a tile (TILE, LANES)."""
    return aligned(TILE * LANES)


@helper
def block_of(packed, block, N):
    """The (N, LANES) numbers of a block in packed memory."""
    return packed[block * N * LANES : (block + 1) * N * LANES]


@helper
def stage(source, b, channel, step, steps, tile):
    """Copy the steps of a block of channels to a tile (steps, LANES)."""
    start = b * source.batch + channel * source.channel + step * source.step
    if source.channel == 1:
        for t in range(steps):
            store(tile, t * LANES, load(source.data, start + t * source.step))
        return
    whole = steps - steps % LANES
    for t in range(0, whole, LANES):
        transpose(source.data, start + t, source.channel, tile, t * LANES, LANES)
    for t in range(whole, steps):
        for i in range(LANES):
            tile[t * LANES + i] = source.data[start + i * source.channel + t]


@helper
def prefetch_line(source, b, channel, step, i):
    """Ask for line i of the ``TILE`` * ``LANES`` / 16 cache lines that ``stage`` is going to read."""
    start = b * source.batch + channel * source.channel + step * source.step
    if source.channel == 1:
        prefetch(source.data, start + i * source.step)
    else:
        per_row = TILE // 16
        prefetch(source.data, start + (i // per_row) * source.channel + (i % per_row) * 16)


@helper
def unstage(tile, target, b, channel, step, steps):
    """Copy a tile (steps, LANES) to the steps of a block of channels."""
    start = b * target.batch + channel * target.channel + step * target.step
    if target.channel == 1:
        for t in range(steps):
            store(target.data, start + t * target.step, load(tile, t * LANES))
        return
    whole = steps - steps % LANES
    for t in range(0, whole, LANES):
        transpose(tile, t * LANES, LANES, target.data, start + t, target.channel)
    for t in range(whole, steps):
        for i in range(LANES):
            target.data[start + i * target.channel + t] = tile[t * LANES + i]


class Here(NamedTuple):
    """B or C at the first step of a tile: ``matrix`` from element ``start`` on."""

    matrix: Any
    start: int


def here(matrix, b, group, block, N, step):
    """B or C of a batch entry, group and block of channels from a step on."""


def value(at, n, t):
    """State n of B or C, t steps into the tile, for every lane."""


def slot(at, n, t):
    """Which vector collects the gradient of state n at step t of the tile."""


def _is(kind: Any, layout: type) -> bool:
    return isinstance(kind, types.BaseNamedTuple) and kind.instance_class is layout


@overload(here)
def _here(matrix, b, group, block, N, step):
    if _is(matrix, PerStep):
        return lambda matrix, b, group, block, N, step: Here(
            matrix, b * matrix.batch + group * matrix.group + step * matrix.step
        )
    return lambda matrix, b, group, block, N, step: Here(
        matrix,
        block * N * LANES if matrix.constant else b * matrix.batch + group * matrix.group + step * matrix.step,
    )


@overload(value)
def _value(at, n, t):
    if _is(at[0], PerStep):
        return lambda at, n, t: spread(at.matrix.data, at.start + n * at.matrix.state + t * at.matrix.step)

    def either(at, n, t):
        if at.matrix.constant:
            return load(at.matrix.data, at.start + n * LANES)
        return spread(at.matrix.data, at.start + n * at.matrix.state + t * at.matrix.step)

    return either


@overload(slot)
def _slot(at, n, t):
    if _is(at[0], PerStep):
        return lambda at, n, t: n * TILE + t
    return lambda at, n, t: n if at.matrix.constant else n * TILE + t
