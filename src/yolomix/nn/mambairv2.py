"""MambaIRv2's attentive layer and group (arXiv:2411.15269): window attention, then a scan over like cells in turn.

Parameter names are those of csguoh/MambaIR. Names differ between paper and code: the paper's ASSB is the code's
AttentiveLayer and the paper's ASSG the code's ASSB. YAMLs in circulation call one layer ``ASSG``, and so do we; the
paper's whole group is ``ASSGroup``.

Different from the official code: routing draws no random numbers unless asked to, and never in eval; a cell's prompt
goes with the cell when cells are sorted (``raster_prompt`` restores the official order, as official weights need);
the sort is stable; any map size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolomix.nn.mambairv2_parts import ConvFFN, GatedMLP, WindowAttention
from yolomix.nn.registry import register
from yolomix.ops.precision import full_precision, wide_dtype
from yolomix.ops.selective_scan import selective_scan

SOURCE = "MambaIRv2: Attentive State Space Restoration, arXiv:2411.15269"


class SelectiveScan(nn.Module):
    """Selective scan of a sequence whose output matrix gets a prompt: ``(B, L, E), (B, L, N) -> (B, L, E)``.

    In float32 or wider, whatever comes in.

    Args:
        d_inner: channels E.
        d_state: numbers N that every channel remembers.
    """

    plain_parameters: ClassVar[tuple[str, ...]] = ("A_logs", "Ds", "dt_projs_weight", "dt_projs_bias")

    def __init__(self, d_inner: int, d_state: int):
        super().__init__()
        R = math.ceil(d_inner / 16)
        self.x_proj_weight = nn.Parameter(torch.empty(1, R + 2 * d_state, d_inner))
        nn.init.uniform_(self.x_proj_weight, -(d_inner**-0.5), d_inner**-0.5)
        self.dt_projs_weight = nn.Parameter(torch.empty(1, d_inner, R).uniform_(-(R**-0.5), R**-0.5))
        step = torch.exp(torch.rand(1, d_inner) * math.log(0.1 / 1e-3) + math.log(1e-3)).clamp(min=1e-4)
        self.dt_projs_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
        self.A_logs = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.Ds = nn.Parameter(torch.ones(d_inner))

    def forward(self, u: Tensor, prompt: Tensor) -> Tensor:
        N, wide = self.A_logs.shape[1], wide_dtype(u.dtype)
        u = u.to(wide)
        projected = F.linear(u, self.x_proj_weight[0].to(wide))  # (B, L, R + 2N)
        t, b, c = torch.split(projected, [projected.shape[-1] - 2 * N, N, N], dim=-1)
        delta = F.linear(t, self.dt_projs_weight[0].to(wide))  # (B, L, E)
        scanned = selective_scan(
            u.transpose(1, 2),
            delta.transpose(1, 2),
            -torch.exp(self.A_logs.to(wide)),
            b.transpose(1, 2),
            (c + prompt.to(wide)).transpose(1, 2),
            self.Ds.to(wide),
            delta_bias=self.dt_projs_bias[0].to(wide),
            delta_softplus=True,
        )
        return cast(Tensor, scanned).transpose(1, 2)


class PromptTable(nn.Embedding):
    """A table of numbers that an optimiser must leave without decay and without orthogonalisation."""

    plain_parameters: ClassVar[tuple[str, ...]] = ("weight",)


class ASSM(nn.Module):
    """Attentive state-space module: cells are classed, sorted by class, scanned: ``(B, H, W, C) -> (B, H, W, C)``.

    Routing and scan are in float32, so that half precision does not move cells to other classes by rounding alone.

    Args:
        c: channels, at least 3.
        d_state: numbers that every scanned channel remembers.
        num_tokens: number of classes T.
        inner_rank: rank r of the table of prompts.
        mlp_ratio: channels of the scan per channel.
        raster_prompt: add the prompts in raster order to the sorted cells, as the official code does.
        gumbel: sample the classes in training.
    """

    def __init__(
        self,
        c: int,
        d_state: int,
        num_tokens: int = 64,
        inner_rank: int = 32,
        mlp_ratio: float = 1.0,
        raster_prompt: bool = False,
        gumbel: bool = False,
    ):
        super().__init__()
        if c < 3:
            raise ValueError(f"ASSM routes through c / 3 channels, so it needs c >= 3, got {c}")
        sizes = {"d_state": d_state, "num_tokens": num_tokens, "inner_rank": inner_rank, "c * mlp_ratio": c * mlp_ratio}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"ASSM needs {name} >= 1, got {size}")
        self.raster_prompt, self.gumbel = raster_prompt, gumbel
        E = int(c * mlp_ratio)
        self.in_proj = nn.Sequential(nn.Conv2d(c, E, 1))
        self.CPE = nn.Sequential(nn.Conv2d(E, E, 3, padding=1, groups=E))
        self.selectiveScan = SelectiveScan(E, d_state)
        self.out_norm = nn.LayerNorm(E)
        self.out_proj = nn.Linear(E, c)
        self.embeddingB = PromptTable(num_tokens, inner_rank)
        nn.init.uniform_(self.embeddingB.weight, -1 / num_tokens, 1 / num_tokens)
        self.route = nn.Sequential(nn.Linear(c, c // 3), nn.GELU(), nn.Linear(c // 3, num_tokens))

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """Mix the cells; ``token`` is the layer's half of the prompt table, (r, N)."""
        y = self.in_proj(x.permute(0, 3, 1, 2))
        y = (y * torch.sigmoid(self.CPE(y))).permute(0, 2, 3, 1).flatten(1, 2)  # (B, L, E)
        with full_precision(x):
            classes, prompt = self.prompts(x.flatten(1, 2), token)
            order, back = semantic_order(classes)
            if not self.raster_prompt:
                prompt = _taken(prompt, order)
            z = self.selectiveScan(_taken(y, order), prompt)  # (B, L, E)
            norm = self.out_norm
            z = F.layer_norm(z, norm.normalized_shape, norm.weight.to(z.dtype), norm.bias.to(z.dtype), norm.eps)
        out: Tensor = self.out_proj(_taken(z.to(x.dtype), back))
        return out.view_as(x)

    def prompts(self, x: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """The class of every cell, (B, L), and its prompt, (B, L, N): the row of its class in the table.

        The prompt is that row exactly; its gradient reaches the routing as if it were the mean of all rows, weighted
        by the probabilities of their classes.
        """
        wide = wide_dtype(x.dtype)
        first, last = (cast(nn.Linear, self.route[i]) for i in (0, 2))
        hidden = F.gelu(F.linear(x.to(wide), first.weight.to(wide), first.bias.to(wide)))
        logits = self.noisy(F.linear(hidden, last.weight.to(wide), last.bias.to(wide)))  # (B, L, T)
        table = self.embeddingB.weight.to(wide) @ token.to(wide)  # (T, N)
        classes = logits.argmax(dim=-1)
        prompt = F.embedding(classes, table)
        if torch.is_grad_enabled():
            soft = logits.softmax(dim=-1)
            prompt = prompt + (soft - soft.detach()) @ table
        return classes, prompt

    def noisy(self, logits: Tensor) -> Tensor:
        """The logits, in training with ``gumbel`` plus noise whose argmax is a sample of their softmax."""
        if not (self.training and self.gumbel):
            return logits
        return logits - torch.empty_like(logits).exponential_().log()


def semantic_order(classes: Tensor) -> tuple[Tensor, Tensor]:
    """Cells sorted by class, within a class as they come, and the way back; (B, L) each.

    No two keys of the sort are equal: whether it is stable (ONNX knows no such option) makes no difference.
    """
    L = classes.shape[1]
    cells = torch.arange(L, device=classes.device)
    order = (classes * L + cells).argsort(dim=1)
    return order, torch.zeros_like(order).scatter(1, order, cells.expand_as(order))


def _taken(x: Tensor, order: Tensor) -> Tensor:
    """The rows of each sequence in a given order: (B, L, E), (B, L) -> (B, L, E)."""
    B, L = order.shape
    start = torch.arange(B, device=order.device)[:, None] * L
    return x.flatten(0, 1).index_select(0, (order + start).flatten()).view(B, L, -1)


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

    plain_parameters: ClassVar[tuple[str, ...]] = ("scale1", "scale2")

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
