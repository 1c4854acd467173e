"""MambaIRv2's attentive layer and group (arXiv:2411.15269): window attention, then a scan over like tokens in turn.

Parameter names are those of csguoh/MambaIR. Class names differ between paper and code: the paper's ASSB is the code's
AttentiveLayer, and the paper's ASSG the code's ASSB. YAMLs in circulation call one layer ``ASSG``, and so do we. The
paper's whole group is ``ASSGroup``.

There are four differences to the official code, on purpose:

* Routing draws no random numbers unless asked to, and never in eval.
* The prompt of a token goes with it when tokens are sorted. ``raster_prompt`` restores the official order, which
  official weights need.
* The sort is stable.
* Feature maps have any size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from yolomix.nn.common import channels_last
from yolomix.nn.layers import lines
from yolomix.nn.mambairv2_parts import ConvFFN, GatedMLP, WindowAttention
from yolomix.nn.mambairv2_scan import ASSM, PromptTable
from yolomix.nn.registry import register

SOURCE = "MambaIRv2: Attentive State Space Restoration, arXiv:2411.15269"


@register(source=SOURCE)
class ASSG(nn.Module):
    """One attentive layer of MambaIRv2, which YAMLs call ASSG.

    Window attention and an MLP, then the attentive state-space module and an MLP, each with a residual. The defaults
    are the widths of those YAMLs. The paper's light model has state size 8 and windows of 16. Its base model has state
    size 16, 6 heads, windows of 16, rank 64, 128 classes, an ``mlp_ratio`` of 2 and ``conv_ffn``.

    >>> block = ASSG(16, 8, num_heads=2)
    >>> block(torch.zeros(1, 16, 7, 5)).shape, block.win_mhsa.window_size
    (torch.Size([1, 16, 7, 5]), 4)

    Args:
        c: channels C, a multiple of ``num_heads``.
        d_state: SSM state size N.
        num_heads: number of heads of the window attention.
        window_size: side of a window, in positions.
        shift: how far the windows start from the corner of the feature map, in positions. A group alternates 0 and
            window_size / 2.
        inner_rank: rank of the table of prompts.
        num_tokens: number of classes by which tokens are sorted.
        mlp_ratio: expansion ratio of the MLPs and of the scan.
        conv_ffn: whether the MLPs are the base model's instead of the light model's.
        kernel_size: kernel size of the MLPs' convs, odd.
        qkv_bias: whether the projection to queries, keys and values has a bias.
        raster_prompt: whether prompts are added in the official code's order, which its weights need.
        gumbel: whether training samples the classes, as the official code does; eval never does.

    Raises:
        ValueError: a size is too small, or one does not divide another.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("scale1", "scale2")

    def __init__(
        self,
        c: int,
        d_state: int = 20,
        num_heads: int = 4,
        window_size: int = 4,
        shift: int = 0,
        inner_rank: int = 32,
        num_tokens: int = 64,
        mlp_ratio: float = 1.0,
        conv_ffn: bool = False,
        kernel_size: int = 5,
        qkv_bias: bool = True,
        raster_prompt: bool = False,
        gumbel: bool = False,
    ):
        super().__init__()
        self.inner_rank = inner_rank
        ffn = ConvFFN if conv_ffn else GatedMLP
        hidden = int(c * mlp_ratio)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(c) for _ in range(4))
        self.scale1, self.scale2 = (nn.Parameter(torch.full((c,), 1e-4)) for _ in range(2))
        self.wqkv = nn.Linear(c, 3 * c, bias=qkv_bias)
        self.win_mhsa = WindowAttention(c, window_size=window_size, num_heads=num_heads, shift=shift)
        self.assm = ASSM(
            c,
            d_state=d_state,
            num_tokens=num_tokens,
            inner_rank=inner_rank,
            mlp_ratio=mlp_ratio,
            raster_prompt=raster_prompt,
            gumbel=gumbel,
        )
        self.convffn1 = ffn(c, hidden_features=hidden, kernel_size=kernel_size)
        self.convffn2 = ffn(c, hidden_features=hidden, kernel_size=kernel_size)
        self.embeddingA = PromptTable(num_embeddings=inner_rank, embedding_dim=d_state)
        nn.init.uniform_(self.embeddingA.weight, -1 / inner_rank, 1 / inner_rank)
        self.apply(_init_linear)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        dtype = x.dtype
        x = channels_last(x).permute(0, 2, 3, 1)  # (B, H, W, C)
        attended = x + self.win_mhsa(self.wqkv(self.norm1(x)))
        attended = attended + self.convffn1(self.norm2(attended))
        token = lines(self.embeddingA, PromptTable, self.inner_rank, x.device)  # (r, N)
        x = attended + x * self.scale1  # x is in there already; the scale weighs one more path of it
        scanned = x + self.assm(self.norm3(x), token)
        scanned = scanned + self.convffn2(self.norm4(scanned))
        return (scanned + x * self.scale2).permute(0, 3, 1, 2).to(dtype)


class LayerStack(nn.Module):
    """Layers one after the other, whose parameters are in ``layers.0`` and following, as in the official code.

    >>> LayerStack([nn.Conv2d(3, 8, 1), nn.ReLU()])(torch.zeros(1, 3, 4, 6)).shape
    torch.Size([1, 8, 4, 6])
    """

    def __init__(self, layers: Iterable[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        for layer in self.layers:
            x = layer(x)
        return x


@register(source=SOURCE)
class ASSGroup(nn.Module):
    """A group of MambaIRv2: attentive layers and a conv.

    Every second layer has shifted windows, the conv is 3x3, and there is a residual around all of it.

    >>> group = ASSGroup(16, depth=2, window_size=4)
    >>> [layer.win_mhsa.shift for layer in group.residual_group.layers]
    [0, 2]
    >>> group(torch.zeros(1, 16, 7, 5)).shape
    torch.Size([1, 16, 7, 5])

    Args:
        c: channels C, a multiple of ``num_heads``.
        depth: number of layers.
        d_state: SSM state size N.
        num_heads: number of heads of the window attention.
        window_size: side of a window, in positions.
        inner_rank: rank of the tables of prompts.
        num_tokens: number of classes by which tokens are sorted.
        mlp_ratio: expansion ratio of the MLPs and of the scan.
        conv_ffn: whether the MLPs are the base model's instead of the light model's.
        raster_prompt: whether prompts are added in the official code's order, which its weights need.
        gumbel: whether training samples the classes, as the official code does; eval never does.

    Raises:
        ValueError: a size is too small, or one does not divide another.
    """

    def __init__(
        self,
        c: int,
        depth: int = 2,
        d_state: int = 8,
        num_heads: int = 4,
        window_size: int = 16,
        inner_rank: int = 32,
        num_tokens: int = 64,
        mlp_ratio: float = 1.0,
        conv_ffn: bool = False,
        raster_prompt: bool = False,
        gumbel: bool = False,
    ):
        super().__init__()
        if depth < 1:
            raise ValueError(f"ASSGroup needs depth >= 1, got {depth}")
        layers = []
        for i in range(depth):
            layer = ASSG(
                c,
                d_state,
                num_heads,
                window_size,
                shift=i % 2 * (window_size // 2),
                inner_rank=inner_rank,
                num_tokens=num_tokens,
                mlp_ratio=mlp_ratio,
                conv_ffn=conv_ffn,
                raster_prompt=raster_prompt,
                gumbel=gumbel,
            )
            layers.append(layer)
        self.residual_group = LayerStack(layers)
        self.conv = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        y = x + self.conv(self.residual_group(x))
        return y.to(x.dtype)


def _init_linear(module: nn.Module) -> None:
    """The official init of a linear layer."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
