"""MLLA: linear attention with rotary and learnt positions, and the Mamba-like block around it (arXiv:2405.16605).

Parameter names are those of LeapLabTHU/MLLA. Different from it: maps instead of token lists, float32 inside the
attention in any model, and a residual around a bare ``MLLAttention``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolomix.nn.common import Conv, DropPath
from yolomix.nn.registry import register
from yolomix.ops.linear_attention import linear_attention

SOURCE = "Demystify Mamba in Vision: A Linear Attention Perspective, arXiv:2405.16605"


@register(source=SOURCE)
class MLLAttention(nn.Module):
    """Linear attention over all cells, plus a 3x3 depthwise position term: ``(B, C, H, W) -> (B, C, H, W)``.

    The values are the input itself; there is no output projection. 2C^2 + 12C parameters.

    Args:
        c: channels, a multiple of 4.
        heads: number of heads, divides c. With an even number, half of them turn with the row and half with the column.
        qkv_bias: whether the projection to queries and keys has a bias.
        residual: whether the input is added to the result, as a row of its own in a YAML needs it.
    """

    def __init__(self, c: int, heads: int = 4, qkv_bias: bool = True, residual: bool = True):
        super().__init__()
        if c % 4 or heads < 1 or c % heads:
            raise ValueError(
                f"MLLAttention needs channels that are a multiple of 4 and of heads={heads}, got c={c}; "
                "4 heads fit every multiple of 4"
            )
        self.heads, self.residual = heads, residual
        self.qk = nn.Linear(c, 2 * c, bias=qkv_bias)
        self.lepe = nn.Conv2d(c, c, 3, padding=1, groups=c)

    def forward(self, x: Tensor) -> Tensor:
        # Rotation and sums run over the cells: projecting with the channels in front saves turning q and k around.
        # `@` would choose how to compute by whether the weight wants a gradient, and give other last bits.
        qk = torch.bmm(self.qk.weight.expand(x.shape[0], -1, -1), x.flatten(2))  # (B, 2C, L)
        if self.qk.bias is not None:
            qk = qk + self.qk.bias[:, None]
        q, k = qk.reshape(x.shape[0], -1, x.shape[2], x.shape[3]).chunk(2, dim=1)
        out: Tensor = linear_attention(q, k, x, self.heads) + self.lepe(x)
        return (x + out if self.residual else out).to(x.dtype)


class Mlp(nn.Module):
    """Two linear layers with GELU between them, on the last axis: ``(..., C) -> (..., C)``."""

    def __init__(self, c: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(c, hidden)
        self.fc2 = nn.Linear(hidden, c)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


@register(source=SOURCE)
class MLLABlock(nn.Module):
    """The paper's block: gated linear attention and an MLP, each with a position term: ``(B, C, H, W)`` in and out.

    Args:
        c: channels, a multiple of 4.
        heads: number of heads, divides c; the paper takes c / 32.
        mlp_ratio: hidden width of the MLP, in channels per channel.
        qkv_bias: whether the projection to queries and keys has a bias.
        drop_path: probability that training drops a branch for a picture.
    """

    def __init__(self, c: int, heads: int = 4, mlp_ratio: float = 4.0, qkv_bias: bool = True, drop_path: float = 0.0):
        super().__init__()
        self.cpe1 = nn.Conv2d(c, c, 3, padding=1, groups=c)
        self.norm1 = nn.LayerNorm(c)
        self.in_proj = nn.Linear(c, c)
        self.act_proj = nn.Linear(c, c)
        self.dwc = nn.Conv2d(c, c, 3, padding=1, groups=c)
        self.attn = MLLAttention(c, heads, qkv_bias, residual=False)
        self.out_proj = nn.Linear(c, c)
        self.drop_path = DropPath(drop_path)
        self.cpe2 = nn.Conv2d(c, c, 3, padding=1, groups=c)
        self.norm2 = nn.LayerNorm(c)
        self.mlp = Mlp(c, int(c * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = x.contiguous(memory_format=torch.channels_last)  # linear layers and norms read the channels of a cell
        x = x + self.cpe1(x)
        y = self.norm1(x.permute(0, 2, 3, 1))  # (B, H, W, C)
        gate = F.silu(self.act_proj(y))
        inner = F.silu(self.dwc(self.in_proj(y).permute(0, 3, 1, 2)))
        mixed = self.out_proj(self.attn(inner).permute(0, 2, 3, 1) * gate)
        x = x + self.drop_path(mixed.permute(0, 3, 1, 2))
        x = x + self.cpe2(x)
        fed = self.mlp(self.norm2(x.permute(0, 2, 3, 1)))
        out: Tensor = x + self.drop_path(fed.permute(0, 3, 1, 2))
        return out.to(dtype)


class PSABlockMLLA(nn.Module):
    """Ultralytics' ``PSABlock`` with MLLA attention in place of its own: ``(B, C, H, W) -> (B, C, H, W)``."""

    def __init__(self, c: int, heads: int = 4):
        super().__init__()
        self.attn = MLLAttention(c, heads)
        self.ffn = nn.Sequential(Conv(c, 2 * c), Conv(2 * c, c, act=False))

    def forward(self, x: Tensor) -> Tensor:
        x = self.attn(x)
        out: Tensor = x + self.ffn(x)
        return out


@register(source=SOURCE)
class C2PSAMLLA(nn.Module):
    """Ultralytics' ``C2PSA`` with MLLA attention: ``(B, c1, H, W) -> (B, c2, H, W)``, c2 = c1.

    Half of the channels pass through ``n`` attention blocks, half go round. Weights of a ``C2PSA`` load by name,
    those of its attention excepted.

    Args:
        c1, c2: channels in and out, equal.
        n: number of attention blocks.
        e: share of the channels that the blocks get; e * c1 is a multiple of 4.
        heads: number of heads.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5, heads: int = 4):
        super().__init__()
        if c1 != c2:
            raise ValueError(f"C2PSAMLLA needs as many channels out as in, got c1={c1}, c2={c2}; put a Conv before it")
        self.c = int(c1 * e)
        self.cv1 = Conv(c1, 2 * self.c)
        self.cv2 = Conv(2 * self.c, c1)
        self.m = nn.Sequential(*(PSABlockMLLA(self.c, heads) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.cv1(x).chunk(2, dim=1)
        out: Tensor = self.cv2(torch.cat([a, self.m(b)], dim=1))
        return out.to(x.dtype)
