"""The parts of MambaIRv2's layer (arXiv:2411.15269) without a state: window attention and the two MLPs.

All of them work on maps with the channels last, (B, H, W, C). Parameter names are those of csguoh/MambaIR.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolomix.ops.precision import full_precision, accum_dtype

CLOSED = -1e30  # finite: a window of padding alone has no open key, and a softmax of it must not be NaN


class WindowAttention(nn.Module):
    """Attention inside windows, with a bias for every relative position: ``(B, H, W, 3C) -> (B, H, W, C)``.

    A shifted map is rolled, cut and rolled back; cells that only rolling made neighbours do not see each other. Maps
    that the window does not divide are padded, and no cell sees the padding. Logits and softmax are in float32.

    Args:
        c: channels.
        window: side of a window, in cells.
        heads: number of heads, divides c.
        shift: how far the windows start from the map's corner, in cells, 0 <= shift < window.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("relative_position_bias_table",)
    positions: Tensor

    def __init__(self, c: int, window: int, heads: int, shift: int = 0):
        super().__init__()
        if heads < 1 or c % heads:
            raise ValueError(f"window attention needs heads that divide its channels, got heads={heads} for c={c}")
        if window < 1 or not 0 <= shift < window:
            raise ValueError(
                f"window attention needs window >= 1 and 0 <= shift < window, in cells, got window={window}, "
                f"shift={shift}"
            )
        self.window, self.heads, self.shift = window, heads, shift
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.proj = nn.Linear(c, c)
        self.register_buffer("positions", relative_positions(window), persistent=False)

    def forward(self, qkv: Tensor) -> Tensor:
        H, W = (int(n) for n in qkv.shape[1:3])  # fixed numbers in an exported graph
        pad = -H % self.window, -W % self.window
        if any(pad):
            qkv = F.pad(qkv, (0, 0, 0, pad[1], 0, pad[0]))
        if self.shift:
            qkv = qkv.roll((-self.shift, -self.shift), (1, 2))
        closed = closed_pairs(H, W, self.window, self.shift, qkv.device) if self.shift or any(pad) else None
        with full_precision(qkv):
            mixed = self._attend(qkv, closed)  # (B, H + pad, W + pad, C)
        if self.shift:
            mixed = mixed.roll((self.shift, self.shift), (1, 2))
        out: Tensor = self.proj(mixed[:, :H, :W])
        return out

    def _attend(self, qkv: Tensor, closed: Tensor | None) -> Tensor:
        """Attention in the windows of a map that they divide; ``closed``: (windows, w*w, w*w)."""
        B, H, W, C = qkv.shape
        w, h, wide = self.window, self.heads, accum_dtype(qkv.dtype)
        nH, nW, C = H // w, W // w, C // 3
        cut = qkv.reshape(B, nH, w, nW, w, 3, h, C // h).permute(5, 0, 6, 1, 3, 2, 4, 7).to(wide)
        q, k, v = cut.reshape(3, B, h, nH * nW, w * w, C // h).unbind(0)
        bias = self.relative_position_bias_table.to(wide)[self.positions].permute(2, 0, 1)[:, None]
        logits = (C // h) ** -0.5 * q @ k.transpose(-2, -1) + bias  # (B, h, nH * nW, w*w, w*w)
        if closed is not None:
            logits = logits.masked_fill(closed, CLOSED)
        out = (logits.softmax(-1) @ v).reshape(B, h, nH, nW, w, w, C // h)
        mixed: Tensor = out.permute(0, 2, 4, 3, 5, 1, 6).reshape(B, H, W, C)
        return mixed.to(qkv.dtype)


def relative_positions(window: int) -> Tensor:
    """Which row of the bias table a query-key pair reads, (w*w, w*w)."""
    row, column = torch.arange(window * window) // window, torch.arange(window * window) % window
    rows, columns = row[:, None] - row + window - 1, column[:, None] - column + window - 1
    return rows * (2 * window - 1) + columns


def closed_pairs(H: int, W: int, window: int, shift: int, device: torch.device) -> Tensor:
    """True where a query must not see a key: across the seam of a rolled map, or a key that is padding.

    Returns: (windows, w*w, w*w), windows row by row.
    """
    open_rows, open_columns = (_open_lines(n, window, shift, device) for n in (H, W))
    both = open_rows[:, None, :, None, :, None] & open_columns[:, None, :, None, :]  # (nH, nW, w, w, w, w)
    return ~both.flatten(4).flatten(2, 3).flatten(0, 1)


def _open_lines(length: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Which line of a window may see which, (n, w, w): both from the same side of the seam, the key not padding."""
    n = -(-length // window)
    line = torch.arange(n * window, device=device).reshape(n, window) + shift
    wrapped, outside = line >= n * window, line % (n * window) >= length
    return (wrapped[:, :, None] == wrapped[:, None]) & ~outside[:, None]


class DepthwiseConv(nn.Module):
    """Depthwise convolution on a map with the channels last, then GELU; parameters in ``depthwise_conv.0``."""

    def __init__(self, c: int, kernel_size: int):
        super().__init__()
        self.depthwise_conv = nn.Sequential(depthwise(c, kernel_size), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.depthwise_conv(x.permute(0, 3, 1, 2))
        return out.permute(0, 2, 3, 1)


class ConvFFN(nn.Module):
    """MLP with a depthwise convolution beside its middle, of the base model: ``(B, H, W, C) -> (B, H, W, C)``.

    Args:
        c: channels.
        hidden: channels in the middle.
        kernel_size: side of the convolution, odd, in cells.
    """

    def __init__(self, c: int, hidden: int, kernel_size: int = 5):
        super().__init__()
        self.fc1 = nn.Linear(c, hidden)
        self.dwconv = DepthwiseConv(hidden, kernel_size)
        self.fc2 = nn.Linear(hidden, c)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.fc1(x))
        out: Tensor = self.fc2(x + self.dwconv(x))
        return out


class SpatialGate(nn.Module):
    """One half of the channels, normalised and convolved, gates the other: ``(B, H, W, F) -> (B, H, W, F/2)``."""

    def __init__(self, c: int, kernel_size: int):
        super().__init__()
        self.norm = nn.LayerNorm(c)
        self.conv = depthwise(c, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        gated: Tensor = value * self.conv(self.norm(gate).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return gated


class GatedMLP(nn.Module):
    """MLP whose middle gates itself, of the light model: ``(B, H, W, C) -> (B, H, W, C)``.

    Args:
        c: channels.
        hidden: channels in the middle, even.
        kernel_size: side of the gate's convolution, odd, in cells.
    """

    def __init__(self, c: int, hidden: int, kernel_size: int = 5):
        super().__init__()
        if hidden % 2:
            raise ValueError(f"GatedMLP halves its middle, so hidden has to be even, got {hidden}")
        self.fc1 = nn.Linear(c, hidden)
        self.sg = SpatialGate(hidden // 2, kernel_size)
        self.fc2 = nn.Linear(hidden // 2, c)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.sg(F.gelu(self.fc1(x))))
        return out


def depthwise(c: int, kernel_size: int) -> nn.Conv2d:
    """A depthwise convolution that keeps the size of a map.

    Raises:
        ValueError: the kernel is even, so that no padding keeps the size.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"a convolution that keeps the size of a map needs an odd kernel_size, got {kernel_size}")
    return nn.Conv2d(c, c, kernel_size, padding=kernel_size // 2, groups=c)
