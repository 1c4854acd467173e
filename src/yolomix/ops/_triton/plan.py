"""How a scan is laid over a device: padded sizes, and chunks where batch and channels alone do not fill it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import torch

BLOCK = 32  # channels of a program: one warp, one channel per lane
MARK = 32  # steps between two saved states: fewer of them cost memory, more of them cost scratch
UNROLL = 4  # steps of the forward kernel whose loads are in flight together
SEGMENT = 2  # steps whose states the backward kernel holds in registers; four spill
TILE = 512  # states of a program of the backward kernel: 16 per lane
SHORTEST = 2 * MARK  # steps of the shortest chunk


@dataclass(frozen=True)
class Fill:
    """When cutting sequences pays.

    Args:
        warps: what a multiprocessor holds at a time, by the registers of the kernel.
        least: chunks below which the pass over chunk ends costs more than the idle part of the device.
        ends: how long that pass takes, in parts of the kernel itself.
    """

    warps: int
    least: int
    ends: float


FORWARD = Fill(warps=16, least=3, ends=0.8)
TRAINING = Fill(warps=12, least=3, ends=0.8)  # the forward kernel that saves states
BACKWARD = Fill(warps=8, least=2, ends=0.2)
CARRY = 2  # steps that carrying over the states of one chunk takes


@dataclass(frozen=True)
class Sizes:
    """What is scanned: ``groups`` x ``channels`` sequences per picture, each with its ``states``.

    Args:
        batch: pictures.
        groups: groups that share B and C (K); the four directions of a map.
        channels: channels of a group.
        states: states per channel (NS), before padding.
        rank: numbers from which delta is projected (RS); 0 when delta itself is given.
        height: rows of the map; 1 for a plain sequence.
        width: columns of the map, or the length of the sequence.
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
        """Steps of a sequence, L."""
        return self.height * self.width

    @property
    def N(self) -> int:
        """States padded to a power of two; at least two, so that rows of B and C stay a multiple of 16 bytes."""
        return max(2, power_of_two(self.states))

    @property
    def R(self) -> int:
        """Numbers of delta padded to a power of two, at least four; 0 for none."""
        return max(4, power_of_two(self.rank)) if self.rank else 0

    @property
    def row(self) -> int:
        """Numbers of a row: B, C and the inputs of delta."""
        return 2 * self.N + self.R

    @property
    def marks(self) -> int:
        """Saved states of a sequence."""
        return -(-self.length // MARK)

    @property
    def mapped(self) -> bool:
        """Whether this is a map that every direction reads in its own order, not groups of channels of a sequence."""
        return self.rank > 0

    @property
    def step(self) -> int:
        """Elements from a step, or cell, to the next in everything that has channels."""
        return self.channels if self.mapped else self.groups * self.channels

    @property
    def x_group(self) -> int:
        """Elements from a group to the next in the input."""
        return 0 if self.mapped else self.channels

    @property
    def y_strides(self) -> tuple[int, int]:
        """Elements from a picture, and from a group, to the next in the output: a direction has a map of its own."""
        group = self.length * self.channels if self.mapped else self.channels
        return self.length * self.groups * self.channels, group

    @property
    def row_strides(self) -> tuple[int, int]:
        """From a step to the next in the rows, in elements; from a group to the next, in units of four elements."""
        return self.groups * self.row, self.row // 4

    @property
    def wide(self) -> bool:
        """Whether offsets inside a picture need more than 32 bits."""
        return self.length * max(self.step, self.row_strides[0]) >= 2**31

    def states_of(self, count: int) -> tuple[int, int, int, int, int]:
        """Shape of ``count`` states of every sequence."""
        return self.batch, self.groups, count, self.N, self.channels

    def blocks(self, block: int) -> int:
        """Channel blocks of a group."""
        return -(-self.channels // block)

    def sequences(self, block: int) -> int:
        """Programs without chunks."""
        return self.batch * self.groups * self.blocks(block)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def tile(N: int) -> int:
    """Channels of a program of the backward kernel: what a warp's registers hold of states, at most a lane each."""
    return min(BLOCK, TILE // N)


def chunks(sizes: Sizes, block: int, fill: Fill, device: torch.device) -> tuple[int, int]:
    """Chunks of a sequence, and the steps of each: a multiple of ``MARK``.

    As many as fit the device at once, so that no second wave runs with a few programs; and no more than that carrying
    over the chunks before one takes as long as the chunk.
    """
    fit = fill.warps * multiprocessors(device) // sizes.sequences(block)
    count = min(fit, sizes.length // SHORTEST, math.isqrt(sizes.length // CARRY))
    steps = -(-sizes.length // (count if count >= fill.least else 1))
    steps = -(-steps // MARK) * MARK
    return -(-sizes.length // steps), steps


@functools.cache
def pictures(sizes: Sizes, block: int, fill: Fill, device: torch.device, most: int) -> int:
    """Pictures worked on at a time: of at most ``most`` the number that leaves the device idle least, if equal more."""

    def steps(count: int) -> float:
        """Steps that pass until so many pictures are done, all programs of a wave walking together."""
        part = replace(sizes, batch=count)
        cut, length = chunks(part, block, fill, device)
        waves = -(-part.sequences(block) * cut // (fill.warps * multiprocessors(device)))
        before = cut - 1
        return waves * (min(length, sizes.length) * (1 + fill.ends * before / cut) + CARRY * before)

    def total(count: int) -> float:
        parts, rest = divmod(sizes.batch, count)
        return parts * steps(count) + (steps(rest) if rest else 0)

    return min(range(min(most, sizes.batch), 0, -1), key=total)


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """Multiprocessors of the device; a CPU, where only the interpreter runs, passes for a few."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
