"""The parts of Mamba-YOLO's blocks (arXiv:2406.05835): the scan, LS block, RG block, layer norm, convs to be fused."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from yolomix.nn.common import channels_last
from yolomix.nn.layers import is_plain, project, projection
from yolomix.nn.ss2d import SS2D

FFNKind = Literal["plain", "conv", "resconv", "gated", "rg"]


class MambaYoloSS2D(SS2D):
    """2D selective scan with GELU, a gate and a conv with bias; the init of all decay rates is -1.

    >>> MambaYoloSS2D(16, d_state=4)(torch.zeros(1, 16, 7, 5)).shape
    torch.Size([1, 16, 7, 5])

    Args:
        d_model: channels C of the feature map.
        d_state: SSM state size N.
        ssm_ratio: expansion ratio of the channels between the projections.
        ssm_rank_ratio: upper bound on the expansion ratio of the scan's channels; 0 for no bound.
        dt_rank: rank R of the low-rank Δ projection; "auto" is C / 16, rounded up.
        d_conv: kernel size of the depthwise conv, odd; 1 leaves it out.
        conv_bias: whether that conv has a bias.
        bias: whether the two projections have a bias.
        gate: whether the result is multiplied by a second projection of the input.

    Raises:
        ValueError: a size is below 1, or the kernel size is even.
    """

    projections = nn.Conv2d

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 16,
        ssm_ratio: float = 2.0,
        ssm_rank_ratio: float = 2.0,
        dt_rank: int | Literal["auto"] = "auto",
        d_conv: int = 3,
        conv_bias: bool = True,
        bias: bool = False,
        gate: bool = True,
    ):
        d_expand = d_inner = int(ssm_ratio * d_model)
        if ssm_rank_ratio > 0:
            d_inner = int(min(ssm_rank_ratio, ssm_ratio) * d_model)
        super().__init__(
            d_model,
            d_state=d_state,
            d_expand=d_expand,
            d_inner=d_inner,
            dt_rank=dt_rank,
            d_conv=d_conv,
            conv_bias=conv_bias,
            gate=gate,
            act=nn.GELU(),
        )
        self.in_proj = nn.Conv2d(d_model, 2 * d_expand if gate else d_expand, 1, bias=bias)
        self.out_proj = nn.Conv2d(d_expand, d_model, 1, bias=bias)
        # Not Mamba's init, whose Δ is 0.001 to 0.1: the authors' code draws from a normal distribution.
        nn.init.normal_(self.dt_projs_weight)
        nn.init.normal_(self.dt_projs_bias)


class ConvNormAct(nn.Sequential):
    """Convs, each followed by its batch norm and an activation; numbered as in the authors' code.

    >>> layers = ConvNormAct(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.SiLU()).eval()
    >>> layers(torch.zeros(1, 3, 4, 6)).shape
    torch.Size([1, 8, 4, 6])
    """

    def fuse(self) -> None:
        """Fold every batch norm into its conv, for inference. A second call changes nothing.

        >>> layers = ConvNormAct(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.SiLU()).eval()
        >>> layers.fuse()
        >>> layers[1]
        Identity()
        """
        for i, layer in enumerate(self):
            conv = self[i - 1]
            if is_plain(layer, nn.BatchNorm2d) and is_plain(conv, nn.Conv2d):
                self[i - 1], self[i] = _fused(conv, layer), nn.Identity()


class NestedLayerNorm2d(nn.Module):
    """Layer norm over channels with its parameters one level down, ``norm.weight``, as in the authors' code.

    >>> list(NestedLayerNorm2d(8).state_dict())
    ['norm.weight', 'norm.bias']

    Args:
        normalized_shape: channels C.
        eps: added to the variance.
    """

    def __init__(self, normalized_shape: int, *, eps: float = 1e-6):
        super().__init__()
        self.norm = nn.LayerNorm(normalized_shape, eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LSBlock(nn.Module):
    """Local spatial block: a 3x3 conv and two 1x1 convs with a residual, before the scan.

    >>> LSBlock(16, hidden_features=16)(torch.zeros(1, 16, 7, 5)).shape
    torch.Size([1, 16, 7, 5])

    Args:
        in_features: channels C of the feature map, divisible by ``hidden_features``.
        hidden_features: hidden width.

    Raises:
        ValueError: it is not divisible.
    """

    def __init__(self, in_features: int, *, hidden_features: int):
        super().__init__()
        if in_features % hidden_features:
            raise ValueError(
                f"LSBlock needs in_features that hidden_features divides, got {in_features} and {hidden_features}"
            )
        self.fc1 = nn.Conv2d(in_features, hidden_features, 3, padding=1, groups=hidden_features)
        self.norm: nn.Module = nn.BatchNorm2d(hidden_features)
        self.fc2 = nn.Conv2d(hidden_features, hidden_features, 1)
        self.fc3 = nn.Conv2d(hidden_features, in_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        local = self.norm(self.fc1(x))
        return x + self.fc3(F.gelu(self.fc2(local)))

    def fuse(self) -> None:
        """Fold the batch norm into its conv, for inference. A second call changes nothing.

        >>> block = LSBlock(16, hidden_features=16).eval()
        >>> block.fuse()
        >>> block.norm
        Identity()
        """
        if is_plain(self.norm, nn.BatchNorm2d) and is_plain(self.fc1, nn.Conv2d):
            self.fc1, self.norm = _fused(self.fc1, self.norm), nn.Identity()


class RGBlock(nn.Module):
    """Residual gated block: the FFN of both blocks, and the paper's four simpler forms of it.

    ========  =======================================================
    plain     fc2(GELU(fc1 x))
    conv      fc2(GELU(dw(fc1 x))), dw a depthwise 3x3 conv
    resconv   fc2(GELU(dw(a) + a)), a = fc1 x
    gated     fc2(GELU(a) * v), (a, v) = fc1 x
    rg        fc2((GELU(dw(a) + a)) * v), (a, v) = fc1 x
    ========  =======================================================

    >>> RGBlock(16, hidden_features=64)(torch.zeros(1, 16, 7, 5)).shape
    torch.Size([1, 16, 7, 5])

    Args:
        in_features: channels C of the feature map.
        hidden_features: hidden width. The gated forms have two thirds of it twice, so that they cost about the same.
        kind: one of the names above.

    Raises:
        ValueError: no such kind.
    """

    def __init__(self, in_features: int, *, hidden_features: int, kind: FFNKind = "rg"):
        super().__init__()
        if kind not in get_args(FFNKind):
            raise ValueError(f"mlp is one of {', '.join(get_args(FFNKind))}, got {kind!r}")
        self.gate = kind in ("gated", "rg")
        self.residual = kind in ("resconv", "rg")
        hidden = int(2 * hidden_features / 3) if self.gate else hidden_features
        self.hidden_features = hidden
        self.fc1 = nn.Conv2d(in_features, 2 * hidden if self.gate else hidden, 1)
        self.dwconv: nn.Module = nn.Identity()
        if kind not in ("plain", "gated"):
            self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Conv2d(hidden, in_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        tokens = channels_last(x).permute(0, 2, 3, 1)  # (B, H, W, C)
        hidden = self.hidden_features
        projected = projection(self.fc1, nn.Conv2d, tokens)
        a = projected(slice(0, hidden)).permute(0, 3, 1, 2)  # (B, hidden, H, W)
        local = self.dwconv(a)
        if self.residual:
            local = local + a
        y = F.gelu(local).permute(0, 2, 3, 1)  # (B, H, W, hidden)
        if self.gate:
            y = y * projected(slice(hidden, None))
        return project(self.fc2, nn.Conv2d, y).permute(0, 3, 1, 2)


def _fused(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One conv that computes what a conv and its batch norm compute in eval."""
    with torch.no_grad():
        return fuse_conv_bn_eval(conv.eval(), norm.eval())
