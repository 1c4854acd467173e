"""The layer around a 2D selective scan: what Mamba-YOLO (arXiv:2406.05835) and VMamba (arXiv:2401.10166) share.

A feature map passes a projection, a depthwise conv and an activation. The 2D selective scan reads it: cross-scan, four
selective scans, cross-merge. Layer norm, gate and a second projection follow. The papers differ in activation, gate,
biases and init, see :class:`yolomix.nn.mamba_yolo_parts.MambaYoloSS2D` and :class:`yolomix.nn.vmamba.VMambaSS2D`.

Between the two projections everything lies in channels-last memory. There a 1x1 projection is one matrix product, a
layer norm reads contiguous values, and the scan needs no transposed copy.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from yolomix.nn.common import channels_last
from yolomix.nn.layers import normed, project, projection
from yolomix.ops.precision import accum_dtype
from yolomix.ops.ss2d import ss2d

DIRECTIONS = 4  # of the cross-scan: along rows, along columns, and both backwards


class SS2D(nn.Module):
    """Projection, depthwise conv, 2D selective scan, layer norm, gate, projection; the base of two papers' layers.

    A subclass adds ``in_proj`` (C to E channels for the scan, then E more for the gate) and ``out_proj`` (back to C).
    Both are of the class that it names in ``projections``. It also sets ``dt_projs_weight`` and ``dt_projs_bias``, the
    projection to Δ, to its paper's init.

    >>> from yolomix.nn.vmamba import VMambaSS2D
    >>> VMambaSS2D(16, d_state=4)(torch.zeros(1, 16, 7, 5)).shape
    torch.Size([1, 16, 7, 5])

    Args:
        d_model: channels C of the feature map.
        d_state: SSM state size N.
        d_expand: channels E between the projections.
        d_inner: channels D of the scan. If fewer than E, one projection goes down before the scan and one up after it.
        dt_rank: rank R of the low-rank Δ projection; "auto" is C / 16, rounded up.
        d_conv: kernel size of the depthwise conv, odd; 1 leaves it out.
        conv_bias: whether that conv has a bias.
        gate: whether the result is multiplied by a second projection of the input.
        act: the activation after the conv and of the gate.

    Raises:
        ValueError: a size is below 1, or the kernel size is even.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("A_logs", "Ds", "dt_projs_weight", "dt_projs_bias")

    projections: ClassVar[type[nn.Conv2d] | type[nn.Linear]]  # the class of both
    in_proj: nn.Conv2d | nn.Linear
    out_proj: nn.Conv2d | nn.Linear

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        d_expand: int,
        d_inner: int,
        dt_rank: int | Literal["auto"],
        d_conv: int,
        conv_bias: bool,
        gate: bool,
        act: nn.Module,
    ):
        super().__init__()
        R = math.ceil(d_model / 16) if dt_rank == "auto" else dt_rank
        _check(d_model=d_model, d_state=d_state, d_expand=d_expand, d_inner=d_inner, dt_rank=R, d_conv=d_conv)
        if d_conv % 2 == 0:
            raise ValueError(
                f"SS2D needs an odd d_conv, so that the feature map keeps its size, got {d_conv}. Use {d_conv + 1}"
            )
        self.gate, self.d_expand, self.act = gate, d_expand, act
        self.conv2d: nn.Module = nn.Identity()
        if d_conv > 1:
            self.conv2d = nn.Conv2d(d_expand, d_expand, d_conv, padding=d_conv // 2, groups=d_expand, bias=conv_bias)
        self.in_rank: nn.Conv2d | None = None
        self.out_rank: nn.Linear | None = None
        if d_inner < d_expand:
            self.in_rank = nn.Conv2d(d_expand, d_inner, 1, bias=False)
            self.out_rank = nn.Linear(d_inner, d_expand, bias=False)
        bound = d_inner**-0.5  # the init of nn.Linear; officially these are four such layers, stacked
        self.x_proj_weight = nn.Parameter(torch.empty(DIRECTIONS, R + 2 * d_state, d_inner).uniform_(-bound, bound))
        self.dt_projs_weight = nn.Parameter(torch.zeros(DIRECTIONS, d_inner, R))
        self.dt_projs_bias = nn.Parameter(torch.zeros(DIRECTIONS, d_inner))
        self.A_logs = nn.Parameter(torch.zeros(DIRECTIONS * d_inner, d_state))
        self.Ds = nn.Parameter(torch.ones(DIRECTIONS * d_inner))
        self.out_norm = nn.LayerNorm(d_inner)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        tokens = channels_last(x).permute(0, 2, 3, 1)  # (B, H, W, C)
        projected = projection(self.in_proj, self.projections, tokens)
        u = projected(slice(0, self.d_expand)).permute(0, 3, 1, 2)  # (B, E, H, W)
        y = self._scan(self.act(self.conv2d(u)))  # (B, H, W, E)
        if self.gate:
            y = y * self.act(projected(slice(self.d_expand, None)))
        return project(self.out_proj, self.projections, y).permute(0, 3, 1, 2)

    def _scan(self, u: Tensor) -> Tensor:
        """2D selective scan and layer norm, (B, E, H, W) -> (B, H, W, E), computed in float32 or wider."""
        accum = accum_dtype(u.dtype)
        if self.in_rank is not None:
            u = project(self.in_rank, nn.Conv2d, u.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, D, H, W)
        A = -torch.exp(self.A_logs.to(accum))
        y = ss2d(u, self.x_proj_weight, self.dt_projs_weight, self.dt_projs_bias, A, self.Ds).permute(0, 2, 3, 1)
        y = normed(self.out_norm, y).to(u.dtype)
        if self.out_rank is not None:
            y = self.out_rank(y)
        return y


def _check(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"SS2D needs {name} >= 1, got {size}")
