"""Mamba-YOLO: SSMs in a YOLO's backbone and neck (arXiv:2406.05835, github.com/HZAI-ZJNU/Mamba-YOLO).

SimpleStem -> [VSSBlock, VisionClueMerge] x 3 -> VSSBlock -> a neck of XSSBlock. ODSSBlock is the paper's name for both
blocks. State-dict keys and outputs are those of the authors' code, with these differences on purpose:

* VisionClueMerge takes odd sides (a row or column of zeros is added). The authors' code fails there.
* Scan and layer norm run in float32 also in eval. There they run in half precision.
* The paper's ablations are options. ``local=False`` leaves the LS block out, as in the final paper's T and B. ``mlp``
  names the form of the FFN. To compare with a strided conv as downsampling, write Ultralytics' row
  ``Conv, [256, 3, 2]`` where ``VisionClueMerge, [256]`` stands.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolomix.nn.common import DropPath, channels_last
from yolomix.nn.mamba_yolo_parts import ConvNormAct, FFNKind, LSBlock, MambaYoloSS2D, NestedLayerNorm2d, RGBlock
from yolomix.nn.registry import register
from yolomix.ops.marking import is_marking

LOGGER = logging.getLogger("yolomix")

SOURCE = "Mamba YOLO: A Simple Baseline for Object Detection with State Space Model, arXiv:2406.05835"


class _Branches(nn.Module):
    """What stands around the scan of both blocks: LS block before it, FFN after it, and their residuals."""

    def __init__(self, dim: int, *, drop_path: float, local: bool, mlp: FFNKind, mlp_ratio: float):
        super().__init__()
        self.norm = NestedLayerNorm2d(dim)
        self.lsblock: nn.Module = nn.Identity()
        if local:
            self.lsblock = LSBlock(dim, hidden_features=dim)
        self.drop_path = DropPath(drop_path)
        if mlp_ratio < 0:
            raise ValueError(f"mlp_ratio is the expansion ratio of the FFN, 0 to leave it out, got {mlp_ratio}")
        self.mlp: RGBlock | None = None
        if mlp_ratio > 0:
            self.norm2 = NestedLayerNorm2d(dim)
            self.mlp = RGBlock(dim, hidden_features=int(dim * mlp_ratio), kind=mlp)

    @staticmethod
    def row_arguments(args: list[Any]) -> list[Any]:
        """The arguments of a row without the word ``directions``, which the authors' segmentation YAML gives."""
        if "directions" in args:
            _say_directions_are_ignored()
        return [a for a in args if a != "directions"]

    def _mixed(self, x: Tensor, scan: nn.Module) -> Tensor:
        """Both residual branches, (B, C, H, W) -> (B, C, H, W)."""
        x = x + self.drop_path(scan(self.norm(self.lsblock(x))))
        if self.mlp is not None:
            x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


@register(source=SOURCE)
class VSSBlock(_Branches):
    """Mamba-YOLO's block of the backbone: 1x1 conv, scan and FFN.

    The scan and the FFN have a residual each.

    >>> VSSBlock(16, 32)(torch.zeros(1, 16, 7, 5)).shape
    torch.Size([1, 32, 7, 5])

    Args:
        c1: input channels.
        c2: output channels C.
        drop_path: probability of stochastic depth.
        local: whether the LS block stands before the scan.
        mlp: the form of the FFN, "rg", "gated", "resconv", "conv" or "plain", see :class:`RGBlock`.
        mlp_ratio: expansion ratio of the FFN; 0 leaves it out.
        ssm_d_state: SSM state size N.
        ssm_ratio: expansion ratio of the channels around the scan.
        ssm_rank_ratio: upper bound on the expansion ratio of the scan's channels; 0 for no bound.
        ssm_dt_rank: rank R of the low-rank Δ projection; "auto" is C / 16, rounded up.
        ssm_conv: kernel size of the depthwise conv before the scan, odd; 1 leaves it out.
        ssm_conv_bias: whether that conv has a bias.

    Raises:
        ValueError: a size is below 1, the kernel size is even, or there is no such form of the FFN.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        drop_path: float = 0.0,
        local: bool = True,
        mlp: FFNKind = "rg",
        mlp_ratio: float = 4.0,
        ssm_d_state: int = 16,
        ssm_ratio: float = 2.0,
        ssm_rank_ratio: float = 2.0,
        ssm_dt_rank: int | Literal["auto"] = "auto",
        ssm_conv: int = 3,
        ssm_conv_bias: bool = True,
    ):
        super().__init__(c2, drop_path=drop_path, local=local, mlp=mlp, mlp_ratio=mlp_ratio)
        self.proj_conv = ConvNormAct(nn.Conv2d(c1, c2, 1), nn.BatchNorm2d(c2), nn.SiLU())
        self.op = MambaYoloSS2D(
            c2,
            d_state=ssm_d_state,
            ssm_ratio=ssm_ratio,
            ssm_rank_ratio=ssm_rank_ratio,
            dt_rank=ssm_dt_rank,
            d_conv=ssm_conv,
            conv_bias=ssm_conv_bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return self._mixed(self.proj_conv(channels_last(x)), self.op)


@register(source=SOURCE, aliases=("ODSSBlock",))
class XSSBlock(_Branches):
    """Mamba-YOLO's block of the neck: ``n`` scans, then the FFN.

    In front stands a 1x1 conv, only where the width changes.

    >>> XSSBlock(16, 16, n=2)(torch.zeros(1, 16, 7, 5)).shape
    torch.Size([1, 16, 7, 5])

    Args:
        c1: input channels.
        c2: output channels C.
        n: number of scans, with nothing between them.
        mlp_ratio: expansion ratio of the FFN; 0 leaves it out.
        drop_path: probability of stochastic depth.
        local: whether the LS block stands before the scans.
        mlp: the form of the FFN, "rg", "gated", "resconv", "conv" or "plain", see :class:`RGBlock`.
        ssm_d_state, ssm_ratio, ssm_rank_ratio, ssm_dt_rank, ssm_conv, ssm_conv_bias: as in :class:`VSSBlock`.

    Raises:
        ValueError: as in :class:`VSSBlock`.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        local: bool = True,
        mlp: FFNKind = "rg",
        ssm_d_state: int = 16,
        ssm_ratio: float = 2.0,
        ssm_rank_ratio: float = 2.0,
        ssm_dt_rank: int | Literal["auto"] = "auto",
        ssm_conv: int = 3,
        ssm_conv_bias: bool = True,
    ):
        super().__init__(c2, drop_path=drop_path, local=local, mlp=mlp, mlp_ratio=mlp_ratio)
        self.in_proj: nn.Module = nn.Identity()
        if c1 != c2:
            self.in_proj = ConvNormAct(nn.Conv2d(c1, c2, 1, bias=False), nn.BatchNorm2d(c2), nn.SiLU())
        self.ss2d = nn.Sequential()
        for _ in range(n):
            self.ss2d.append(
                MambaYoloSS2D(
                    c2,
                    d_state=ssm_d_state,
                    ssm_ratio=ssm_ratio,
                    ssm_rank_ratio=ssm_rank_ratio,
                    dt_rank=ssm_dt_rank,
                    d_conv=ssm_conv,
                    conv_bias=ssm_conv_bias,
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return self._mixed(self.in_proj(channels_last(x)), self.ss2d)


@register(source=SOURCE)
class SimpleStem(nn.Module):
    """Two strided convs, from the image to a feature map of stride 4.

    >>> SimpleStem(3, 32)(torch.zeros(1, 3, 64, 96)).shape
    torch.Size([1, 32, 16, 24])

    Args:
        c1: channels of the image.
        c2: output channels.
        ks: kernel size of the convs, odd.

    Raises:
        ValueError: the kernel size is even.
    """

    def __init__(self, c1: int, c2: int, ks: int = 3):
        super().__init__()
        if ks < 1 or ks % 2 == 0:
            raise ValueError(f"SimpleStem needs an odd ks >= 1, got {ks}")
        self.conv = ConvNormAct(
            nn.Conv2d(c1, c2 // 2, ks, 2, ks // 2, bias=False),
            nn.BatchNorm2d(c2 // 2),
            nn.GELU(),
            nn.Conv2d(c2 // 2, c2, ks, 2, ks // 2, bias=False),
            nn.BatchNorm2d(c2),
            nn.SiLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H / 4, W / 4), sides rounded up."""
        return self.conv(channels_last(x))


@register(source=SOURCE)
class VisionClueMerge(nn.Module):
    """Downsampling by 2 that loses nothing, then a 1x1 conv.

    Four neighbouring positions become channels of one.

    >>> VisionClueMerge(16, 32)(torch.zeros(1, 16, 8, 6)).shape
    torch.Size([1, 32, 4, 3])

    Args:
        c1: input channels.
        c2: output channels.
    """

    def __init__(self, c1: int, c2: int):
        super().__init__()
        self.pw_linear = ConvNormAct(nn.Conv2d(4 * c1, c2, 1), nn.BatchNorm2d(c2), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H / 2, W / 2), sides rounded up. An odd side is padded with zeros."""
        B, C, H, W = x.shape
        # A graph of open sizes works the padding out where it runs: a side that was even when traced may be odd there.
        if is_marking() or H % 2 or W % 2:
            x = F.pad(x, [0, W % 2, 0, H % 2])
        # The order that the official weights want; nn.PixelUnshuffle has another.
        # Neither slices with a step nor six dimensions: runtimes lack them.
        even, odd = x.reshape(B, C, x.shape[2], -1, 2).unbind(4)  # columns, (B, c1, H, W / 2) each
        quarters: list[Tensor] = []
        for half in (even, odd):
            quarters += half.reshape(B, C, -1, 2, half.shape[3]).unbind(3)  # rows, (B, c1, H / 2, W / 2) each
        return self.pw_linear(channels_last(torch.cat(quarters, dim=1)))


@functools.cache  # said once in a process
def _say_directions_are_ignored() -> None:
    LOGGER.warning(
        "Mamba-YOLO's blocks ignore the argument `directions`: nothing in their authors' code reads it, and the scan "
        "always takes all four directions. Remove the word from the YAML to silence this."
    )
