"""How a scan is laid over a device: padded sizes, and chunks where batch and channels alone do not fill it.

Only a GPU can choose the constants below; each says what it trades.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import torch

BLOCK = 32  # channels of a program: one warp, one channel per lane
CKPT = 32  # time steps between two checkpoints of the state: fewer checkpoints save memory, and cost scratch
UNROLL = 4  # time steps of the forward kernel whose loads are in flight together
SEGMENT = 2  # time steps whose states the backward kernel holds in registers; four spill
TILE = 512  # states of a program of the backward kernel: 16 per lane
SHORTEST = 2 * CKPT  # time steps of the shortest chunk
CARRY = 2  # time steps that carrying the state over one chunk takes


@dataclass(frozen=True)
class Occupancy:
    """What a kernel leaves of a device, and so when it pays to cut its sequences.

    >>> FORWARD.warps > TRAINING.warps > BACKWARD.warps  # the more registers, the fewer warps
    True

    Args:
        warps: what a multiprocessor holds at a time, by the registers of the kernel.
        min_chunks: fewer chunks than this cost more in the pass over chunk ends than the idle part of the device.
        ends: how long that pass takes, as a fraction of the kernel itself.
    """

    warps: int
    min_chunks: int
    ends: float


FORWARD = Occupancy(warps=16, min_chunks=3, ends=0.8)
TRAINING = Occupancy(warps=12, min_chunks=3, ends=0.8)  # the forward kernel that saves checkpoints
BACKWARD = Occupancy(warps=8, min_chunks=2, ends=0.2)


@dataclass(frozen=True)
class ScanShape:
    """What is scanned: ``groups`` x ``channels`` sequences per image, each with its ``states``.

    >>> stage = ScanShape(batch=1, groups=4, channels=64, states=5, rank=2, height=160, width=160)
    >>> stage.length, stage.N, stage.R, stage.ckpts, stage.programs(BLOCK)
    (25600, 8, 4, 800, 8)

    Args:
        batch: images.
        groups: groups that share B and C (K); the four directions of a feature map.
        channels: channels of a group.
        states: state size (NS), before padding.
        rank: rank of the low-rank Δ projection (RS); 0 when Δ itself is given.
        height: height of the feature map; 1 for a plain sequence.
        width: width of the feature map, or the length of the sequence.
    """

    batch: int
    groups: int
    channels: int
    states: int
    rank: int
    height: int
    width: int

    @property
    def length(self) -> int:
        """Time steps of a sequence, L."""
        return self.height * self.width

    @property
    def N(self) -> int:
        """State size padded to a power of two; at least two, so that B and C keep to multiples of 16 bytes.

        >>> [ScanShape(1, 1, 8, states, 0, 1, 10).N for states in (1, 3, 16)]
        [2, 4, 16]
        """
        return max(2, _power_of_two(self.states))

    @property
    def R(self) -> int:
        """Rank padded to a power of two, at least four, for the same reason; 0 for none.

        >>> [ScanShape(1, 4, 8, 16, rank, 2, 5).R for rank in (0, 2, 5)]
        [0, 4, 8]
        """
        if self.rank == 0:
            return 0
        return max(4, _power_of_two(self.rank))

    @property
    def bcr(self) -> int:
        """Elements of B, of C and of the R inputs of Δ, per time step and group.

        >>> ScanShape(batch=1, groups=4, channels=64, states=16, rank=2, height=8, width=8).bcr
        36
        """
        return 2 * self.N + self.R

    @property
    def ckpts(self) -> int:
        """Checkpoints of a sequence: the state before every ``CKPT``-th time step.

        >>> ScanShape(1, 1, 8, 16, 0, 1, width=65).ckpts
        3
        """
        return -(-self.length // CKPT)

    @property
    def is_map(self) -> bool:
        """Whether this is a feature map that every direction reads in its own order, or else a plain sequence."""
        return self.rank > 0

    @property
    def time_stride(self) -> int:
        """Elements from a time step, or cell, to the next in everything that has channels.

        The directions of a feature map read the same channels; the groups of a sequence have channels of their own.

        >>> ScanShape(1, 4, 64, 16, rank=2, height=8, width=8).time_stride
        64
        >>> ScanShape(1, 4, 64, 16, rank=0, height=1, width=64).time_stride
        256
        """
        if self.is_map:
            return self.channels
        return self.groups * self.channels

    @property
    def bcr_stride(self) -> int:
        """Elements from a time step to the next in B, C and the inputs of Δ."""
        return self.groups * self.bcr

    @property
    def wide(self) -> bool:
        """Whether offsets inside an image need more than 32 bits.

        >>> ScanShape(1, 4, 128, 16, 4, height=160, width=160).wide
        False
        """
        return self.length * max(self.time_stride, self.bcr_stride) >= 2**31

    def state_shape(self, count: int) -> tuple[int, int, int, int, int]:
        """Shape of ``count`` states of every sequence, channels last: (B, K, count, N, channels).

        >>> ScanShape(2, 4, 64, states=5, rank=2, height=8, width=8).state_shape(3)
        (2, 4, 3, 8, 64)
        """
        return self.batch, self.groups, count, self.N, self.channels

    def blocks(self, block: int) -> int:
        """Channel blocks of a group.

        >>> ScanShape(2, 4, channels=40, states=16, rank=2, height=8, width=8).blocks(32)
        2
        """
        return -(-self.channels // block)

    def programs(self, block: int) -> int:
        """Programs that walk whole sequences, without chunks.

        >>> ScanShape(batch=2, groups=4, channels=40, states=16, rank=2, height=8, width=8).programs(32)
        16
        """
        return self.batch * self.groups * self.blocks(block)


def tile(N: int) -> int:
    """Channels of a program of the backward kernel: what a warp's registers hold of states, at most a lane each.

    >>> tile(8), tile(16), tile(64)
    (32, 32, 8)
    """
    return min(BLOCK, TILE // N)


def chunks(shape: ScanShape, block: int, use: Occupancy, device: torch.device) -> tuple[int, int]:
    """Chunks of a sequence, and the time steps of each: a multiple of ``CKPT``.

    As many as fit the device at once, so that no second wave runs with a few programs; and no more than that carrying
    over the chunks before one takes as long as the chunk.

    >>> sequence = ScanShape(batch=1, groups=1, channels=32, states=16, rank=0, height=1, width=4096)
    >>> chunks(sequence, BLOCK, FORWARD, torch.device("cpu"))
    (43, 96)
    """
    fit = use.warps * multiprocessors(device) // shape.programs(block)
    # the last chunk carries the state over all others: CARRY * count time steps, against length / count of its own
    count = min(fit, shape.length // SHORTEST, math.isqrt(shape.length // CARRY))
    if count < use.min_chunks:
        count = 1
    steps = -(-shape.length // count)
    steps = -(-steps // CKPT) * CKPT
    return -(-shape.length // steps), steps


@functools.cache
def images_at_once(shape: ScanShape, block: int, use: Occupancy, device: torch.device, most: int) -> int:
    """Images worked on at a time: of at most ``most`` the count that leaves the device idle least, if equal more.

    >>> stage = ScanShape(batch=3, groups=4, channels=64, states=16, rank=2, height=8, width=8)
    >>> images_at_once(stage, BLOCK, FORWARD, torch.device("cpu"), most=2)
    2
    """

    def duration(count: int) -> float:
        """Time steps that pass until all images are done, ``count`` at a time."""
        parts, rest = divmod(shape.batch, count)
        total = parts * _duration(replace(shape, batch=count), block, use, device)
        if rest:
            total += _duration(replace(shape, batch=rest), block, use, device)
        return total

    return min(range(min(most, shape.batch), 0, -1), key=duration)


def _duration(shape: ScanShape, block: int, use: Occupancy, device: torch.device) -> float:
    """Time steps that pass until the scan is done, all programs of a wave walking together."""
    count, steps = chunks(shape, block, use, device)
    waves = -(-shape.programs(block) * count // (use.warps * multiprocessors(device)))
    before = count - 1  # chunks that leave their ends, and that the last one carries over
    return waves * (min(steps, shape.length) * (1 + use.ends * before / count) + CARRY * before)


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """Multiprocessors of the device; a CPU, where only the interpreter runs, passes for a few.

    >>> multiprocessors(torch.device("cpu"))
    4
    """
    if device.type != "cuda":
        return 4
    return torch.cuda.get_device_properties(device).multi_processor_count


def _power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()
