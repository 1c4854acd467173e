"""MLLA: linear attention with RoPE and LePE, and the Mamba-like block around it (arXiv:2405.16605).

RoPE is the rotary positional encoding of queries and keys; LePE is the depthwise convolution that is added to the
result. Parameter names are those of LeapLabTHU/MLLA. There are three differences to that code:

* Blocks take feature maps instead of lists of tokens.
* The attention is computed in float32 in any model.
* ``MLLAttention`` has a residual, because a row of a model YAML puts it there alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolomix.nn.common import Conv, DropPath, Mlp, channels_last
from yolomix.nn.layers import is_plain
from yolomix.nn.registry import register
from yolomix.ops.linear_attention import linear_attention
from yolomix.ops.tracing import exporting

SOURCE = "Demystify Mamba in Vision: A Linear Attention Perspective, arXiv:2405.16605"


@register(source=SOURCE)
class MLLAttention(nn.Module):
    """Linear attention over a whole feature map, with RoPE and LePE.

    The values are the input itself, and there is no output projection. It has 2C^2 + 12C parameters.

    >>> block = MLLAttention(32)
    >>> block(torch.zeros(1, 32, 20, 20)).shape, sum(p.numel() for p in block.parameters())
    (torch.Size([1, 32, 20, 20]), 2432)

    Args:
        c: channels C, a multiple of 4.
        num_heads: number of heads, divides c. If it is even, half of the heads encode the row of a position and half
            its column.
        qkv_bias: whether the projection to queries and keys has a bias.
        residual: whether the input is added to the result.

    Raises:
        ValueError: the channels do not divide into heads and into groups of 4.
    """

    def __init__(self, c: int, num_heads: int = 4, qkv_bias: bool = True, residual: bool = True):
        super().__init__()
        if c % 4 or num_heads < 1 or c % num_heads:
            raise ValueError(
                f"MLLAttention needs channels that are a multiple of 4 and of num_heads={num_heads}, got c={c}. "
                "num_heads=4 fits every multiple of 4"
            )
        self.num_heads, self.residual = num_heads, residual
        self.qk = nn.Linear(c, 2 * c, bias=qkv_bias)
        self.lepe = nn.Conv2d(c, c, 3, padding=1, groups=c)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        B, _, H, W = x.shape
        # RoPE and the sums run along positions, so q and k are wanted with the channels in front: weight @ x gives
        # them so, and self.qk(tokens) would have to be transposed. bmm and not `@`: for a frozen weight, `@` computes
        # in another way, and the result is not bit-identical. A file has `@`: ncnn cannot expand along the batch.
        if is_plain(self.qk, nn.Linear):
            tokens = x.flatten(2)  # (B, C, L)
            weight = self.qk.weight  # (2C, C)
            qk = weight[None] @ tokens if exporting() else torch.bmm(weight.expand(B, -1, -1), tokens)  # (B, 2C, L)
            if self.qk.bias is not None:
                qk = qk + self.qk.bias[:, None]
        else:
            qk = self.qk(x.flatten(2).transpose(1, 2)).transpose(1, 2)
        q, k = qk.reshape(B, -1, H, W).chunk(2, dim=1)
        y = linear_attention(q, k, x, self.num_heads) + self.lepe(x)
        if self.residual:
            y = x + y
        return y.to(x.dtype)


@register(source=SOURCE)
class MLLABlock(nn.Module):
    """MLLA's block: gated linear attention, then an MLP.

    Each has a positional encoding before it.

    >>> MLLABlock(32, num_heads=2)(torch.zeros(1, 32, 20, 20)).shape
    torch.Size([1, 32, 20, 20])

    Args:
        c: channels C, a multiple of 4.
        num_heads: number of heads, divides c; the paper takes c / 32.
        mlp_ratio: expansion ratio of the MLP.
        qkv_bias: whether the projection to queries and keys has a bias.
        drop_path: probability of stochastic depth.
    """

    def __init__(
        self, c: int, num_heads: int = 4, mlp_ratio: float = 4.0, qkv_bias: bool = True, drop_path: float = 0.0
    ):
        super().__init__()
        self.cpe1 = nn.Conv2d(c, c, 3, padding=1, groups=c)
        self.norm1 = nn.LayerNorm(c)
        self.in_proj = nn.Linear(c, c)
        self.act_proj = nn.Linear(c, c)
        self.dwc = nn.Conv2d(c, c, 3, padding=1, groups=c)
        self.attn = MLLAttention(c, num_heads, qkv_bias, residual=False)
        self.out_proj = nn.Linear(c, c)
        self.drop_path = DropPath(drop_path)
        self.cpe2 = nn.Conv2d(c, c, 3, padding=1, groups=c)
        self.norm2 = nn.LayerNorm(c)
        self.mlp = Mlp(c, hidden_features=int(c * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        dtype = x.dtype  # autocast changes the dtype of the sums below
        x = channels_last(x)
        x = x + self.cpe1(x)
        tokens = self.norm1(x.permute(0, 2, 3, 1))  # (B, H, W, C)
        gate = F.silu(self.act_proj(tokens))
        inner = F.silu(self.dwc(self.in_proj(tokens).permute(0, 3, 1, 2)))  # (B, C, H, W)
        attended = self.attn(inner).permute(0, 2, 3, 1)  # (B, H, W, C)
        x = x + self.drop_path(self.out_proj(attended * gate).permute(0, 3, 1, 2))
        x = x + self.cpe2(x)
        fed = self.mlp(self.norm2(x.permute(0, 2, 3, 1)))  # (B, H, W, C)
        x = x + self.drop_path(fed.permute(0, 3, 1, 2))
        return x.to(dtype)


class PSABlockMLLA(nn.Module):
    """Ultralytics' ``PSABlock`` with MLLA's attention in place of its own.

    >>> PSABlockMLLA(32)(torch.zeros(1, 32, 20, 20)).shape
    torch.Size([1, 32, 20, 20])

    Args:
        c: channels C, a multiple of 4.
        num_heads: number of heads, divides c.
    """

    def __init__(self, c: int, *, num_heads: int = 4):
        super().__init__()
        self.attn = MLLAttention(c, num_heads)
        self.ffn = nn.Sequential(Conv(c, 2 * c), Conv(2 * c, c, act=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = self.attn(x)
        return x + self.ffn(x)


@register(source=SOURCE)
class C2PSAMLLA(nn.Module):
    """Ultralytics' ``C2PSA`` with MLLA's attention.

    Part of the channels pass through ``n`` attention blocks, the others go round them. Weights of a ``C2PSA`` load by
    name, except those of its attention.

    >>> C2PSAMLLA(32, 32, n=2)(torch.zeros(1, 32, 20, 20)).shape
    torch.Size([1, 32, 20, 20])

    Args:
        c1: input channels.
        c2: output channels, equal to c1.
        n: number of attention blocks.
        e: expansion ratio: the blocks work on e * c1 channels, a multiple of 4.
        num_heads: number of heads, divides e * c1.

    Raises:
        ValueError: c1 and c2 differ.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5, num_heads: int = 4):
        super().__init__()
        if c1 != c2:
            raise ValueError(f"C2PSAMLLA needs as many channels out as in, got c1={c1}, c2={c2}. Put a Conv before it")
        self.c = int(c1 * e)
        self.cv1 = Conv(c1, 2 * self.c)
        self.cv2 = Conv(2 * self.c, c1)
        self.m = nn.Sequential(*(PSABlockMLLA(self.c, num_heads=num_heads) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        a, b = self.cv1(x).chunk(2, dim=1)
        y = self.cv2(torch.cat([a, self.m(b)], dim=1))
        return y.to(x.dtype)
