"""The parts of MambaIRv2's layer (arXiv:2411.15269) without a state: window attention and the two MLPs.

All of them take feature maps with the channels last, (B, H, W, C). Parameter names are those of csguoh/MambaIR.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolomix.ops.precision import accum_dtype, full_precision

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
        H, W = int(qkv.shape[1]), int(qkv.shape[2])  # constants in an exported graph
        pad_height, pad_width = -H % self.window_size, -W % self.window_size
        padded = pad_height > 0 or pad_width > 0
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
        B, H, W, C = qkv.shape
        C = C // 3
        w, heads = self.window_size, self.num_heads
        d, nH, nW = C // heads, H // w, W // w
        accum = accum_dtype(qkv.dtype)
        # (B, nH, w, nW, w, 3, heads, d) -> (3, B, heads, nH, nW, w, w, d)
        cut = qkv.reshape(B, nH, w, nW, w, 3, heads, d).permute(5, 0, 6, 1, 3, 2, 4, 7).to(accum)
        q, k, v = cut.reshape(3, B, heads, nH * nW, w * w, d).unbind(0)
        bias = self.relative_position_bias_table.to(accum)[self.positions].permute(2, 0, 1)[:, None]
        logits = d**-0.5 * q @ k.transpose(-2, -1) + bias  # (B, heads, nH * nW, w*w, w*w)
        if closed is not None:
            logits = logits.masked_fill(closed, HIDDEN_LOGIT)
        y = (logits.softmax(-1) @ v).reshape(B, heads, nH, nW, w, w, d)
        y = y.permute(0, 2, 4, 3, 5, 1, 6).reshape(B, H, W, C)
        return y.to(qkv.dtype)


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
    open_rows = _open_lines(H, window_size, shift, device)
    open_columns = _open_lines(W, window_size, shift, device)
    both = open_rows[:, None, :, None, :, None] & open_columns[:, None, :, None, :]  # (nH, nW, w, w, w, w)
    return ~both.flatten(4).flatten(2, 3).flatten(0, 1)


def _open_lines(length: int, window_size: int, shift: int, device: torch.device) -> Tensor:
    """Which line of a window may see which, (n, w, w): both from the same side of the seam, the key not padding."""
    n = -(-length // window_size)
    line = torch.arange(n * window_size, device=device).reshape(n, window_size) + shift
    wrapped = line >= n * window_size
    padding = line % (n * window_size) >= length
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
