"""MambaOut's gated convolution: Mamba's block without the state space (arXiv:2405.07992, github.com/yuweihao/MambaOut).

Parameter names are those of the authors' code, where the block is ``GatedCNNBlock``. There are three differences to it
on purpose. Feature maps are (B, C, H, W), not (B, H, W, C). Widths are given as numbers of channels, not as ratios. The
layer norm is computed in float32 in a half-precision model too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolomix.nn.common import DropPath, channels_last
from yolomix.nn.layers import normed
from yolomix.nn.registry import register
from yolomix.ops.precision import accum_dtype

EXPANSION = 8 / 3  # hidden width over channels in every released model


class FittedWidth(NamedTuple):
    """The first two arguments of a :class:`GatedConv` of a wanted size, and the size that they give.

    Attributes:
        hidden: hidden width.
        convolved: how many of the hidden channels are convolved.
        parameters: the number of parameters that the block has.
    """

    hidden: int
    convolved: int
    parameters: int


@register(source="MambaOut: Do We Really Need Mamba for Vision?, arXiv:2405.07992")
class GatedConv(nn.Module):
    """MambaOut's gated convolution: Mamba's block without the scan.

    It is what a token mixer is compared with. The input is projected to a gate and to as many values. Some of the
    values pass a depthwise conv, the others go round it. With a hidden width h, of which m are convolved, and a kernel
    size k, it has h(3C + 2) + m(k^2 + 1) + 3C parameters. Linear layers and conv keep PyTorch's init; the paper's
    models draw from a normal distribution with a standard deviation of 0.02.

    >>> GatedConv(64)
    GatedConv(
      hidden=170, convolved=64, kernel=7, parameters=36372
      ...
    >>> GatedConv(64, hidden=40)(torch.zeros(1, 64, 7, 5)).shape
    torch.Size([1, 64, 7, 5])

    Args:
        c: channels C.
        hidden: hidden width; by default 8/3 of the channels, rounded down.
        convolved: how many of the hidden channels are convolved; by default as many as there are channels, and all of
            them where the hidden width is smaller.
        kernel: kernel size of the depthwise conv, odd.
        drop_path: probability of stochastic depth.

    Raises:
        ValueError: the kernel size is even, or a width is out of range.
    """

    def __init__(
        self,
        c: int,
        hidden: int | None = None,
        convolved: int | None = None,
        kernel: int = 7,
        drop_path: float = 0.0,
    ):
        super().__init__()
        if hidden is None:
            hidden = int(EXPANSION * c)
        if convolved is None:
            convolved = min(c, hidden)
        _check_kernel(kernel)
        if hidden < 1:
            raise ValueError(f"GatedConv needs hidden >= 1, got {hidden}. Without it, the width is 8/3 of the channels")
        if not 1 <= convolved <= hidden:
            raise ValueError(
                f"GatedConv needs 1 <= convolved <= hidden, got convolved={convolved} for hidden={hidden}. "
                "Without it, as many are convolved as there are channels, at most all"
            )
        self.hidden, self.convolved = hidden, convolved
        self.norm = nn.LayerNorm(c, eps=1e-6)
        self.fc1 = nn.Linear(c, 2 * hidden)
        self.conv = nn.Conv2d(convolved, convolved, kernel, padding=kernel // 2, groups=convolved)
        self.fc2 = nn.Linear(hidden, c)
        self.drop_path = DropPath(drop_path)

    @staticmethod
    def fitted(c: int, parameters: int, kernel: int = 7) -> FittedWidth:
        """The widths with which the number of parameters is nearest to a wanted one.

        As many channels as there are in the feature map are convolved, as in the paper. Where the hidden width would
        then be smaller than that, fewer are convolved, but no smaller share of the hidden channels than in the paper.

        >>> fit = GatedConv.fitted(128, 140_000)
        >>> fit
        FittedWidth(hidden=345, convolved=128, parameters=139954)
        >>> GatedConv(128, fit.hidden, fit.convolved)
        GatedConv(
          hidden=345, convolved=128, kernel=7, parameters=139954
          ...

        Args:
            c: channels C.
            parameters: the wanted number of parameters.
            kernel: kernel size of the depthwise conv, odd.

        Returns: the widths. With c channels convolved, the number is at most (3C + 2) / 2 off.

        Raises:
            ValueError: no block is so small, or the kernel size is even.
        """
        _check_kernel(kernel)
        least = _count(c, 1, 1, kernel)
        if parameters < least:
            raise ValueError(
                f"the smallest GatedConv of {c} channels with kernel={kernel} has {least} parameters, "
                f"got parameters={parameters}. Fit one at fewer insertion points, or with a smaller kernel"
            )
        fits = [_nearest(c, parameters, convolved, kernel) for convolved in range(c, 0, -1)]
        if abs(fits[0].parameters - parameters) <= (3 * c + 2) / 2:  # no other hidden width is nearer
            return fits[0]
        return min(fits, key=lambda fit: abs(fit.parameters - parameters))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), any H and W >= 1."""
        dtype = x.dtype
        tokens = channels_last(x).permute(0, 2, 3, 1)  # (B, H, W, C)
        tokens = normed(self.norm, tokens.to(accum_dtype(dtype))).to(dtype)
        gate, value = self.fc1(tokens).chunk(2, dim=-1)  # (B, H, W, hidden) each
        passed = self.hidden - self.convolved
        mixed = self.conv(value[..., passed:].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        if passed:  # an exported model need not know tensors without elements
            mixed = torch.cat([value[..., :passed], mixed], dim=-1)
        y = x + self.drop_path(self.fc2(F.gelu(gate) * mixed).permute(0, 3, 1, 2))
        return y.to(dtype)

    def extra_repr(self) -> str:
        """What ``print`` shows in the brackets.

        >>> GatedConv(16, hidden=8).extra_repr()
        'hidden=8, convolved=8, kernel=7, parameters=848'
        """
        parameters = sum(p.numel() for p in self.parameters())
        return (
            f"hidden={self.hidden}, convolved={self.convolved}, kernel={self.conv.kernel_size[0]}, "
            f"parameters={parameters}"
        )


def _count(c: int, hidden: int, convolved: int, kernel: int) -> int:
    """The number of parameters of a block with these widths."""
    return hidden * (3 * c + 2) + convolved * (kernel**2 + 1) + 3 * c


def _nearest(c: int, parameters: int, convolved: int, kernel: int) -> FittedWidth:
    """The fit where so many channels are convolved."""
    rest = parameters - _count(c, 0, convolved, kernel)
    hidden = round(rest / (3 * c + 2))
    if convolved < c:  # no smaller share than in the paper
        hidden = min(hidden, int(EXPANSION * convolved))
    hidden = max(hidden, convolved)
    return FittedWidth(hidden, convolved, _count(c, hidden, convolved, kernel))


def _check_kernel(kernel: int) -> None:
    """Raise unless the feature map keeps its size."""
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"GatedConv needs an odd kernel, so that the feature map keeps its size, got kernel={kernel}")
