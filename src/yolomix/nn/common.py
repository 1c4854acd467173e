"""The few layers that several papers share."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Conv(nn.Module):
    """Convolution, batch norm, activation: ``(B, c1, H, W) -> (B, c2, H', W')``, parameters named as in Ultralytics.

    Args:
        c1, c2: channels in and out.
        k: side of the kernel, odd, in cells; a stride of 1 keeps the size of the map.
        s: stride.
        g: groups.
        act: an activation, True for ``default_act``, False for none.
    """

    default_act: ClassVar[nn.Module] = nn.SiLU()  # the host sets it while it builds a YAML with `activation:`

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1, act: bool | nn.Module = True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, groups=g, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03)
        self.act = act if isinstance(act, nn.Module) else self.default_act if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out

    def fuse(self) -> None:
        """Fold the norm into the convolution, for inference; a second call changes nothing."""
        if isinstance(self.bn, nn.BatchNorm2d):
            with torch.no_grad():
                self.conv = fuse_conv_bn_eval(self.conv.eval(), self.bn.eval())
            self.bn = nn.Identity()


class DropPath(nn.Module):
    """Drop a residual branch for whole pictures in training (arXiv:1603.09382); the identity in eval.

    Args:
        p: probability to drop, 0 <= p < 1; what remains is scaled by 1 / (1 - p).
    """

    def __init__(self, p: float = 0.0):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"drop_path needs a probability of 0 <= p < 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = torch.empty(x.shape[0], *[1] * (x.dim() - 1), dtype=x.dtype, device=x.device).bernoulli_(1 - self.p)
        return x * keep / (1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"
