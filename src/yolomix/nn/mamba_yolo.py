"""Mamba-YOLO: SSMs in a YOLO's backbone and neck (arXiv:2406.05835, github.com/HZAI-ZJNU/Mamba-YOLO).

SimpleStem -> [VSSBlock, VisionClueMerge] x 3 -> VSSBlock -> a neck of XSSBlock; ODSSBlock is the paper's name for
both blocks. State-dict keys and every number are those of the authors' code, with these differences on purpose:

* VisionClueMerge takes odd sides (a row or column of zeros is added); the authors' code fails there.
* The scan and its normalisation run in float32 also in eval; there they run in half precision.
* The paper's ablations are options: ``local=False`` leaves the local block out (so the final paper's T and B are),
  ``mlp`` names the second branch. To compare with a strided convolution as downsampling, write Ultralytics' row
  ``Conv, [256, 3, 2]`` where ``VisionClueMerge, [256]`` stands.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolomix.nn.common import DropPath
from yolomix.nn.mamba_yolo_parts import ConvNormAct, LayerNorm2d, LSBlock, Mlp, RGBlock
from yolomix.nn.registry import register
from yolomix.nn.ss2d import ScanMixer, channels_last

LOGGER = logging.getLogger("yolomix")
__all__ = ["SS2D", "LSBlock", "LayerNorm2d", "RGBlock", "SimpleStem", "VSSBlock", "VisionClueMerge", "XSSBlock"]

SOURCE = "Mamba YOLO: A Simple Baseline for Object Detection with State Space Model, arXiv:2406.05835"


class SS2D(ScanMixer):
    """Four-direction selective scan with GELU, gate and biased convolution; all decay rates start at -1.

    Args:
        d_model: channels C of the map.
        d_state: numbers N that every channel remembers.
        ssm_ratio: channels between the projections, in C.
        ssm_rank_ratio: most channels of the scan, in C; 0 sets no bound.
        dt_rank: numbers R from which a direction makes its steps; "auto" is C / 16, rounded up.
        d_conv: side of the depthwise convolution, odd, in cells; 1 leaves it out.
        conv_bias: whether that convolution has a bias.
        bias: whether the two projections have one.
        gate: whether the result is multiplied by a second projection of the input.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        ssm_ratio: float = 2.0,
        ssm_rank_ratio: float = 2.0,
        dt_rank: int | Literal["auto"] = "auto",
        d_conv: int = 3,
        conv_bias: bool = True,
        bias: bool = False,
        gate: bool = True,
    ):
        d_expand = int(ssm_ratio * d_model)
        d_inner = int(min(ssm_rank_ratio, ssm_ratio) * d_model) if ssm_rank_ratio > 0 else d_expand
        super().__init__(d_model, d_state, d_expand, d_inner, dt_rank, d_conv, conv_bias, gate, nn.GELU())
        self.in_proj = nn.Conv2d(d_model, d_expand * (2 if gate else 1), 1, bias=bias)
        self.out_proj = nn.Conv2d(d_expand, d_model, 1, bias=bias)
        nn.init.normal_(self.dt_projs_weight)
        nn.init.normal_(self.dt_projs_bias)


class _Branches(nn.Module):
    """Around the scan of both blocks: the local block before it, the second branch after it, what each is added to."""

    def __init__(self, dim: int, drop_path: float, local: bool, mlp: Mlp, mlp_ratio: float):
        super().__init__()
        self.norm = LayerNorm2d(dim)
        self.lsblock = LSBlock(dim, dim) if local else nn.Identity()
        self.drop_path = DropPath(drop_path)
        if mlp_ratio < 0:
            raise ValueError(f"mlp_ratio is the width of the second branch, 0 to leave it out, got {mlp_ratio}")
        self.mlp = None
        if mlp_ratio > 0:
            self.norm2 = LayerNorm2d(dim)
            self.mlp = RGBlock(dim, int(dim * mlp_ratio), mlp)

    @staticmethod
    def row_arguments(args: list[Any]) -> list[Any]:
        """A row's arguments without the word ``directions``, which the authors' segmentation YAML gives."""
        if "directions" in args:
            _say_directions_are_ignored()
        return [a for a in args if a != "directions"]

    def branches(self, x: Tensor, scan: nn.Module) -> Tensor:
        """Both residual branches, (B, C, H, W) -> (B, C, H, W)."""
        x = x + self.drop_path(scan(self.norm(self.lsblock(x))))
        return x if self.mlp is None else x + self.drop_path(self.mlp(self.norm2(x)))


@register(source=SOURCE)
class VSSBlock(_Branches):
    """The block of the backbone: 1x1 convolution, then scan and RG branch, each added to what it reads.

    Args:
        c1: channels that come in.
        c2: channels that go out, C.
        drop_path: probability of leaving a branch out in training.
        local: whether the local block stands before the scan.
        mlp: the form of the second branch, see :class:`RGBlock`.
        mlp_ratio: its width, in C; 0 leaves it out.
        ssm_d_state: numbers N that every channel of the scan remembers.
        ssm_ratio: channels of the scan, in C.
        ssm_rank_ratio: most channels of the scan, in C; 0 sets no bound.
        ssm_dt_rank: numbers from which a direction makes its steps; "auto" is C / 16, rounded up.
        ssm_conv: side of the scan's depthwise convolution, odd, in cells.
        ssm_conv_bias: whether that convolution has a bias.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        drop_path: float = 0.0,
        local: bool = True,
        mlp: Mlp = "rg",
        mlp_ratio: float = 4.0,
        ssm_d_state: int = 16,
        ssm_ratio: float = 2.0,
        ssm_rank_ratio: float = 2.0,
        ssm_dt_rank: int | Literal["auto"] = "auto",
        ssm_conv: int = 3,
        ssm_conv_bias: bool = True,
    ):
        super().__init__(c2, drop_path, local, mlp, mlp_ratio)
        self.proj_conv = ConvNormAct(nn.Conv2d(c1, c2, 1), nn.BatchNorm2d(c2), nn.SiLU())
        self.op = SS2D(c2, ssm_d_state, ssm_ratio, ssm_rank_ratio, ssm_dt_rank, ssm_conv, ssm_conv_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return self.branches(self.proj_conv(channels_last(x)), self.op)


@register(source=SOURCE, aliases=("ODSSBlock",))
class XSSBlock(_Branches):
    """The block of the neck: a 1x1 convolution only where the width changes, and ``n`` scans one after the other.

    Args:
        c1: channels that come in.
        c2: channels that go out, C.
        n: scans in a row, with nothing between them.
        mlp_ratio: width of the second branch, in C; 0 leaves it out.
        drop_path: probability of leaving a branch out in training.
        local: whether the local block stands before the scans.
        mlp: the form of the second branch, see :class:`RGBlock`.
        ssm_d_state, ssm_ratio, ssm_rank_ratio, ssm_dt_rank, ssm_conv, ssm_conv_bias: as in :class:`VSSBlock`.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        local: bool = True,
        mlp: Mlp = "rg",
        ssm_d_state: int = 16,
        ssm_ratio: float = 2.0,
        ssm_rank_ratio: float = 2.0,
        ssm_dt_rank: int | Literal["auto"] = "auto",
        ssm_conv: int = 3,
        ssm_conv_bias: bool = True,
    ):
        super().__init__(c2, drop_path, local, mlp, mlp_ratio)
        self.in_proj: nn.Module = nn.Identity()
        if c1 != c2:
            self.in_proj = ConvNormAct(nn.Conv2d(c1, c2, 1, bias=False), nn.BatchNorm2d(c2), nn.SiLU())
        scan = (c2, ssm_d_state, ssm_ratio, ssm_rank_ratio, ssm_dt_rank, ssm_conv, ssm_conv_bias)
        self.ss2d = nn.Sequential(*(SS2D(*scan) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return self.branches(self.in_proj(channels_last(x)), self.ss2d)


@register(source=SOURCE)
class SimpleStem(nn.Module):
    """Two strided convolutions: a picture at a quarter of its sides, rounded up.

    Args:
        c1: channels of the picture.
        c2: channels that go out.
        ks: side of the convolutions, odd, in pixels.
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
        """(B, c1, H, W) -> (B, c2, H/4, W/4), sides rounded up."""
        y: Tensor = self.conv(channels_last(x))
        return y


@register(source=SOURCE)
class VisionClueMerge(nn.Module):
    """Downsampling that loses no cell: the four cells of a square side by side, then a 1x1 convolution.

    Args:
        c1: channels that come in.
        c2: channels that go out.
    """

    def __init__(self, c1: int, c2: int):
        super().__init__()
        self.pw_linear = ConvNormAct(nn.Conv2d(4 * c1, c2, 1), nn.BatchNorm2d(c2), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H/2, W/2), sides rounded up; what is missing to an even side reads as zero."""
        H, W = x.shape[2:]
        if H % 2 or W % 2:
            x = F.pad(x, [0, W % 2, 0, H % 2])
        squares = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
        y: Tensor = self.pw_linear(channels_last(torch.cat(squares, dim=1)))
        return y


@functools.cache
def _say_directions_are_ignored() -> None:
    LOGGER.warning(
        "Mamba-YOLO's blocks ignore the argument `directions`: nothing in their authors' code reads it, and the scan "
        "always takes all four directions. Remove the word from the YAML to silence this."
    )
