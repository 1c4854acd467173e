"""Vision Mamba (Vim): a Mamba that reads its sequence in both directions, and a layer of it for feature maps.

Parameter names are those of github.com/hustvl/Vim (its Mamba with ``bimamba_type="v2"``), and of the ``MambaLayer`` of
blog posts. There are four differences to those, on purpose:

* Both directions always run. The official path without CUDA drops one.
* The step sizes of the backward direction are initialised like those of the forward one.
* The layer has a residual.
* The state size is never taken from the width.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolomix.nn.common import inverse_softplus
from yolomix.nn.layers import is_plain
from yolomix.nn.registry import register
from yolomix.ops.precision import accum_dtype
from yolomix.ops.selective_scan import selective_scan

SOURCE = "Vision Mamba: Efficient Visual Representation Learning with Bidirectional SSM, arXiv:2401.09417"


class BidirectionalMamba(nn.Module):
    """Mamba in both directions of a sequence, between two shared projections.

    With E = expand * C inner channels and R = dt_rank it has 3CE + 2E(d_conv + 3 + 2R + 3 d_state) parameters.

    >>> BidirectionalMamba(16, d_state=4)(torch.zeros(2, 10, 16)).shape
    torch.Size([2, 10, 16])

    Args:
        d_model: channels C of a token.
        d_state: SSM state size N.
        d_conv: kernel size of the causal conv, in tokens.
        expand: expansion ratio E / C.
        dt_rank: rank R of the low-rank Δ projection; "auto" is C / 16, rounded up.
        if_divide_out: whether the directions are averaged instead of summed, as in the official classifiers.
        init_layer_scale: init of a learnt factor per output channel; None for no factor.

    Raises:
        ValueError: a size is below 1.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("A_log", "A_b_log", "D", "D_b")

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | Literal["auto"] = "auto",
        if_divide_out: bool = False,
        init_layer_scale: float | None = None,
    ):
        super().__init__()
        E = int(expand * d_model)
        R = math.ceil(d_model / 16) if dt_rank == "auto" else dt_rank
        sizes = {"d_model": d_model, "d_state": d_state, "d_conv": d_conv, "expand * d_model": E, "dt_rank": R}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"BidirectionalMamba needs {name} >= 1, got {size}")
        self.if_divide_out, self.d_state, self.d_conv, self.dt_rank = if_divide_out, d_state, d_conv, R
        self.in_proj = nn.Linear(d_model, 2 * E, bias=False)
        self.conv1d = nn.Conv1d(E, E, d_conv, groups=E)
        self.conv1d_b = nn.Conv1d(E, E, d_conv, groups=E)
        self.x_proj = nn.Linear(E, R + 2 * d_state, bias=False)
        self.x_proj_b = nn.Linear(E, R + 2 * d_state, bias=False)
        self.dt_proj = _delta_projection(R, E)
        self.dt_proj_b = _delta_projection(R, E)
        log_rates = torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(E, 1)  # (E, N), S4D-real
        self.A_log, self.A_b_log = nn.Parameter(log_rates), nn.Parameter(log_rates.clone())
        self.D, self.D_b = nn.Parameter(torch.ones(E)), nn.Parameter(torch.ones(E))
        self.out_proj = nn.Linear(E, d_model, bias=False)
        self.gamma: nn.Parameter | None = None
        if init_layer_scale is not None:
            self.gamma = nn.Parameter(torch.full((d_model,), init_layer_scale))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        xz = self.in_proj(tokens).transpose(1, 2).contiguous()  # (B, 2E, L), copied: a conv on the view is slow
        forward = self._scan(xz, self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)
        backward = self._scan(xz.flip(-1), self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b)
        y = forward + backward.flip(-1)  # (B, E, L)
        if self.if_divide_out:
            y = y / 2
        y = self.out_proj(y.transpose(1, 2))
        if self.gamma is not None:
            y = y * self.gamma
        return y

    def _scan(
        self, xz: Tensor, conv: nn.Conv1d, x_proj: nn.Linear, dt_proj: nn.Linear, A_log: Tensor, D: Tensor
    ) -> Tensor:
        """One direction, in its own order of time: (B, 2E, L) -> (B, E, L).

        Causal conv, projections to Δ, B and C, selective scan, gate.
        """
        x, z = xz.chunk(2, dim=1)
        u = F.silu(self._causal(conv, x))  # (B, E, L)
        if is_plain(x_proj, nn.Linear):
            projected = x_proj.weight[None] @ u  # (B, R + 2N, L)
        else:
            projected = x_proj(u.transpose(1, 2)).transpose(1, 2)
        r, B, C = torch.split(projected, [self.dt_rank, self.d_state, self.d_state], dim=1)
        accum = accum_dtype(u.dtype)
        bias = None
        if is_plain(dt_proj, nn.Linear):
            delta = dt_proj.weight[None] @ r  # (B, E, L), without the bias, which the scan adds in float32
            bias = dt_proj.bias.to(accum)
        else:
            delta = dt_proj(r.transpose(1, 2)).transpose(1, 2)
        A = -torch.exp(A_log.to(accum))
        y = selective_scan(u, delta, A, B, C, D.to(accum), z, bias, delta_softplus=True)
        assert isinstance(y, Tensor)  # no state was asked for
        return y

    def _causal(self, conv: nn.Conv1d, x: Tensor) -> Tensor:
        """The conv on a sequence, of which no time step sees a later one: (B, E, L) -> (B, E, L)."""
        before = self.d_conv - 1
        if is_plain(conv, nn.Conv1d):  # padded on both sides and cut at the end, which copies nothing
            return F.conv1d(x, conv.weight, conv.bias, padding=before, groups=conv.groups)[..., : x.shape[-1]]
        return conv(F.pad(x, (before, 0)))


@register(source=SOURCE)
class MambaLayer(nn.Module):
    """Vim's bidirectional Mamba over a feature map, read row by row.

    >>> MambaLayer(16)(torch.zeros(1, 16, 5, 7)).shape
    torch.Size([1, 16, 5, 7])

    Args:
        c: channels C.
        width: not used. Rows of older YAMLs, ``MambaLayer, [128]``, repeat the unscaled width of the row before. The
            real one is that of the feature map, and the state size is not taken from it.
        d_state: SSM state size N.
        d_conv: kernel size of the causal conv, in tokens.
        expand: expansion ratio of the inner channels.
        if_divide_out: whether the directions are averaged instead of summed.
        residual: whether the input is added to the result.

    Raises:
        ValueError: a size is below 1.
    """

    def __init__(
        self,
        c: int,
        width: int | None = None,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        if_divide_out: bool = False,
        residual: bool = True,
    ):
        super().__init__()
        if width is not None and (not isinstance(width, int) or width < 1):
            raise ValueError(
                f"the first argument of a MambaLayer row is a width, which is ignored, or null; got {width!r}. "
                "Write [null, 16] for a state size of 16"
            )
        self.residual = residual
        self.norm = nn.LayerNorm(c)
        self.mamba = BidirectionalMamba(c, d_state=d_state, d_conv=d_conv, expand=expand, if_divide_out=if_divide_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        tokens = x.flatten(2).transpose(1, 2)  # (B, L, C)
        y = self.mamba(self.norm(tokens)).transpose(1, 2).reshape(x.shape)
        if self.residual:
            y = x + y
        return y.to(x.dtype)


def _delta_projection(R: int, E: int) -> nn.Linear:
    """The projection to Δ, with its official init: softplus(bias) in 0.001 to 0.1 (arXiv:2312.00752, section 3.6)."""
    layer = nn.Linear(R, E)
    with torch.no_grad():
        layer.weight.uniform_(-(R**-0.5), R**-0.5)
        delta = torch.empty(E).uniform_(math.log(1e-3), math.log(1e-1)).exp().clamp(min=1e-4)
        layer.bias.copy_(inverse_softplus(delta))
    return layer
