"""How kernels see tensors: flat memory with strides, in three kinds.

Every kernel works on blocks of ``LANES`` channels. Values that belong to a channel and a state are kept *packed*:
(..., D / LANES, N, LANES), so that the lanes of a vector are contiguous.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload
from torch import Tensor

from yolomix.ops._numba.jit import helper
from yolomix.ops._numba.processor import LANES
from yolomix.ops._numba.simd import broadcast, load, prefetch, store, transpose

TILE = 64  # time steps that are staged in the L1 cache together, and between two checkpoints of the states


class SequenceView(NamedTuple):
    """A (B, D, L) tensor whose channels or time steps are contiguous; strides in elements.

    >>> import torch
    >>> x = torch.zeros(2, 5, 3).transpose(1, 2)
    >>> SequenceView(flat(x), *x.stride()).channel_stride
    1
    """

    data: np.ndarray
    batch_stride: int
    channel_stride: int
    time_stride: int


class TimeVarying(NamedTuple):
    """B or C as (B, G, N, L): one value per state and time step, the same for all channels of a group.

    >>> import torch
    >>> B = torch.zeros(2, 3, 4, 5)
    >>> TimeVarying(flat(B), *B.stride()).state_stride
    5
    """

    data: np.ndarray
    batch_stride: int
    group_stride: int
    state_stride: int
    time_stride: int


class MaybeConstant(NamedTuple):
    """B or C in either form: as in ``TimeVarying``, or constant (D, N), packed, and then with strides of 0.

    >>> import torch
    >>> B = torch.zeros(LANES, 4)
    >>> MaybeConstant(flat(pack(B)), True, 0, 0, 0, 0).constant
    True
    """

    data: np.ndarray
    constant: bool
    batch_stride: int
    group_stride: int
    state_stride: int
    time_stride: int


def flat(tensor: Tensor) -> np.ndarray:
    """The memory from the first element of a tensor (...,) to its last, as one array; gaps between them included.

    >>> import torch
    >>> flat(torch.arange(6.0).view(2, 3)[:, :2]).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    memory: np.ndarray = tensor.detach().as_strided((extent if tensor.numel() else 0,), (1,)).numpy()
    return memory


def sequence_view(tensor: Tensor) -> SequenceView:
    """A (B, D, L) tensor for a kernel; it must be as :func:`viewable` returns it.

    >>> import torch
    >>> sequence_view(torch.zeros(2, 3, 5))[1:]
    (15, 5, 1)
    """
    return SequenceView(flat(tensor), *tensor.stride())


def viewable(tensor: Tensor) -> Tensor:
    """The (B, D, L) tensor itself if its channels or its time steps are contiguous, else a contiguous copy.

    >>> import torch
    >>> x = torch.zeros(5, 3, 2).permute(2, 1, 0)
    >>> x.stride(), viewable(x).stride()
    ((1, 2, 6), (15, 5, 1))
    """
    return tensor if 1 in tensor.stride()[1:] else tensor.contiguous()


def pack(matrix: Tensor) -> Tensor:
    """(..., D, N) to (..., D / LANES, N, LANES), contiguous.

    >>> import torch
    >>> packed = pack(torch.randn(2, 3 * LANES, 5))
    >>> packed.shape == (2, 3, 5, LANES)
    True
    """
    *outer, D, N = matrix.shape
    return matrix.reshape(*outer, D // LANES, LANES, N).transpose(-1, -2).contiguous()


def unpack(packed: Tensor) -> Tensor:
    """(..., D / LANES, N, LANES) to (..., D, N).

    >>> import torch
    >>> matrix = torch.randn(2, 3 * LANES, 5)
    >>> torch.equal(unpack(pack(matrix)), matrix)
    True
    """
    return packed.transpose(-1, -2).flatten(-3, -2)


def padded(channels: int) -> int:
    """The next multiple of ``LANES``.

    >>> padded(LANES + 1) == 2 * LANES
    True
    """
    return -(-channels // LANES) * LANES


def tile_count(steps: int) -> int:
    """The number of tiles that cover so many time steps.

    >>> tile_count(64), tile_count(65)
    (1, 2)
    """
    return -(-steps // TILE)


# mypy: disable-error-code="no-untyped-def, no-untyped-call"


@helper
def aligned_empty(size):
    """Uninitialised memory for vectors, on a boundary of 64 bytes: NumPy's own is on one of 32, half as fast."""
    memory = np.empty(size + 16, np.float32)
    start = ((64 - (memory.ctypes.data & 63)) & 63) >> 2
    return memory[start : start + size]


@helper
def new_tile():
    """Memory for a tile (TILE, LANES)."""
    return aligned_empty(TILE * LANES)


@helper
def block_of(packed, block, N):
    """The (N, LANES) values of a block in packed memory.

    >>> packed = np.arange(3 * 2 * LANES)  # three blocks, two states
    >>> block_of.py_func(packed, 1, 2).tolist() == [*range(2 * LANES, 4 * LANES)]
    True
    """
    return packed[block * N * LANES : (block + 1) * N * LANES]


@helper
def load_tile(source, b, channel, step, steps, tile):
    """Copy some time steps of a block of channels, from ``step`` on, to a tile (steps, LANES)."""
    start = b * source.batch_stride + channel * source.channel_stride + step * source.time_stride
    if source.channel_stride == 1:
        for t in range(steps):
            store(tile, t * LANES, load(source.data, start + t * source.time_stride))
        return
    whole = steps - steps % LANES
    for t in range(0, whole, LANES):
        transpose(source.data, start + t, source.channel_stride, tile, t * LANES, LANES)
    for t in range(whole, steps):
        for i in range(LANES):
            tile[t * LANES + i] = source.data[start + i * source.channel_stride + t]


@helper
def prefetch_line(source, b, channel, step, i):
    """Ask for line i of the ``TILE`` * ``LANES`` / 16 cache lines that ``load_tile`` is going to read."""
    start = b * source.batch_stride + channel * source.channel_stride + step * source.time_stride
    if source.channel_stride == 1:
        prefetch(source.data, start + i * source.time_stride)
    else:
        per_channel = TILE // 16  # a cache line holds 16 time steps of a channel
        prefetch(source.data, start + (i // per_channel) * source.channel_stride + (i % per_channel) * 16)


@helper
def store_tile(tile, target, b, channel, step, steps):
    """Copy a tile (steps, LANES) to the time steps of a block of channels, from ``step`` on."""
    start = b * target.batch_stride + channel * target.channel_stride + step * target.time_stride
    if target.channel_stride == 1:
        for t in range(steps):
            store(target.data, start + t * target.time_stride, load(tile, t * LANES))
        return
    whole = steps - steps % LANES
    for t in range(0, whole, LANES):
        transpose(tile, t * LANES, LANES, target.data, start + t, target.channel_stride)
    for t in range(whole, steps):
        for i in range(LANES):
            target.data[start + i * target.channel_stride + t] = tile[t * LANES + i]


class TileMatrix(NamedTuple):
    """B or C from the first time step of a tile on: ``matrix`` from element ``start`` on."""

    matrix: Any
    start: int


def at_tile(matrix, b, group, block, N, step):
    """B or C of a batch entry, a group and a block of channels from a time step on."""


def value_at(at, n, t):
    """State n of B or C, t time steps into the tile, for every lane."""


def gradient_slot(at, n, t):
    """Which vector collects the gradient of state n at time step t of the tile."""


def _is(kind: Any, layout: type) -> bool:
    return isinstance(kind, types.BaseNamedTuple) and kind.instance_class is layout


# The form is known when a kernel is compiled. A B or C that varies in time costs no test of a flag in the inner loop.
@overload(at_tile)
def _at_tile(matrix, b, group, block, N, step):
    def varying(matrix, b, group, block, N, step):
        start = b * matrix.batch_stride + group * matrix.group_stride + step * matrix.time_stride
        return TileMatrix(matrix, start)

    def either(matrix, b, group, block, N, step):
        if matrix.constant:
            return TileMatrix(matrix, block * N * LANES)
        start = b * matrix.batch_stride + group * matrix.group_stride + step * matrix.time_stride
        return TileMatrix(matrix, start)

    return varying if _is(matrix, TimeVarying) else either


@overload(value_at)
def _value_at(at, n, t):
    def varying(at, n, t):
        return broadcast(at.matrix.data, at.start + n * at.matrix.state_stride + t * at.matrix.time_stride)

    def either(at, n, t):
        if at.matrix.constant:
            return load(at.matrix.data, at.start + n * LANES)
        return broadcast(at.matrix.data, at.start + n * at.matrix.state_stride + t * at.matrix.time_stride)

    return varying if _is(at[0], TimeVarying) else either


@overload(gradient_slot)
def _gradient_slot(at, n, t):
    if _is(at[0], TimeVarying):
        return lambda at, n, t: n * TILE + t
    return lambda at, n, t: n if at.matrix.constant else n * TILE + t
