"""MambaIRv2's attentive layer and group (arXiv:2411.15269): window attention, then a scan over like cells in turn.

Parameter names are those of csguoh/MambaIR. Names differ between paper and code: the paper's ASSB is the code's
AttentiveLayer and the paper's ASSG the code's ASSB. YAMLs in circulation call one layer ``ASSG``, and so do we; the
paper's whole group is ``ASSGroup``.

Different from the official code: routing draws no random numbers unless asked to, and never in eval; a cell's prompt
goes with the cell when cells are sorted (``raster_prompt`` restores the official order, as official weights need);
the sort is stable; any map size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from yolomix.nn.mambairv2_parts import ConvFFN, GatedMLP, WindowAttention
from yolomix.nn.mambairv2_scan import ASSM, PromptTable
from yolomix.nn.registry import register

SOURCE = "MambaIRv2: Attentive State Space Restoration, arXiv:2411.15269"


@register(source=SOURCE)
class ASSG(nn.Module):
    """One attentive layer, what YAMLs in circulation call ASSG: ``(B, C, H, W) -> (B, C, H, W)``.

    Window attention and an MLP, then attentive state-space module and an MLP, each added to what it reads. The
    defaults are the widths of those YAMLs; the paper's light model has 8 states and windows of 16, its base model
    16 states, 6 heads, windows of 16, rank 64, 128 classes, an ``mlp_ratio`` of 2 and ``conv_ffn``.

    Args:
        c: channels, a multiple of ``heads``.
        d_state: numbers that every scanned channel remembers.
        heads: number of heads of the window attention.
        window: side of a window, in cells.
        shift: how far the windows start from the map's corner, in cells; a group alternates 0 and window / 2.
        inner_rank: rank of the table of prompts.
        num_tokens: number of classes that cells are sorted by.
        mlp_ratio: channels in the middle of the MLPs and of the scan, per channel.
        conv_ffn: the base model's MLPs instead of the light model's.
        kernel_size: side of the MLPs' convolutions, odd, in cells.
        qkv_bias: whether the projection to queries, keys and values has a bias.
        raster_prompt: the official code's order of prompts, which its weights need.
        gumbel: sample classes in training, as the official code does; eval never does.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("scale1", "scale2")

    def __init__(
        self,
        c: int,
        d_state: int = 20,
        heads: int = 4,
        window: int = 4,
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
        ffn = ConvFFN if conv_ffn else GatedMLP
        hidden = int(c * mlp_ratio)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(c) for _ in range(4))
        self.scale1, self.scale2 = (nn.Parameter(torch.full((c,), 1e-4)) for _ in range(2))
        self.wqkv = nn.Linear(c, 3 * c, bias=qkv_bias)
        self.win_mhsa = WindowAttention(c, window, heads, shift)
        self.assm = ASSM(c, d_state, num_tokens, inner_rank, mlp_ratio, raster_prompt, gumbel)
        self.convffn1, self.convffn2 = (ffn(c, hidden, kernel_size) for _ in range(2))
        self.embeddingA = PromptTable(inner_rank, d_state)
        nn.init.uniform_(self.embeddingA.weight, -1 / inner_rank, 1 / inner_rank)
        self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)  # (B, H, W, C)
        a = x + self.win_mhsa(self.wqkv(self.norm1(x)))
        a = a + self.convffn1(self.norm2(a))
        x = torch.addcmul(a, x, self.scale1)  # the scales weigh a second path of x: the first is in a already
        m = x + self.assm(self.norm3(x), self.embeddingA.weight)
        m = m + self.convffn2(self.norm4(m))
        return torch.addcmul(m, x, self.scale2).permute(0, 3, 1, 2).to(dtype)


class Layers(nn.Module):
    """Layers one after the other; parameters in ``layers.0`` and following."""

    def __init__(self, layers: Iterable[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@register(source=SOURCE)
class ASSGroup(nn.Module):
    """The paper's whole group: layers, windows shifted in every second, a 3x3 convolution, added to the input.

    ``(B, C, H, W) -> (B, C, H, W)``.

    Args:
        c: channels, a multiple of ``heads``.
        depth: number of layers.
        d_state: numbers that every scanned channel remembers.
        heads: number of heads of the window attention.
        window: side of a window, in cells.
        inner_rank: rank of the tables of prompts.
        num_tokens: number of classes that cells are sorted by.
        mlp_ratio: channels in the middle of the MLPs and of the scan, per channel.
        conv_ffn: the base model's MLPs instead of the light model's.
        raster_prompt: the official code's order of prompts, which its weights need.
        gumbel: sample classes in training, as the official code does; eval never does.
    """

    def __init__(
        self,
        c: int,
        depth: int = 2,
        d_state: int = 8,
        heads: int = 4,
        window: int = 16,
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
        self.residual_group = Layers(
            ASSG(
                c,
                d_state,
                heads,
                window,
                shift=window // 2 if i % 2 else 0,
                inner_rank=inner_rank,
                num_tokens=num_tokens,
                mlp_ratio=mlp_ratio,
                conv_ffn=conv_ffn,
                raster_prompt=raster_prompt,
                gumbel=gumbel,
            )
            for i in range(depth)
        )
        self.conv = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv(self.residual_group(x))
        return out.to(x.dtype)


def _start(module: nn.Module) -> None:
    """The official starting values of a linear layer."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
