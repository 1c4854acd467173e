"""What Mamba-YOLO (arXiv:2406.05835) puts around its scan: local block, RG branch, norms, folded convolutions."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from yolomix.nn.ss2d import channels_last, project

Mlp = Literal["plain", "conv", "resconv", "gated", "rg"]


class ConvNormAct(nn.Sequential):
    """Convolutions, each followed by its batch norm and an activation, numbered as the authors' are."""

    def fuse(self) -> None:
        """Fold every norm into its convolution, for inference; a second call changes nothing."""
        for i, layer in enumerate(self):
            if isinstance(layer, nn.BatchNorm2d):
                self[i - 1], self[i] = folded(self[i - 1], layer), nn.Identity()


class LayerNorm2d(nn.Module):
    """Normalisation over the channels of every cell."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6):
        super().__init__()
        self.norm = nn.LayerNorm(normalized_shape, eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        y: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


class LSBlock(nn.Module):
    """Local spatial block: what surrounds a cell, added before the scan reads it.

    Args:
        in_features: channels C of the map, divisible by ``hidden_features``.
        hidden_features: channels inside.

    Raises:
        ValueError: it is not divisible.
    """

    def __init__(self, in_features: int, hidden_features: int):
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
        around: Tensor = self.fc3(F.gelu(self.fc2(self.norm(self.fc1(x)))))
        return x + around

    def fuse(self) -> None:
        """Fold the norm into its convolution, for inference; a second call changes nothing."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.fc1, self.norm = folded(self.fc1, self.norm), nn.Identity()


class RGBlock(nn.Module):
    """Residual gated block, the second branch, and the paper's four simpler forms of it.

    ========  =========================================================
    plain     fc2(GELU(fc1 x))
    conv      fc2(GELU(dw(fc1 x))), dw a depthwise 3x3 convolution
    resconv   fc2(GELU(dw(a) + a)), a = fc1 x
    gated     fc2(GELU(a) * v), (a, v) = fc1 x
    rg        fc2((GELU(dw(a) + a)) * v), (a, v) = fc1 x
    ========  =========================================================

    Args:
        in_features: channels C of the map.
        hidden_features: channels inside; the gated forms have two thirds of them twice, to cost about the same.
        kind: one of the names above.

    Raises:
        ValueError: no such kind.
    """

    def __init__(self, in_features: int, hidden_features: int, kind: Mlp = "rg"):
        super().__init__()
        if kind not in ("plain", "conv", "resconv", "gated", "rg"):
            raise ValueError(f"mlp is one of plain, conv, resconv, gated, rg, got {kind!r}")
        self.gate = kind in ("gated", "rg")
        self.residual = kind in ("resconv", "rg")
        hidden = int(2 * hidden_features / 3) if self.gate else hidden_features
        self.fc1 = nn.Conv2d(in_features, hidden * (2 if self.gate else 1), 1)
        self.dwconv: nn.Module = nn.Identity()
        if kind not in ("plain", "gated"):
            self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Conv2d(hidden, in_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = channels_last(x).permute(0, 2, 3, 1)  # (B, H, W, C)
        hidden = self.fc2.in_channels
        a = project(self.fc1, x, slice(0, hidden)).permute(0, 3, 1, 2)  # (B, hidden, H, W)
        local = self.dwconv(a)
        y = F.gelu(local + a if self.residual else local).permute(0, 2, 3, 1)
        if self.gate:
            y = y * project(self.fc1, x, slice(hidden, None))
        return project(self.fc2, y).permute(0, 3, 1, 2)


def folded(conv: nn.Module, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution that computes what a convolution and its batch norm compute in eval."""
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"a batch norm is folded into a convolution before it, got {type(conv).__name__}")
    with torch.no_grad():
        return fuse_conv_bn_eval(conv.eval(), norm.eval())
