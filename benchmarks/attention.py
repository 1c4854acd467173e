"""Attention in small groups, in plain products as our blocks do it and by PyTorch's own function, on the same tensors.

The shapes are those of ``yolo11n-assg`` and ``yolo11n-halo`` at 640 pixels. Linear attention is not here: it has no
softmax, so that PyTorch's function cannot compute it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHAPES = {  # batch, heads, groups of cells, queries, keys, channels of a head
    "window attention": {"25 windows of 4x4, 4 heads of 64": (1, 4, 25, 16, 16, 64)},
    "halo attention": {"100 blocks of 2x2, border 1, 8 heads of 64": (1, 8, 100, 4, 16, 64)},
}
TINY = {"window attention": {"tiny": (1, 2, 3, 4, 4, 8)}, "halo attention": {"tiny": (1, 2, 3, 4, 16, 8)}}


def arguments(batch: int, heads: int, groups: int, queries: int, keys: int, channels: int) -> list[Tensor]:
    """Queries, keys and values of every group, and a bias of every pair."""
    torch.manual_seed(0)
    lead = batch, heads, groups
    q, k, v = (torch.randn(*lead, count, channels) for count in (queries, keys, keys))
    return [q, k, v, torch.randn(*lead, queries, keys)]


def plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Two products and a softmax."""
    scale: float = q.shape[-1] ** -0.5
    return (scale * q @ k.mT + bias).softmax(-1) @ v


def pytorch(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """``scaled_dot_product_attention``, groups as batch, which is the form that it has fast code for."""
    groups = [t.transpose(1, 2).flatten(0, 1) for t in (q, k, v, bias)]
    out = F.scaled_dot_product_attention(*groups[:3], attn_mask=groups[3])
    return out.unflatten(0, (q.shape[0], -1)).transpose(1, 2)


FUNCTIONS = {"plain products": plain, "scaled_dot_product_attention": pytorch}
