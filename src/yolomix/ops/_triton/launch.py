"""Launching the scan kernels: strides, flags and buffers, the same for plain sequences and for feature maps.

Shapes are in the letters of ``ScanShape``: B batch, K groups or directions, D = K * channels, L time steps, N and R the
padded state size and rank.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops._triton.backward import scan_backward
from yolomix.ops._triton.forward import scan_ends, scan_forward
from yolomix.ops._triton.plan import (
    BACKWARD,
    BLOCK,
    CKPT,
    FORWARD,
    SEGMENT,
    TRAINING,
    UNROLL,
    ScanShape,
    chunks,
    tile,
)


@dataclass(frozen=True)
class Scan:
    """One scan as the kernels see it.

    >>> shape = ScanShape(batch=2, groups=1, channels=8, states=3, rank=0, height=1, width=5)
    >>> x, bcr, A = torch.ones(2, 5, 8), torch.ones(2, 5, 1, 8), torch.ones(3, 8)
    >>> scan = Scan(shape, x, x, bcr, None, None, A, None, softplus=True)
    >>> scan.states(2).shape, scan.flags(unroll=4)["RAGGED"]
    (torch.Size([2, 1, 2, 4, 8]), True)
    """

    shape: ScanShape
    x: Tensor  # (B, L, D) contiguous; of a feature map (B, L, channels), which all directions read
    delta: Tensor | None  # of the shape of x: raw step sizes; None when ``w`` projects them
    bcr: Tensor  # (B, L, K, 2N + R) float32, contiguous: B, C and the inputs of Δ
    w: Tensor | None  # (RS, D) float32, projection of Δ, RS being the rank before padding
    bias: Tensor | None  # (D,), added to raw step sizes
    A: Tensor  # (NS, D) float32, decay rates, NS being the state size before padding
    D: Tensor | None  # (D,), skip weight
    softplus: bool  # whether step sizes pass through softplus

    def empty(self, *shape: int) -> Tensor:
        """Float32 memory on the device of the scan."""
        return self.x.new_empty(shape, dtype=torch.float32)

    def states(self, count: int) -> Tensor:
        """Memory for ``count`` states of every sequence, (B, K, count, N, channels)."""
        return self.empty(*self.shape.state_shape(count))

    def flags(self, unroll: int) -> dict[str, bool | int]:
        """The compile-time constants that every kernel takes; ``unroll`` time steps are what it unrolls."""
        s = self.shape
        return {
            "K": s.groups,
            "N": s.N,
            "R": s.R,
            "MAP": s.is_map,
            "SOFTPLUS": self.softplus,
            "BIAS": self.bias is not None,
            "RAGGED": s.length % unroll != 0,
            "WIDE": s.wide,
            "num_warps": 1,  # what the layouts of the blocks are made for
            "enable_fp_fusion": True,
        }

    def given(self, tensor: Tensor | None) -> Tensor:
        """The tensor, or where there is none the input (B, L, D) to point at: flags say that it is not read."""
        return self.x if tensor is None else tensor

    def blocked_projection(self, block: int) -> Tensor:
        """The projection of Δ as (K, channels in whole blocks, R), zero where it pads."""
        s = self.shape
        if self.w is None:
            return self.x
        by_channel = self.w.view(s.rank, s.groups, s.channels).permute(1, 2, 0)
        return F.pad(by_channel, (0, s.R - s.rank, 0, -s.channels % block)).contiguous()

    def ends(self, values: Tensor, count: int, steps: int, back: bool) -> tuple[Tensor, Tensor]:
        """What each of ``count`` chunks of ``steps`` time steps leaves behind, and its sum of Δ.

        values: the input, or with ``back`` the gradient of the output, both of the shape of x. Returns (B, K, count, N,
        channels) and (B, K, count, channels), or for a single chunk buffers of one element.
        """
        s = self.shape
        if count == 1:
            return self.empty(1), self.empty(1)
        state, total = self.states(count), self.empty(s.batch, s.groups, count, s.channels)
        scan_ends[(s.programs(BLOCK) * (count - 1),)](
            values, self.given(self.delta), self.bcr, self.given(self.w), self.given(self.bias), self.A, state, total,
            s.length, s.height, s.width, s.channels, s.states, s.rank, count, steps, s.time_stride, s.bcr_stride,
            BD=BLOCK, U=UNROLL, BACK=back, **self.flags(UNROLL),
        )  # fmt: skip
        return state, total


def forward(
    scan: Scan, y: Tensor, z: Tensor | None, raw: Tensor | None, ckpts: Tensor | None, last: bool
) -> Tensor | None:
    """Run the scan.

    Args:
        scan: what is scanned.
        y: where outputs are written, (B, L, D), of a feature map (B, K, L, channels).
        z: gate, of the shape of x.
        raw: where outputs before the gate are written, of the shape of x, if a backward pass follows.
        ckpts: where checkpoints are written, (B, K, checkpoints, N, channels), if a backward pass follows.
        last: whether the last state is asked for.

    Returns: the last state, (B, K, N, channels), or None.
    """
    s, x = scan.shape, scan.x
    with _on_device(x):
        count, steps = chunks(s, BLOCK, FORWARD if ckpts is None else TRAINING, x.device)
        state, total = scan.ends(x, count, steps, back=False)
        final = scan.states(1)[:, :, 0] if last else None
        scan_forward[(s.programs(BLOCK) * count,)](
            x, scan.given(scan.delta), scan.bcr, scan.given(scan.w), scan.given(scan.bias), scan.A, scan.given(scan.D),
            scan.given(z), y, scan.given(raw), state, total, scan.given(ckpts), scan.given(final),
            s.length, s.height, s.width, s.channels, s.states, s.rank, count, steps, s.time_stride, s.bcr_stride,
            BD=BLOCK, U=UNROLL, CKPT=CKPT, CHUNKED=count > 1, SAVE=ckpts is not None, LAST=last,
            SKIP=scan.D is not None, GATE=z is not None, **scan.flags(UNROLL),
        )  # fmt: skip
    return final


class Gradients(NamedTuple):
    """What the backward kernel leaves: sums are still to be taken over channel blocks, the batch and chunks."""

    bcr: Tensor  # (blocks, B, L, K, 2N + R), one copy per channel block
    A: Tensor  # (B, K, chunks, channels, N)
    w: Tensor  # (B, K, chunks, channels, R)
    bias: Tensor  # (B, K, chunks, channels)
    D: Tensor  # (B, K, chunks, channels)

    @classmethod
    def empty(cls, scan: Scan, block: int, count: int) -> Gradients:
        """Memory for the gradients of ``count`` chunks in channel blocks of that size."""
        s = scan.shape
        bcr = scan.empty(s.blocks(block), s.batch, s.length, s.groups, s.bcr)
        part = (s.batch, s.groups, count, s.channels)
        return cls(bcr, scan.empty(*part, s.N), scan.empty(*part, s.R), scan.empty(*part), scan.empty(*part))

    def total_bcr(self) -> Tensor:
        """Gradient of B, C and the inputs of Δ, (B, L, K, 2N + R)."""
        if self.bcr.shape[0] == 1:
            return self.bcr[0]
        return self.bcr.sum(0)  # in a fixed order: adding them up in the kernel would need atomics


def backward(scan: Scan, q: Tensor, ckpts: Tensor, last: Tensor | None, gx: Tensor, gdelta: Tensor | None) -> Gradients:
    """Run the scan backwards.

    Args:
        scan: what was scanned.
        q: gradient of the outputs before the gate, of the shape of x.
        ckpts: checkpoints from ``forward``, (B, K, checkpoints, N, channels).
        last: gradient of the last state, (B, K, N, channels).
        gx: where the gradient of the input is written, of the shape of the outputs.
        gdelta: where that of raw step sizes is written, of the shape of x, if they are given.

    Returns: the gradients of B, C and the parameters.
    """
    s, x = scan.shape, scan.x
    with _on_device(x):
        block = tile(s.N)
        count, steps = chunks(s, block, BACKWARD, x.device)
        programs = s.programs(block) * count
        state, total = scan.ends(q, count, steps, back=True)
        out = Gradients.empty(scan, block, count)
        scratch = scan.empty(programs, CKPT // SEGMENT, block, s.N)
        dt = scan.empty(programs, CKPT, 2, block)
        scan_backward[(programs,)](
            x, q, scan.given(scan.delta), scan.bcr, scan.blocked_projection(block), scan.given(scan.bias), scan.A,
            scan.given(scan.D), state, total, scan.given(last), ckpts, scratch, dt,
            gx, scan.given(gdelta), out.bcr, out.A, out.w, out.bias, out.D,
            s.length, s.height, s.width, s.channels, s.states, count, steps, s.time_stride, s.bcr_stride,
            out.bcr.stride(0),
            BD=block, TS=SEGMENT, CKPT=CKPT, CHUNKED=count > 1, LAST=last is not None,
            SKIP=scan.D is not None, **scan.flags(SEGMENT),
        )  # fmt: skip
    return out


def _on_device(x: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device: make it that of x (B, L, D)."""
    if x.is_cuda:
        return torch.cuda.device(x.device)
    return nullcontext()
