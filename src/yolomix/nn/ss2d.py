"""SS2D as a layer: what Mamba-YOLO (arXiv:2406.05835) and VMamba (arXiv:2401.10166) have in common.

A map goes through a projection, a depthwise convolution and an activation, is scanned in four directions that are
summed, normalised over its channels, gated, and projected back. The papers differ in the activation, in the gate and
the biases, and in the values at the start: see ``mamba_yolo.SS2D`` and ``vmamba.SS2D``.

Everything between the two projections lies in channels-last memory, in which a 1x1 projection is one matrix product,
a normalisation over channels reads neighbours and the scan needs no transposed copy.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolomix.ops.precision import accum_dtype
from yolomix.ops.ss2d import ss2d

DIRECTIONS = 4


class ScanMixer(nn.Module):
    """Projection, depthwise convolution, four-direction scan, normalisation, gate, projection.

    A paper's class adds ``in_proj`` (C to E channels for the scan, then E for the gate) and ``out_proj`` (back to C),
    and sets the steps ``dt_projs_weight`` and ``dt_projs_bias`` to what its code starts from.

    Args:
        d_model: channels C of the map.
        d_state: numbers N that every channel remembers.
        d_expand: channels E between the projections.
        d_inner: channels D of the scan; fewer than ``d_expand`` puts a projection down before it and one up after it.
        dt_rank: numbers R from which a direction makes its steps; "auto" is C / 16, rounded up.
        d_conv: side of the depthwise convolution, odd, in cells; 1 leaves it out.
        conv_bias: whether that convolution has a bias.
        gate: whether the result is multiplied by a second projection of the input.
        act: the activation after the convolution and of the gate.

    Raises:
        ValueError: a width, a state or a side is below 1, or the side is even.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("A_logs", "Ds", "dt_projs_weight", "dt_projs_bias")

    in_proj: nn.Conv2d | nn.Linear
    out_proj: nn.Conv2d | nn.Linear

    def __init__(
        self,
        d_model: int,
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
            raise ValueError(f"SS2D needs an odd d_conv, so that maps keep their size, got {d_conv}; use {d_conv + 1}")
        self.gate, self.d_expand, self.act = gate, d_expand, act
        self.conv2d: nn.Module = nn.Identity()
        if d_conv > 1:
            self.conv2d = nn.Conv2d(d_expand, d_expand, d_conv, padding=d_conv // 2, groups=d_expand, bias=conv_bias)
        self.in_rank: nn.Conv2d | None = None
        self.out_rank: nn.Linear | None = None
        if d_inner < d_expand:
            self.in_rank = nn.Conv2d(d_expand, d_inner, 1, bias=False)
            self.out_rank = nn.Linear(d_inner, d_expand, bias=False)
        bound = d_inner**-0.5  # the default of nn.Linear, which these four projections are
        self.x_proj_weight = nn.Parameter(torch.empty(DIRECTIONS, R + 2 * d_state, d_inner).uniform_(-bound, bound))
        self.dt_projs_weight = nn.Parameter(torch.zeros(DIRECTIONS, d_inner, R))
        self.dt_projs_bias = nn.Parameter(torch.zeros(DIRECTIONS, d_inner))
        self.A_logs = nn.Parameter(torch.zeros(DIRECTIONS * d_inner, d_state))
        self.Ds = nn.Parameter(torch.ones(DIRECTIONS * d_inner))
        self.out_norm = nn.LayerNorm(d_inner)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the cells of a map, (B, C, H, W) -> (B, C, H, W)."""
        x = channels_last(x).permute(0, 2, 3, 1)  # (B, H, W, C)
        u = project(self.in_proj, x, slice(0, self.d_expand)).permute(0, 3, 1, 2)  # (B, E, H, W)
        y = self.scan(self.act(self.conv2d(u)))  # (B, H, W, E)
        if self.gate:
            y = y * self.act(project(self.in_proj, x, slice(self.d_expand, None)))
        return project(self.out_proj, y).permute(0, 3, 1, 2)

    def scan(self, u: Tensor) -> Tensor:
        """The sum of the four scans, normalised: (B, E, H, W) -> (B, H, W, E), computed in float32 or wider."""
        wide = accum_dtype(u.dtype)
        if self.in_rank is not None:
            u = project(self.in_rank, u.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, D, H, W)
        A = -torch.exp(self.A_logs.to(wide))
        y = ss2d(u, self.x_proj_weight, self.dt_projs_weight, self.dt_projs_bias, A, self.Ds).permute(0, 2, 3, 1)
        norm = self.out_norm
        y = F.layer_norm(y, norm.normalized_shape, norm.weight.to(wide), norm.bias.to(wide), norm.eps).to(u.dtype)
        return y if self.out_rank is None else self.out_rank(y)


def project(layer: nn.Conv2d | nn.Linear, x: Tensor, rows: slice = slice(None)) -> Tensor:
    """Some output channels of a 1x1 projection, (B, H, W, C) -> (B, H, W, rows).

    Taking the halves of a projection one by one gives each of them memory of its own; halves of one result would be
    copied by the next convolution.
    """
    bias = None if layer.bias is None else layer.bias[rows]
    return F.linear(x, layer.weight.flatten(1)[rows], bias)


def channels_last(x: Tensor) -> Tensor:
    """The same map, (B, C, H, W), in memory where the channels of a cell are neighbours; no copy if it lies so."""
    return x.contiguous(memory_format=torch.channels_last)


def _check(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"SS2D needs {name} >= 1, got {number}")
