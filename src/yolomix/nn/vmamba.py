"""VMamba's block in its two released forms (arXiv:2401.10166, github.com/MzeroMiko/VMamba).

v0 is the first paper's: a gate, state size 16, no MLP. v05_noz is the later one: no gate, state size 1, an MLP as
second branch. State-dict keys are those of the authors' code (``norm``, ``op``, ``norm2``, ``mlp``).

There it is called ``VSSBlock``. Here it is ``VMambaBlock``, because ``VSSBlock`` in a model YAML is Mamba-YOLO's. There
are two differences on purpose. Feature maps are (B, C, H, W) for both forms. Scan and layer norm run in float32 for
half-precision inputs too, so that ``.half()`` works.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from yolomix.nn.common import DropPath, Mlp, channels_last, inverse_softplus
from yolomix.nn.registry import register
from yolomix.nn.ss2d import SS2D

SOURCE = "VMamba: Visual State Space Model, arXiv:2401.10166"

Variant = Literal["v0", "v05_noz"]


class VMambaSS2D(SS2D):
    """2D selective scan with SiLU, and Mamba's init: Δ from 0.001 to 0.1, decay rates -1, -2, ... -N.

    >>> VMambaSS2D(16, variant="v0").A_logs.shape
    torch.Size([128, 16])

    Args:
        d_model: channels C of the feature map.
        d_state: SSM state size N; by default 16 for v0, 1 for v05_noz.
        ssm_ratio: expansion ratio of the scan's channels.
        variant: "v0" with a gate and a conv with bias, "v05_noz" without either.

    Raises:
        ValueError: no such variant, or a size is below 1.
    """

    projections = nn.Linear

    def __init__(
        self, d_model: int, *, d_state: int | None = None, ssm_ratio: float = 2.0, variant: Variant = "v05_noz"
    ):
        if variant not in ("v0", "v05_noz"):
            raise ValueError(f"VMamba's variant is v0 or v05_noz, got {variant!r}")
        v0 = variant == "v0"
        if d_state is None:
            d_state = 16 if v0 else 1
        E = int(ssm_ratio * d_model)
        super().__init__(
            d_model,
            d_state=d_state,
            d_expand=E,
            d_inner=E,
            dt_rank="auto",
            d_conv=3,
            conv_bias=v0,
            gate=v0,
            act=nn.SiLU(),
        )
        self.in_proj = nn.Linear(d_model, 2 * E if v0 else E, bias=False)
        self.out_proj = nn.Linear(E, d_model, bias=False)
        with torch.no_grad():
            self._init_scan()

    def _init_scan(self) -> None:
        """S4D-real decay rates, and a bias whose softplus is spread over 0.001 to 0.1 (arXiv:2312.00752, 3.6)."""
        N, R = self.A_logs.shape[1], self.dt_projs_weight.shape[2]
        self.A_logs.copy_(torch.arange(1, N + 1).log().expand_as(self.A_logs))
        self.dt_projs_weight.uniform_(-(R**-0.5), R**-0.5)
        delta = torch.empty_like(self.dt_projs_bias).uniform_(math.log(1e-3), math.log(1e-1)).exp()
        self.dt_projs_bias.copy_(inverse_softplus(delta))


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of every position of a feature map.

    >>> LayerNorm2d(8)(torch.randn(1, 8, 4, 6)).shape
    torch.Size([1, 8, 4, 6])
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@register(source=SOURCE)
class VMambaBlock(nn.Module):
    """VMamba's block: the scan, and in v05_noz an MLP.

    Each has a residual.

    >>> VMambaBlock(16, "v0")(torch.zeros(1, 16, 7, 5)).shape
    torch.Size([1, 16, 7, 5])

    Args:
        c: channels C of the feature map.
        variant: "v05_noz" or "v0".
        ssm_ratio: expansion ratio of the scan; the released models have 2, and 1 in the smaller v05_noz.
        drop_path: probability of stochastic depth.
        mlp_ratio: expansion ratio of the MLP; v0 has none.
        d_state: SSM state size N; by default 16 for v0, 1 for v05_noz.

    Raises:
        ValueError: no such variant, or a size is below 1.
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
        self.op = VMambaSS2D(c, d_state=d_state, ssm_ratio=ssm_ratio, variant=variant)
        self.drop_path = DropPath(drop_path)
        self.mlp: Mlp | None = None
        if variant == "v05_noz":
            self.norm2 = LayerNorm2d(c)
            self.mlp = Mlp(c, hidden_features=int(mlp_ratio * c))

    @staticmethod
    def row_arguments(args: list[Any]) -> list[Any]:
        """The arguments of a row without a leading width, which people repeat from the row before.

        >>> VMambaBlock.row_arguments([128, "v0"])
        ['v0']
        """
        if args and type(args[0]) is int:
            return args[1:]
        return args

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = channels_last(x)
        x = x + self.drop_path(self.op(self.norm(x)))
        if self.mlp is not None:
            fed = self.mlp(self.norm2(x).permute(0, 2, 3, 1))  # (B, H, W, C)
            x = x + self.drop_path(fed.permute(0, 3, 1, 2))
        return x
