"""Blocks and windows of a feature map by reshapes and slices of neighbouring blocks, for graphs of other runtimes.

Rows are cut first and columns after them. So no tensor has more than five dimensions, and there is neither a gather nor
a slice with a step, which runtimes lack. Gradients of overlapping slices cost more than those of a gather, so this is
not what trains.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def count_blocks(length: int, block: int) -> int:
    """How many blocks cover a side of a feature map.

    >>> count_blocks(7, 2)
    4
    """
    return (length + block - 1) // block  # ONNX divides towards zero, so nothing negative is divided


def windows(x: Tensor, num_heads: int, block: int, halo: int) -> Tensor:
    """The window of every block, zero outside the map: (B, I, H, W) -> (B, heads * nH * nW, w * w, d).

    >>> windows(torch.arange(6.0).view(1, 1, 2, 3), num_heads=1, block=2, halo=0)[0, :, :, 0]
    tensor([[0., 1., 3., 4.],
            [2., 0., 5., 0.]])
    """
    B, channels, H, W = x.shape
    d, w = int(channels) // num_heads, block + 2 * halo
    nH, nW, more = count_blocks(H, block), count_blocks(W, block), -(-2 * halo // block)
    x = F.pad(x, (halo, (nW + more) * block - W - halo, halo, (nH + more) * block - H - halo))
    x = x.reshape(B, num_heads, d, -1).transpose(2, 3)  # (B, heads, positions, d)
    x = _overlapping(x.reshape(B, num_heads, nH + more, block, -1), nH, w)  # (B, heads, nH, w, width * d)
    x = x.reshape(B, num_heads * nH * w, nW + more, block, d)
    x = _overlapping(x, nW, w)  # (B, heads * nH * w, nW, w, d)
    x = x.reshape(B, num_heads * nH, w, nW, w * d).transpose(2, 3)  # (B, heads * nH, nW, w, w * d)
    return x.reshape(B, num_heads * nH * nW, w * w, d)


def together(y: Tensor, num_heads: int, block: int, H: int, W: int) -> Tensor:
    """The map from its blocks, those at the edges cut: (B, heads * nH * nW, b * b, d) -> (B, I, H, W).

    >>> cut = windows(torch.arange(6.0).view(1, 1, 2, 3), num_heads=1, block=2, halo=0)
    >>> together(cut, num_heads=1, block=2, H=2, W=3)
    tensor([[[[0., 1., 2.],
              [3., 4., 5.]]]])
    """
    B, d = y.shape[0], int(y.shape[3])
    nH, nW = count_blocks(H, block), count_blocks(W, block)
    y = y.reshape(B, num_heads * nH, nW, block, block * d).transpose(2, 3)  # (B, heads * nH, b, nW, b * d)
    y = y.reshape(B, num_heads, -1, d).transpose(2, 3)  # (B, heads, d, positions)
    return y.reshape(B, num_heads * d, nH * block, nW * block)[:, :, :H, :W]


def _overlapping(x: Tensor, n: int, w: int) -> Tensor:
    """Each of the first n blocks and what follows it, up to w lines: (B, F, n + more, b, E) -> (B, F, n, w, E)."""
    more = -(-w // int(x.shape[3]))
    if more == 1:
        return x
    return torch.cat([x[:, :, i : i + n] for i in range(more)], dim=3)[:, :, :, :w]
