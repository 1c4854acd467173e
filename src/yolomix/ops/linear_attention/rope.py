"""RoPE of a feature map: half of the channels turn with the row, half with the column (MLLA, arXiv:2405.16605).

Channels 2p and 2p+1 are real and imaginary part of one value, turned by the angle a_p::

    a_p = row * theta_p            for p < C/4,
    a_p = column * theta_(p-C/4)   for the others,       theta_k = 10000 ** (-k / (C/4))

Real arithmetic throughout: bfloat16 has no complex type, and neither has ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor


def turns(C: int, H: int, W: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every channel pair's angle at every position, (C/2, H*W) each, in the type of ``like``.

    >>> cos, sin = turns(C=4, H=1, W=2, like=torch.ones(1))
    >>> cos  # the pair of the row does not turn, the one of the column turns by 0 and 1
    tensor([[1.0000, 1.0000],
            [1.0000, 0.5403]])

    Args:
        C: channels, a multiple of 4.
        H: height of the feature map.
        W: width.
        like: a tensor of the type and on the device that the angles shall have, (C, H * W) or any other shape.
    """
    # Made anew for every call: angles exist per row and per column only, which is nothing beside the map itself.
    K = C // 4
    theta = 10000.0 ** (torch.arange(K, device=like.device, dtype=like.dtype) / -K)
    rows = theta[:, None] * torch.arange(H, device=like.device, dtype=like.dtype)  # (K, H)
    columns = theta[:, None] * torch.arange(W, device=like.device, dtype=like.dtype)  # (K, W)
    cos = _everywhere(rows.cos(), columns.cos())
    sin = _everywhere(rows.sin(), columns.sin())
    return cos, sin


def _everywhere(rows: Tensor, columns: Tensor) -> Tensor:
    """Values of the rows (K, H) and of the columns (K, W) at every position, (2K, H * W)."""
    K, H, W = *rows.shape, columns.shape[1]
    return torch.cat([rows[:, :, None].expand(K, H, W), columns[:, None].expand(K, H, W)]).flatten(1)


def rotate(pairs: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs, (..., C/2, 2, L), by the angles of :func:`turns`; same shape.

    >>> quarter = torch.tensor([[0.0]]), torch.tensor([[1.0]])  # cosine and sine of a right angle
    >>> rotate(torch.tensor([[[1.0], [0.0]]]), *quarter).flatten()
    tensor([0., 1.])
    """
    re, im = pairs.unbind(-2)
    return torch.stack([re * cos - im * sin, re * sin + im * cos], dim=-2)
