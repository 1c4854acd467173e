"""The parts of MambaIRv2's layer (arXiv:2411.15269) without a state: window attention and the two MLPs.

All of them take feature maps with the channels last, (B, H, W, C). Parameter names are those of csguoh/MambaIR.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolomix.ops.precision import accum_dtype, full_precision
from yolomix.ops.tracing import exporting

# Finite: a window of padding alone has no visible key, and its softmax must not be NaN.
HIDDEN_LOGIT = -1e30


class WindowAttention(nn.Module):
    """Attention inside windows, with a relative positional encoding.

    A map with shifted windows is rolled, cut and rolled back. Positions that only rolling made neighbours do not see
    each other. A map that the windows do not divide is padded, and no position sees the padding. Logits and softmax
    are in float32.

    >>> WindowAttention(16, window_size=4, num_heads=2)(torch.zeros(1, 7, 5, 48)).shape
    torch.Size([1, 7, 5, 16])

    Args:
        c: channels C.
        window_size: side of a window, in positions.
        num_heads: number of heads, divides c.
        shift: how far the windows start from the corner of the feature map, in positions, 0 <= shift < window_size.

    Raises:
        ValueError: the heads do not divide the channels, or a size is out of range.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("relative_position_bias_table",)
    positions: Tensor

    def __init__(self, c: int, *, window_size: int, num_heads: int, shift: int = 0):
        super().__init__()
        if num_heads < 1 or c % num_heads:
            raise ValueError(
                f"window attention needs num_heads >= 1 that divides its channels, got num_heads={num_heads} for c={c}"
            )
        if window_size < 1 or not 0 <= shift < window_size:
            raise ValueError(
                "window attention needs window_size >= 1 and 0 <= shift < window_size, in positions, "
                f"got window_size={window_size}, shift={shift}"
            )
        self.window_size, self.num_heads, self.shift = window_size, num_heads, shift
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window_size - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.proj = nn.Linear(c, c)
        self.register_buffer("positions", relative_positions(window_size), persistent=False)

    def forward(self, qkv: Tensor) -> Tensor:
        """Queries, keys and values side by side in the channels: (B, H, W, 3C) -> (B, H, W, C)."""
        H, W = qkv.shape[1], qkv.shape[2]
        pad_height = count_windows(H, self.window_size) * self.window_size - H
        pad_width = count_windows(W, self.window_size) * self.window_size - W
        # An exported graph pads always: it may run at another size than the one at which it was recorded.
        padded = exporting() or pad_height > 0 or pad_width > 0
        if padded:
            qkv = F.pad(qkv, (0, 0, 0, pad_width, 0, pad_height))
        if self.shift:
            qkv = qkv.roll((-self.shift, -self.shift), (1, 2))
        closed = None
        if self.shift or padded:
            closed = closed_pairs(H, W, self.window_size, self.shift, qkv.device)
        with full_precision(qkv):
            attended = self._attend(qkv, closed)  # (B, H + pad, W + pad, C)
        if self.shift:
            attended = attended.roll((self.shift, self.shift), (1, 2))
        return self.proj(attended[:, :H, :W])

    def _attend(self, qkv: Tensor, closed: Tensor | None) -> Tensor:
        """Attention in the windows of a map that they divide, (B, H, W, 3C) -> (B, H, W, C).

        ``closed``, (windows, w*w, w*w), is where a query must not see a key.
        """
        # No tensor has more than five dimensions, because runtimes take no more: windows are cut rows first.
        B, H, W = qkv.shape[:3]
        C = int(qkv.shape[3]) // 3
        w, heads = self.window_size, self.num_heads
        nH, nW = H // w, W // w
        accum = accum_dtype(qkv.dtype)
        cut = qkv.reshape(B, nH, w, nW, w * 3 * C).transpose(2, 3)  # (B, nH, nW, w, w * 3C)
        cut = cut.reshape(B, nH * nW, w * w, 3 * C).to(accum)
        q, k, v = (t.reshape(B, nH * nW, w * w, heads, -1).transpose(2, 3) for t in cut.chunk(3, dim=3))
        # q, k, v are (B, n, heads, w*w, d), n windows row by row.
        bias = self.relative_position_bias_table.to(accum)[self.positions].permute(2, 0, 1)  # (heads, w*w, w*w)
        logits = (C // heads) ** -0.5 * q @ k.transpose(-2, -1) + bias  # (B, n, heads, w*w, w*w)
        if closed is not None:
            # Added, not filled in: ncnn has no masked_fill. A sum with so large a number is that number.
            logits = logits + HIDDEN_LOGIT * closed[:, None].to(accum)
        y = (logits.softmax(-1) @ v).transpose(2, 3)  # (B, n, w*w, heads, d)
        y = y.reshape(B, nH, nW, w, w * C).transpose(2, 3).reshape(B, H, W, C)
        return y.to(qkv.dtype)


def count_windows(length: int, window_size: int) -> int:
    """How many windows cover a side of a feature map.

    >>> count_windows(7, 4)
    2
    """
    return (length + window_size - 1) // window_size  # ONNX divides towards zero, so nothing negative is divided


def relative_positions(window_size: int) -> Tensor:
    """Which line of the bias table a pair of query and key reads, (w*w, w*w).

    >>> relative_positions(2)[0]
    tensor([4, 3, 1, 0])
    """
    positions = torch.arange(window_size * window_size)
    row, column = positions // window_size, positions % window_size
    rows = row[:, None] - row + window_size - 1
    columns = column[:, None] - column + window_size - 1
    return rows * (2 * window_size - 1) + columns


def closed_pairs(H: int, W: int, window_size: int, shift: int, device: torch.device) -> Tensor:
    """Where a query must not see a key: across the seam of a rolled map, or because the key is padding.

    >>> closed_pairs(2, 1, window_size=2, shift=0, device=torch.device("cpu"))[0, 0]
    tensor([False,  True, False,  True])

    Returns: (windows, w*w, w*w), windows row by row.
    """
    tokens = torch.arange(window_size * window_size, device=device)
    open_rows = _open_pairs(H, window_size, tokens // window_size + shift)
    open_columns = _open_pairs(W, window_size, tokens % window_size + shift)
    return ~(open_rows[:, None] & open_columns).flatten(0, 1)


def _open_pairs(length: int, window_size: int, lines: Tensor) -> Tensor:
    """Which token of a window may see which, (n, w*w, w*w): both from the same side of the seam, the key not padding.

    Rows or columns alone. ``lines``, (w*w,), is the row or the column of each token of the first window.
    """
    n = count_windows(length, window_size)
    line = window_size * torch.arange(n, device=lines.device)[:, None] + lines  # (n, w*w)
    wrapped = (line >= n * window_size).to(line.dtype)  # TensorRT compares no truth values
    padding = line - n * window_size * wrapped >= length  # `%` it has only since version 10
    return (wrapped[:, :, None] == wrapped[:, None]) & ~padding[:, None]


class DepthwiseConv(nn.Module):
    """Depthwise conv and GELU, with parameters in ``depthwise_conv.0``.

    >>> DepthwiseConv(16, kernel_size=5)(torch.zeros(1, 7, 5, 16)).shape
    torch.Size([1, 7, 5, 16])

    Args:
        c: channels C.
        kernel_size: kernel size, odd.
    """

    def __init__(self, c: int, *, kernel_size: int):
        super().__init__()
        self.depthwise_conv = nn.Sequential(_depthwise(c, kernel_size), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return self.depthwise_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvFFN(nn.Module):
    """The base model's MLP: a depthwise conv is added to its hidden values.

    >>> ConvFFN(16, hidden_features=32)(torch.zeros(1, 7, 5, 16)).shape
    torch.Size([1, 7, 5, 16])

    Args:
        c: channels C.
        hidden_features: hidden width.
        kernel_size: kernel size of the conv, odd.
    """

    def __init__(self, c: int, *, hidden_features: int, kernel_size: int = 5):
        super().__init__()
        self.fc1 = nn.Linear(c, hidden_features)
        self.dwconv = DepthwiseConv(hidden_features, kernel_size=kernel_size)
        self.fc2 = nn.Linear(hidden_features, c)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = F.gelu(self.fc1(x))
        return self.fc2(x + self.dwconv(x))


class SpatialGate(nn.Module):
    """One half of the channels, after layer norm and a depthwise conv, gates the other half.

    >>> SpatialGate(8, kernel_size=5)(torch.zeros(1, 7, 5, 16)).shape
    torch.Size([1, 7, 5, 8])

    Args:
        c: channels of a half.
        kernel_size: kernel size of the conv, odd.
    """

    def __init__(self, c: int, *, kernel_size: int):
        super().__init__()
        self.norm = nn.LayerNorm(c)
        self.conv = _depthwise(c, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, 2c) -> (B, H, W, c)."""
        value, gate = x.chunk(2, dim=-1)
        gate = self.conv(self.norm(gate).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return value * gate


class GatedMLP(nn.Module):
    """The light model's MLP: one half of its hidden values gates the other half.

    >>> GatedMLP(16, hidden_features=32)(torch.zeros(1, 7, 5, 16)).shape
    torch.Size([1, 7, 5, 16])

    Args:
        c: channels C.
        hidden_features: hidden width, even.
        kernel_size: kernel size of the gate's conv, odd.

    Raises:
        ValueError: the hidden width is odd.
    """

    def __init__(self, c: int, *, hidden_features: int, kernel_size: int = 5):
        super().__init__()
        if hidden_features % 2:
            raise ValueError(
                f"GatedMLP halves its hidden width, so hidden_features has to be even, got {hidden_features}"
            )
        self.fc1 = nn.Linear(c, hidden_features)
        self.sg = SpatialGate(hidden_features // 2, kernel_size=kernel_size)
        self.fc2 = nn.Linear(hidden_features // 2, c)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return self.fc2(self.sg(F.gelu(self.fc1(x))))


def _depthwise(c: int, kernel_size: int) -> nn.Conv2d:
    """A depthwise conv that keeps the size of a feature map.

    Raises:
        ValueError: the kernel size is even, so that no padding keeps the size.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"a conv that keeps the size of a feature map needs an odd kernel_size, got {kernel_size}")
    return nn.Conv2d(c, c, kernel_size, padding=kernel_size // 2, groups=c)
