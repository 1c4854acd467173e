"""Vision Mamba's mixer, a Mamba that reads its sequence in both directions, and a layer of it for maps.

Parameter names are those of github.com/hustvl/Vim (its Mamba with ``bimamba_type="v2"``) and of the ``MambaLayer`` of
blog posts. Different from those on purpose: both directions always run (the official path without CUDA drops one),
the backward direction's steps start like the forward one's, the layer has a residual, and its state size is never
taken from the width.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolomix.nn.registry import register
from yolomix.ops.precision import accum_dtype
from yolomix.ops.selective_scan import selective_scan

SOURCE = "Vision Mamba: Efficient Visual Representation Learning with Bidirectional SSM, arXiv:2401.09417"


class BidirectionalMamba(nn.Module):
    """Mamba in both directions of a sequence, between two shared projections: ``(B, L, C) -> (B, L, C)``.

    With E = expand * C channels inside and R = dt_rank it has 3CE + 2E(d_conv + 3 + 2R + 3 d_state) parameters.

    Args:
        d_model: channels C of a token.
        d_state: numbers N that every channel remembers.
        d_conv: taps of the causal convolution, in tokens.
        expand: channels inside, in C.
        dt_rank: numbers R from which the steps are made; "auto" is C / 16, rounded up.
        if_divide_out: take the mean of the directions instead of their sum, as the official classifiers do.
        init_layer_scale: start of a learnt factor per channel of the result; None for no factor.

    Raises:
        ValueError: a size is below 1.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("A_log", "A_b_log", "D", "D_b")

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | Literal["auto"] = "auto",
        if_divide_out: bool = False,
        init_layer_scale: float | None = None,
    ):
        super().__init__()
        E, R = int(expand * d_model), math.ceil(d_model / 16) if dt_rank == "auto" else dt_rank
        sizes = {"d_model": d_model, "d_state": d_state, "d_conv": d_conv, "expand * d_model": E, "dt_rank": R}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"BidirectionalMamba needs {name} >= 1, got {size}")
        self.if_divide_out, self.d_state = if_divide_out, d_state
        self.in_proj = nn.Linear(d_model, 2 * E, bias=False)
        self.conv1d, self.conv1d_b = (nn.Conv1d(E, E, d_conv, groups=E) for _ in range(2))
        self.x_proj, self.x_proj_b = (nn.Linear(E, R + 2 * d_state, bias=False) for _ in range(2))
        self.dt_proj, self.dt_proj_b = (_step_projection(R, E) for _ in range(2))
        rates = torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(E, 1)
        self.A_log, self.A_b_log = nn.Parameter(rates), nn.Parameter(rates.clone())
        self.D, self.D_b = nn.Parameter(torch.ones(E)), nn.Parameter(torch.ones(E))
        self.out_proj = nn.Linear(E, d_model, bias=False)
        self.gamma = None if init_layer_scale is None else nn.Parameter(torch.full((d_model,), init_layer_scale))

    def forward(self, tokens: Tensor) -> Tensor:
        xz = self.in_proj(tokens).transpose(1, 2).contiguous()  # (B, 2E, L); a convolution in the other layout is slow
        forward = self._scan(xz, self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)
        backward = self._scan(xz.flip(-1), self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b)
        y = forward + backward.flip(-1)  # (B, E, L)
        if self.if_divide_out:
            y = y / 2
        out: Tensor = self.out_proj(y.transpose(1, 2))
        return out if self.gamma is None else out * self.gamma

    def _scan(
        self, xz: Tensor, conv: nn.Conv1d, x_proj: nn.Linear, dt_proj: nn.Linear, A_log: Tensor, D: Tensor
    ) -> Tensor:
        """One direction in its own order of time: causal convolution, steps, B and C, gated scan, (B, E, L)."""
        x, z = xz.chunk(2, dim=1)
        (taps,) = conv.kernel_size
        u = F.silu(F.conv1d(x, conv.weight, conv.bias, padding=taps - 1, groups=conv.groups)[..., : x.shape[-1]])
        r, B, C = torch.split(x_proj.weight[None] @ u, [dt_proj.in_features, self.d_state, self.d_state], dim=1)
        wide = accum_dtype(u.dtype)
        A, bias = -torch.exp(A_log.to(wide)), dt_proj.bias.to(wide)
        y = selective_scan(u, dt_proj.weight[None] @ r, A, B, C, D.to(wide), z, bias, delta_softplus=True)
        assert isinstance(y, Tensor)  # no state was asked for
        return y


@register(source=SOURCE)
class MambaLayer(nn.Module):
    """Bidirectional Mamba over the cells of a map, row by row: ``(B, C, H, W) -> (B, C, H, W)``.

    Args:
        c: channels C of the map.
        width: not used. Rows of older YAMLs, ``MambaLayer, [128]``, repeat the width of the row before, unscaled;
            the real one is that of the map, and the state size is not taken from it.
        d_state: numbers N that every channel remembers.
        d_conv: taps of the causal convolution, in cells.
        expand: channels inside, in C.
        if_divide_out: take the mean of the directions instead of their sum.
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
                f"the first argument of a MambaLayer row is a width, which is ignored, or null; got {width!r}; "
                "write [null, 16] for a state size of 16"
            )
        self.residual = residual
        self.norm = nn.LayerNorm(c)
        self.mamba = BidirectionalMamba(c, d_state, d_conv, expand, if_divide_out=if_divide_out)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (B, L, C)
        y: Tensor = self.mamba(self.norm(tokens)).transpose(1, 2).reshape(x.shape)
        return (x + y if self.residual else y).to(x.dtype)


def _step_projection(R: int, E: int) -> nn.Linear:
    """The projection to steps, whose softplus starts between 0.001 and 0.1 (arXiv:2312.00752, section 3.6)."""
    layer = nn.Linear(R, E)
    with torch.no_grad():
        layer.weight.uniform_(-(R**-0.5), R**-0.5)
        step = torch.empty(E).uniform_(math.log(1e-3), math.log(1e-1)).exp().clamp(min=1e-4)
        layer.bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
    return layer
