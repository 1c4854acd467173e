"""Launching the scan kernels: strides, flags and buffers, the same for plain sequences and for maps."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from yolomix.ops._triton.backward import scan_backward
from yolomix.ops._triton.forward import scan_ends, scan_forward
from yolomix.ops._triton.plan import BLOCK, MARK, SEGMENT, UNROLL, Sizes, chunks


@dataclass(frozen=True)
class Lanes:
    """Values (batch, groups, steps, channels), channels next to each other in memory; ``stride_k`` may be 0."""

    tensor: Tensor
    stride_b: int
    stride_l: int
    stride_k: int

    @property
    def strides(self) -> tuple[int, int, int]:
        """Strides of picture, step and group, in elements."""
        return self.stride_b, self.stride_l, self.stride_k


@dataclass(frozen=True)
class Scan:
    """One scan as the kernels see it.

    Args:
        sizes: its sizes.
        x: input.
        delta: raw step sizes; None when ``w`` projects them from the rows.
        rows: (B, L, K, row) float32, contiguous: N numbers of B, N of C, R inputs of delta.
        w: projection of delta, (RS, K * channels) float32.
        bias: added to delta, (K * channels,).
        A: decay rates, (NS, K * channels) float32.
        D: weight of the direct path, (K * channels,).
        softplus: whether delta passes through softplus.
    """

    sizes: Sizes
    x: Lanes
    delta: Lanes | None
    rows: Tensor
    w: Tensor | None
    bias: Tensor | None
    A: Tensor
    D: Tensor | None
    softplus: bool

    def empty(self, *shape: int) -> Tensor:
        """Float32 memory on the device of the scan."""
        return self.x.tensor.new_empty(shape, dtype=torch.float32)

    def states(self, count: int) -> Tensor:
        """Room for ``count`` states of every sequence, (B, K, count, N, channels)."""
        s = self.sizes
        return self.empty(s.batch, s.groups, count, s.N, s.channels)

    def geometry(self, cut: tuple[int, int]) -> tuple[int, ...]:
        """The sizes that every kernel takes, in its order."""
        s = self.sizes
        return s.length, s.height, s.width, s.channels, s.states, s.rank, *cut

    def flags(self, step: int) -> dict[str, bool | int]:
        """The compile-time constants that every kernel takes; ``step`` is what it unrolls."""
        s = self.sizes
        return {
            "K": s.groups,
            "N": s.N,
            "R": s.R,
            "BD": BLOCK,
            "MAP": s.rank > 0,
            "SOFTPLUS": self.softplus,
            "BIAS": self.bias is not None,
            "RAGGED": s.length % step != 0,
            "num_warps": 1,
        }

    @property
    def row_strides(self) -> tuple[int, int, int]:
        """Strides of a row: picture and cell in elements, group in units of four elements."""
        s = self.sizes
        return s.length * s.groups * s.row, s.groups * s.row, s.row // 4

    def delta_lanes(self) -> Lanes:
        """Raw step sizes, or the input in their place where they are projected."""
        return self.delta or self.x

    def ends(self, values: Lanes, cut: tuple[int, int], back: bool) -> tuple[Tensor, Tensor]:
        """What each chunk leaves behind, and its sum of delta; buffers of one element for a single chunk."""
        s, count = self.sizes, cut[0]
        if count == 1:
            return self.empty(1), self.empty(1)
        state, total = self.states(count), self.empty(s.batch, s.groups, count, s.channels)
        x, delta = values, self.delta_lanes()
        scan_ends[(s.sequences * count,)](
            x.tensor, delta.tensor, self.rows, _or(self.w, x), _or(self.bias, x), self.A, state, total,
            *self.geometry(cut), *x.strides, *delta.strides, *self.row_strides,
            U=UNROLL, BACK=back, **self.flags(UNROLL),
        )  # fmt: skip
        return state, total


def forward(
    scan: Scan, y: Lanes, z: Lanes | None, raw: Tensor | None, train: bool, last: bool
) -> tuple[Tensor, Tensor | None]:
    """Write the outputs into y, and those before the gate into ``raw``, which has the strides of y.

    Returns the marks that ``backward`` needs (one element without ``train``) and the last state (B, K, N, channels).
    """
    s, x, delta = scan.sizes, scan.x, scan.delta_lanes()
    with on_device(x.tensor):
        cut = chunks(s, x.tensor.device)
        state, total = scan.ends(x, cut, back=False)
        marks = scan.states(s.marks) if train else scan.empty(1)
        final = scan.states(1)[:, :, 0] if last else None
        gate = z or x
        scan_forward[(s.sequences * cut[0],)](
            x.tensor, delta.tensor, scan.rows, _or(scan.w, x), _or(scan.bias, x), scan.A, _or(scan.D, x),
            gate.tensor, y.tensor, _or(raw, y), state, total, marks, _or(final, x),
            *scan.geometry(cut), *x.strides, *delta.strides, gate.stride_b, gate.stride_l, *y.strides,
            *scan.row_strides, U=UNROLL, LM=MARK, CHUNKED=cut[0] > 1, MARKS=train, LAST=last,
            SKIP=scan.D is not None, GATE=z is not None, **scan.flags(UNROLL),
        )  # fmt: skip
    return marks, final


@dataclass(frozen=True)
class Gradients:
    """What the backward kernel leaves, to be summed over its first sizes.

    Args:
        rows: gradient of the rows, one copy per channel block, (blocks, B, L, K, row).
        A: (B, K, chunks, channels, N).
        w: (B, K, chunks, channels, R).
        bias: (B, K, chunks, channels).
        D: (B, K, chunks, channels).
    """

    rows: Tensor
    A: Tensor
    w: Tensor
    bias: Tensor
    D: Tensor


def backward(scan: Scan, q: Lanes, marks: Tensor, last: Tensor | None, gx: Lanes, gdelta: Tensor | None) -> Gradients:
    """Write the gradients of the input into gx, and of delta into ``gdelta``, which has the strides of gx.

    q: gradient of the outputs before the gate; marks: from ``forward``; last: gradient of the last state,
    (B, K, N, channels).
    """
    s, x, delta = scan.sizes, scan.x, scan.delta_lanes()
    with on_device(x.tensor):
        cut = chunks(s, x.tensor.device)
        count = s.sequences * cut[0]
        state, total = scan.ends(q, cut, back=True)
        part = (s.batch, s.groups, cut[0], s.channels)
        out = Gradients(
            scan.empty(s.blocks, s.batch, s.length, s.groups, s.row),
            scan.empty(*part, s.N), scan.empty(*part, s.R), scan.empty(*part), scan.empty(*part),
        )  # fmt: skip
        scratch, fold = scan.empty(count, MARK // SEGMENT, BLOCK, s.N), scan.empty(count, BLOCK, max(1, s.R))
        scan_backward[(count,)](
            x.tensor, q.tensor, delta.tensor, scan.rows, _or(scan.w, x), _or(scan.bias, x), scan.A, _or(scan.D, x),
            state, total, _or(last, x), marks, scratch, fold,
            gx.tensor, _or(gdelta, gx), out.rows, out.A, out.w, out.bias, out.D,
            *scan.geometry(cut), *x.strides, *q.strides, *delta.strides, *gx.strides, *scan.row_strides,
            out.rows.stride(0), TS=SEGMENT, LM=MARK, CHUNKED=cut[0] > 1, LAST=last is not None,
            SKIP=scan.D is not None, **scan.flags(SEGMENT),
        )  # fmt: skip
    return out


def on_device(x: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device: make it the tensor's."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def _or(tensor: Tensor | None, instead: Lanes) -> Tensor:
    """A tensor to point at where there is none: the kernel's flags say that it is not read."""
    return instead.tensor if tensor is None else tensor
