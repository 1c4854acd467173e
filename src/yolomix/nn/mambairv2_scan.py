"""MambaIRv2's attentive state-space module (arXiv:2411.15269): cells are classed, sorted by class and scanned.

Parameter names are those of csguoh/MambaIR.
"""

from __future__ import annotations

import math
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolomix.ops.precision import full_precision, accum_dtype
from yolomix.ops.selective_scan import selective_scan


class SelectiveScan(nn.Module):
    """Selective scan of a sequence whose output matrix gets a prompt: ``(B, L, E), (B, L, N) -> (B, L, E)``.

    In float32 or wider, whatever comes in.

    Args:
        d_inner: channels E.
        d_state: numbers N that every channel remembers.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("A_logs", "Ds", "dt_projs_weight", "dt_projs_bias")

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
        N, wide = self.A_logs.shape[1], accum_dtype(u.dtype)
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

    no_weight_decay: ClassVar[tuple[str, ...]] = ("weight",)


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
        wide = accum_dtype(x.dtype)
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
