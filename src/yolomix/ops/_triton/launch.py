"""Launching the scan kernels: strides, flags and buffers, the same for plain sequences and for maps."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops._triton.backward import scan_backward
from yolomix.ops._triton.forward import scan_ends, scan_forward
from yolomix.ops._triton.plan import (
    BACKWARD,
    BLOCK,
    FORWARD,
    MARK,
    SEGMENT,
    TRAINING,
    UNROLL,
    Sizes,
    chunks,
    tile,
)


@dataclass(frozen=True)
class Scan:
    """One scan as the kernels see it.

    Args:
        sizes: its sizes.
        x: input, (B, L, K * channels) contiguous; of a map (B, L, channels), which all directions read.
        delta: raw step sizes, of the shape of x; None when ``w`` projects them from the rows.
        rows: (B, L, K, row) float32, contiguous: N numbers of B, N of C, R inputs of delta.
        w: projection of delta, (RS, K * channels) float32.
        bias: added to delta, (K * channels,).
        A: decay rates, (NS, K * channels) float32.
        D: weight of the direct path, (K * channels,).
        softplus: whether delta passes through softplus.
    """

    sizes: Sizes
    x: Tensor
    delta: Tensor | None
    rows: Tensor
    w: Tensor | None
    bias: Tensor | None
    A: Tensor
    D: Tensor | None
    softplus: bool

    def empty(self, *shape: int) -> Tensor:
        """Float32 memory on the device of the scan."""
        return self.x.new_empty(shape, dtype=torch.float32)

    def states(self, count: int) -> Tensor:
        """Room for ``count`` states of every sequence, (B, K, count, N, channels)."""
        return self.empty(*self.sizes.states_of(count))

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
            "MAP": s.rank > 0,
            "SOFTPLUS": self.softplus,
            "BIAS": self.bias is not None,
            "RAGGED": s.length % step != 0,
            "WIDE": s.wide,
            "num_warps": 1,
            "enable_fp_fusion": True,
        }

    def blocked(self, block: int) -> Tensor:
        """The projection of delta as (K, channels in whole blocks, R); the input in its place where there is none."""
        s = self.sizes
        if self.w is None:
            return self.x
        by_channel = self.w.view(s.rank, s.groups, s.channels).permute(1, 2, 0)
        return F.pad(by_channel, (0, s.R - s.rank, 0, -s.channels % block)).contiguous()

    @property
    def steps(self) -> Tensor:
        """Raw step sizes, or the input in their place where they are projected."""
        return self.x if self.delta is None else self.delta

    def ends(self, values: Tensor, cut: tuple[int, int], back: bool) -> tuple[Tensor, Tensor]:
        """What each chunk leaves behind, and its sum of delta; buffers of one element for a single chunk."""
        s, count, x = self.sizes, cut[0], self.x
        if count == 1:
            return self.empty(1), self.empty(1)
        state, total = self.states(count), self.empty(s.batch, s.groups, count, s.channels)
        scan_ends[(s.sequences(BLOCK) * (count - 1),)](
            values, self.steps, self.rows, _or(self.w, x), _or(self.bias, x), self.A, state, total,
            *self.geometry(cut), s.step, s.x_group, *s.row_strides,
            BD=BLOCK, U=UNROLL, BACK=back, **self.flags(UNROLL),
        )  # fmt: skip
        return state, total


def forward(
    scan: Scan, y: Tensor, z: Tensor | None, raw: Tensor | None, marks: Tensor | None, last: bool
) -> Tensor | None:
    """Write the outputs into y, those before the gate into ``raw``, and what ``backward`` needs into ``marks``.

    y: (B, L, K * channels), of a map (B, K, L, channels); z and raw: of the shape of x; marks: (B, K, sizes.marks, N,
    channels) float32. Returns the last state (B, K, N, channels) if it is asked for.
    """
    s, x = scan.sizes, scan.x
    with on_device(x):
        cut = chunks(s, BLOCK, FORWARD if marks is None else TRAINING, x.device)
        state, total = scan.ends(x, cut, back=False)
        final = scan.states(1)[:, :, 0] if last else None
        scan_forward[(s.sequences(BLOCK) * cut[0],)](
            x, scan.steps, scan.rows, _or(scan.w, x), _or(scan.bias, x), scan.A, _or(scan.D, x), _or(z, x),
            y, _or(raw, y), state, total, _or(marks, state), _or(final, x),
            *scan.geometry(cut), s.step, s.x_group, *s.y_strides, *s.row_strides,
            BD=BLOCK, U=UNROLL, LM=MARK, CHUNKED=cut[0] > 1, MARKS=marks is not None, LAST=last,
            SKIP=scan.D is not None, GATE=z is not None, **scan.flags(UNROLL),
        )  # fmt: skip
    return final


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

    def total_rows(self) -> Tensor:
        """Gradient of the rows, (B, L, K, row)."""
        return self.rows[0] if self.rows.shape[0] == 1 else self.rows.sum(0)


def backward(scan: Scan, q: Tensor, marks: Tensor, last: Tensor | None, gx: Tensor, gdelta: Tensor | None) -> Gradients:
    """Write the gradients of the input into gx and of delta into ``gdelta``; return those of the parameters.

    q: gradient of the outputs before the gate, of the shape of x; marks: from ``forward``; last: gradient of the last
    state, (B, K, N, channels); gx: of the shape of y; gdelta: of the shape of x.
    """
    s, x = scan.sizes, scan.x
    with on_device(x):
        block = tile(s.N)
        cut = chunks(s, block, BACKWARD, x.device)
        programs = s.sequences(block) * cut[0]
        state, total = scan.ends(q, cut, back=True)
        out = _room(scan, block, cut[0])
        scratch = scan.empty(programs, MARK // SEGMENT, block, s.N)
        steps = scan.empty(programs, MARK, 2, block)
        scan_backward[(programs,)](
            x, q, scan.steps, scan.rows, scan.blocked(block), _or(scan.bias, x), scan.A, _or(scan.D, x),
            state, total, _or(last, x), marks, scratch, steps,
            gx, _or(gdelta, gx), out.rows, out.A, out.w, out.bias, out.D,
            *scan.geometry(cut), s.step, s.x_group, *s.y_strides, *s.row_strides, out.rows.stride(0),
            BD=block, TS=SEGMENT, LM=MARK, CHUNKED=cut[0] > 1, LAST=last is not None,
            SKIP=scan.D is not None, **scan.flags(SEGMENT),
        )  # fmt: skip
    return out


def _room(scan: Scan, block: int, count: int) -> Gradients:
    """Memory for the gradients of ``count`` chunks in channel blocks of that size."""
    s = scan.sizes
    part = (s.batch, s.groups, count, s.channels)
    rows = scan.empty(s.blocks(block), s.batch, s.length, s.groups, s.row)
    return Gradients(rows, scan.empty(*part, s.N), scan.empty(*part, s.R), scan.empty(*part), scan.empty(*part))


def on_device(x: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device: make it the tensor's."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def _or(tensor: Tensor | None, instead: Tensor) -> Tensor:
    """A tensor to point at where there is none: the kernel's flags say that it is not read."""
    return instead if tensor is None else tensor
