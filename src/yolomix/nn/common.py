"""Layers that several papers share."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from yolomix.nn.layers import is_plain


class Conv(nn.Module):
    """Convolution, batch norm and activation, with parameters named as in Ultralytics.

    >>> Conv(3, 8, k=3, s=2)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 8, 16, 16])

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size, odd; with stride 1 the feature map keeps its size.
        s: stride.
        g: groups.
        act: an activation module, True for ``default_act``, or False for none.
    """

    default_act: ClassVar[nn.Module] = nn.SiLU()  # replaced while a model YAML with `activation:` is built

    def __init__(self, c1: int, c2: int, *, k: int = 1, s: int = 1, g: int = 1, act: bool | nn.Module = True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, groups=g, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03)  # the values that Ultralytics sets
        self.act: nn.Module = nn.Identity()
        if isinstance(act, nn.Module):
            self.act = act
        elif act:
            self.act = self.default_act

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H / s, W / s), sides rounded up."""
        return self.act(self.bn(self.conv(x)))

    def fuse(self) -> None:
        """Fold the batch norm into the conv, for inference. A second call changes nothing.

        >>> conv = Conv(3, 8).eval()
        >>> conv.fuse()
        >>> list(conv.state_dict())
        ['conv.weight', 'conv.bias']
        """
        if is_plain(self.bn, nn.BatchNorm2d) and is_plain(self.conv, nn.Conv2d):
            with torch.no_grad():
                self.conv = fuse_conv_bn_eval(self.conv.eval(), self.bn.eval())
            self.bn = nn.Identity()


class DropPath(nn.Module):
    """Stochastic depth (arXiv:1603.09382): training drops a residual branch for whole images.

    In eval it is the identity.

    >>> DropPath(0.5).eval()(torch.ones(2, 3)).sum()
    tensor(6.)

    Args:
        p: probability to drop, 0 <= p < 1; what is kept is scaled by 1 / (1 - p).

    Raises:
        ValueError: p is no such probability.
    """

    def __init__(self, p: float = 0.0):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"drop_path needs a probability of 0 <= p < 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), or any other shape that starts with the batch."""
        if not self.training or self.p == 0:
            return x
        shape = [x.shape[0]] + [1] * (x.dim() - 1)  # one draw per image
        keep = torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(1 - self.p)
        return x * keep / (1 - self.p)

    def extra_repr(self) -> str:
        """What ``print`` shows in the brackets.

        >>> DropPath(0.1)
        DropPath(p=0.1)
        """
        return f"p={self.p}"


class Mlp(nn.Module):
    """Two linear layers with GELU between them, applied to every token.

    >>> Mlp(8, hidden_features=32)(torch.zeros(1, 4, 6, 8)).shape
    torch.Size([1, 4, 6, 8])

    Args:
        in_features: channels C of a token.
        hidden_features: hidden width.
    """

    def __init__(self, in_features: int, *, hidden_features: int):
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C), or any other shape that ends with the channels."""
        return self.fc2(F.gelu(self.fc1(x)))


def channels_last(x: Tensor) -> Tensor:
    """The same feature map in channels-last memory: (B, C, H, W) -> (B, C, H, W).

    There the channels of a position are contiguous, which linear layers, layer norms and the scan read. Nothing is
    copied if the map is in it already.

    >>> channels_last(torch.zeros(1, 8, 4, 6)).stride()
    (192, 1, 48, 8)
    """
    return x.contiguous(memory_format=torch.channels_last)


def inverse_softplus(x: Tensor) -> Tensor:
    """The y with softplus(y) = x > 0, elementwise: (D, N) -> (D, N), or any other shape.

    >>> F.softplus(inverse_softplus(torch.tensor([0.001, 0.1])))
    tensor([0.0010, 0.1000])
    """
    return x + torch.log(-torch.expm1(-x))  # not log(expm1(x)), which overflows for large x
