"""MambaIRv2's attentive state-space module (arXiv:2411.15269): tokens are classified, sorted by class and scanned.

Parameter names are those of csguoh/MambaIR.
"""

from __future__ import annotations

import math
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolomix.nn.common import inverse_softplus
from yolomix.nn.layers import called, lines, normed
from yolomix.nn.mambairv2_counting import chosen, permutation
from yolomix.ops.precision import accum_dtype, full_precision
from yolomix.ops.selective_scan import selective_scan
from yolomix.ops.tracing import exporting, into_a_file, longest_sort

EXACT_IN_FLOAT32 = 1 << 24  # every whole number up to it is one


class SelectiveScan(nn.Module):
    """Selective scan of a sequence, with a prompt added to the output matrix of every token.

    It is computed in float32 or wider, and returned so.

    >>> SelectiveScan(16, d_state=4)(torch.zeros(1, 10, 16), torch.zeros(1, 10, 4)).shape
    torch.Size([1, 10, 16])

    Args:
        d_inner: channels E.
        d_state: SSM state size N.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("A_logs", "Ds", "dt_projs_weight", "dt_projs_bias")

    def __init__(self, d_inner: int, *, d_state: int):
        super().__init__()
        R = math.ceil(d_inner / 16)
        self.x_proj_weight = nn.Parameter(torch.empty(1, R + 2 * d_state, d_inner))
        nn.init.uniform_(self.x_proj_weight, -(d_inner**-0.5), d_inner**-0.5)
        self.dt_projs_weight = nn.Parameter(torch.empty(1, d_inner, R).uniform_(-(R**-0.5), R**-0.5))
        delta = torch.exp(torch.rand(1, d_inner) * math.log(0.1 / 1e-3) + math.log(1e-3)).clamp(min=1e-4)
        self.dt_projs_bias = nn.Parameter(inverse_softplus(delta))
        self.A_logs = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.Ds = nn.Parameter(torch.ones(d_inner))

    def forward(self, u: Tensor, prompt: Tensor) -> Tensor:
        """Tokens (B, L, E) and their prompts (B, L, N) -> (B, L, E)."""
        N = self.A_logs.shape[1]
        accum = accum_dtype(u.dtype)
        u = u.to(accum)
        projected = F.linear(u, self.x_proj_weight[0].to(accum))  # (B, L, R + 2N)
        R = projected.shape[-1] - 2 * N
        r, B, C = torch.split(projected, [R, N, N], dim=-1)
        delta = F.linear(r, self.dt_projs_weight[0].to(accum))  # (B, L, E), without the bias, which the scan adds
        y = selective_scan(
            u.transpose(1, 2),
            delta.transpose(1, 2),
            -torch.exp(self.A_logs.to(accum)),
            B.transpose(1, 2),
            (C + prompt.to(accum)).transpose(1, 2),
            self.Ds.to(accum),
            delta_bias=self.dt_projs_bias[0].to(accum),
            delta_softplus=True,
        )
        return cast(Tensor, y).transpose(1, 2)


class PromptTable(nn.Embedding):
    """A learnt table that an optimiser must neither decay nor orthogonalise.

    >>> PromptTable(num_embeddings=64, embedding_dim=32).weight.shape
    torch.Size([64, 32])
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("weight",)


class ASSM(nn.Module):
    """Attentive state-space module: tokens are classified, sorted by class, and scanned in that order.

    Routing and scan are in float32. In half precision, rounding alone would move tokens to other classes.

    >>> ASSM(12, d_state=4)(torch.zeros(1, 7, 5, 12), torch.zeros(32, 4)).shape
    torch.Size([1, 7, 5, 12])

    Args:
        c: channels C, at least 3.
        d_state: SSM state size N.
        num_tokens: number of classes T.
        inner_rank: rank r of the table of prompts.
        mlp_ratio: expansion ratio of the scan.
        raster_prompt: whether prompts are added to the sorted tokens in raster order, as in the official code.
        gumbel: whether training samples the classes.

    Raises:
        ValueError: a size is too small.
    """

    def __init__(
        self,
        c: int,
        *,
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
        self.raster_prompt, self.gumbel, self.num_tokens = raster_prompt, gumbel, num_tokens
        E = int(c * mlp_ratio)
        self.in_proj = nn.Sequential(nn.Conv2d(c, E, 1))
        self.CPE = nn.Sequential(nn.Conv2d(E, E, 3, padding=1, groups=E))
        self.selectiveScan = SelectiveScan(E, d_state=d_state)
        self.out_norm = nn.LayerNorm(E)
        self.out_proj = nn.Linear(E, c)
        self.embeddingB = PromptTable(num_embeddings=num_tokens, embedding_dim=inner_rank)
        nn.init.uniform_(self.embeddingB.weight, -1 / num_tokens, 1 / num_tokens)
        self.route = nn.Sequential(nn.Linear(c, c // 3), nn.GELU(), nn.Linear(c // 3, num_tokens))

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C); ``token``, (r, N), is the layer's factor of the table of prompts."""
        y = self.in_proj(x.permute(0, 3, 1, 2))  # (B, E, H, W)
        y = y * torch.sigmoid(self.CPE(y))
        y = y.permute(0, 2, 3, 1).flatten(1, 2)  # (B, L, E)
        with full_precision(x):
            classes, prompt = self.prompts(x.flatten(1, 2), token)
            if classes.dim() == 2:
                order, inverse = semantic_order(classes, self.num_tokens)
            else:
                order = permutation(classes)
                inverse = order.transpose(1, 2)
            if not self.raster_prompt:
                prompt = _reordered(prompt, order)
            z = self.selectiveScan(_reordered(y, order), prompt)  # (B, L, E)
            z = normed(self.out_norm, z)
        return self.out_proj(_reordered(z.to(x.dtype), inverse)).reshape(x.shape)

    def prompts(self, x: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """The class of every token and its prompt, (B, L, C) and (r, N) -> (B, L) and (B, L, N).

        A prompt is the line of its class in the table, exactly. Its gradient reaches the routing as if it were the
        mean of all lines, weighted by the probabilities of their classes (straight-through estimator). In a graph for
        a runtime that cannot sort them, a class is a line of zeros and a one, (B, L, T).

        >>> classes, prompt = ASSM(12, d_state=4).prompts(torch.zeros(1, 35, 12), torch.zeros(32, 4))
        >>> classes.shape, prompt.shape
        (torch.Size([1, 35]), torch.Size([1, 35, 4]))
        """
        accum = accum_dtype(x.dtype)
        logits = self.noisy(called(self.route, x, accum))  # (B, L, T)
        table = lines(self.embeddingB, PromptTable, self.num_tokens, x.device).to(accum) @ token.to(accum)  # (T, N)
        most = longest_sort()
        if most is not None and int(logits.shape[1]) > most:
            classes = chosen(logits)
            return classes, classes @ table
        classes = logits.argmax(dim=-1)
        prompt = F.embedding(classes, table)
        # A graph for elsewhere is the same with gradients on and off: exporters record it twice and compare.
        if torch.is_grad_enabled() and not exporting():
            soft = logits.softmax(dim=-1)
            prompt = prompt + (soft - soft.detach()) @ table  # adds exactly zero, with the gradient of soft @ table
        return classes, prompt

    def noisy(self, logits: Tensor) -> Tensor:
        """Logits (B, L, T) -> (B, L, T), in training with ``gumbel`` plus Gumbel noise.

        The argmax of what it returns then is a sample of the softmax of the logits.

        >>> ASSM(12, d_state=4).noisy(torch.zeros(1, 1, 3))
        tensor([[[0., 0., 0.]]])
        """
        if not (self.training and self.gumbel):
            return logits
        return logits - torch.empty_like(logits).exponential_().log()


def semantic_order(classes: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """The order of tokens sorted by class, and its inverse: classes (B, L) -> (B, L) and (B, L).

    Within a class, tokens keep their order.

    >>> semantic_order(torch.tensor([[2, 0, 2, 1]]), num_classes=3)[0]
    tensor([[1, 3, 0, 2]])
    """
    L = classes.shape[1]
    positions = torch.arange(L, device=classes.device)
    # No two keys are equal, so any sort is a stable one. ONNX has no option for a stable sort.
    keys = classes * L + positions
    if exporting() and num_classes * (int(L) if into_a_file() else L) <= EXACT_IN_FLOAT32:
        keys = keys.to(torch.float32)  # TensorRT's TopK takes no int64
    order = keys.argsort(dim=1)
    zeros = torch.zeros_like(order)
    return order, zeros.scatter(1, order, zeros + positions)


def _reordered(x: Tensor, order: Tensor) -> Tensor:
    """The tokens of each sequence in a given order, (B, L) or a matrix (B, L, L): (B, L, E) -> (B, L, E)."""
    if order.dim() == 3:
        return order @ x
    B, L = order.shape
    start = torch.arange(B, device=order.device)[:, None] * L  # of each sequence in the flattened tokens
    return x.flatten(0, 1).index_select(0, (order + start).flatten()).view(B, L, -1)
