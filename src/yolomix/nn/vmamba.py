"""VMamba's block in its two released forms (arXiv:2401.10166, github.com/MzeroMiko/VMamba).

v0 is the first paper's: SS2D with a gate, 16 states, no second branch. v05_noz is the later one: no gate, one state,
an MLP as second branch. State-dict keys are those of the authors' code (``norm``, ``op``, ``norm2``, ``mlp``).

The class is called VSSBlock as there. Its name in a YAML is ``VMambaBlock``, because ``VSSBlock`` in a YAML of a YOLO
is Mamba-YOLO's. Differences on purpose: maps are (B, C, H, W) for both forms, and the scan and its normalisation run
in float32 for half-precision maps too, so that ``.half()`` works.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolomix.nn.common import DropPath
from yolomix.nn.registry import register
from yolomix.nn.ss2d import ScanMixer, channels_last

SOURCE = "VMamba: Visual State Space Model, arXiv:2401.10166"

Variant = Literal["v0", "v05_noz"]


class SS2D(ScanMixer):
    """Four-direction selective scan with SiLU; steps start between 0.001 and 0.1, decay rates at -1, -2, ... -N.

    Args:
        d_model: channels C of the map.
        d_state: numbers N that every channel remembers; by default 16 for v0, 1 for v05_noz.
        ssm_ratio: channels of the scan, in C.
        variant: "v0" with gate and a biased convolution, "v05_noz" without either.

    Raises:
        ValueError: no such variant, or a width below 1.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int | None = None,
        ssm_ratio: float = 2.0,
        variant: Variant = "v05_noz",
    ):
        if variant not in ("v0", "v05_noz"):
            raise ValueError(f"VMamba's variant is v0 or v05_noz, got {variant!r}")
        first = variant == "v0"
        if d_state is None:
            d_state = 16 if first else 1
        E = int(ssm_ratio * d_model)
        super().__init__(d_model, d_state, E, E, "auto", d_conv=3, conv_bias=first, gate=first, act=nn.SiLU())
        self.in_proj = nn.Linear(d_model, 2 * E if first else E, bias=False)
        self.out_proj = nn.Linear(E, d_model, bias=False)
        with torch.no_grad():
            self._start()

    def _start(self) -> None:
        """S4D-real decay rates; steps whose softplus is spread over 0.001 to 0.1 (arXiv:2312.00752, section 3.6)."""
        N, R = self.A_logs.shape[1], self.dt_projs_weight.shape[2]
        self.A_logs.copy_(torch.arange(1, N + 1).log().expand_as(self.A_logs))
        self.dt_projs_weight.uniform_(-(R**-0.5), R**-0.5)
        step = torch.empty_like(self.dt_projs_bias).uniform_(math.log(1e-3), math.log(1e-1)).exp()
        self.dt_projs_bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus


class LayerNorm2d(nn.LayerNorm):
    """Normalisation over the channels of every cell."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Two projections of every cell with GELU between them.

    Args:
        in_features: channels C of the map.
        hidden_features: channels inside.
    """

    def __init__(self, in_features: int, hidden_features: int):
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        y: Tensor = self.fc2(F.gelu(self.fc1(x.permute(0, 2, 3, 1))))
        return y.permute(0, 3, 1, 2)


@register(name="VMambaBlock", source=SOURCE)
class VSSBlock(nn.Module):
    """VMamba's block, in a YAML ``VMambaBlock``: the scan, then in v05_noz an MLP, each added to what it reads.

    Args:
        c: channels C of the map.
        variant: "v05_noz" or "v0".
        ssm_ratio: channels of the scan, in C; the released models have 2, and 1 in the smaller v05_noz.
        drop_path: probability of leaving a branch out in training.
        mlp_ratio: width of the MLP, in C; v0 has none.
        d_state: numbers N that every channel remembers; by default 16 for v0, 1 for v05_noz.
    """

    def __init__(
        self,
        c: int,
        variant: Variant = "v05_noz",
        ssm_ratio: float = 2.0,
        drop_path: float = 0.0,
        mlp_ratio: float = 4.0,
        d_state: int | None = None,
    ):
        super().__init__()
        self.norm = LayerNorm2d(c)
        self.op = SS2D(c, d_state, ssm_ratio, variant)
        self.drop_path = DropPath(drop_path)
        self.mlp = None
        if variant == "v05_noz":
            self.norm2 = LayerNorm2d(c)
            self.mlp = Mlp(c, int(mlp_ratio * c))

    @staticmethod
    def row_arguments(args: list[Any]) -> list[Any]:
        """A row's arguments without a leading width, which people repeat from the row before."""
        return args[1:] if args and type(args[0]) is int else args

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = channels_last(x)
        x = x + self.drop_path(self.op(self.norm(x)))
        return x if self.mlp is None else x + self.drop_path(self.mlp(self.norm2(x)))
