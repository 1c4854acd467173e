"""Blocks as a user would write them, one for each channel rule."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import Conv

import yolomix


@yolomix.register
class Keeps(nn.Module):
    """Keeps the channels; its rate and its table want neither decay nor orthogonalisation."""

    no_weight_decay: ClassVar[tuple[str, ...]] = ("rate", "bias_table", "proj.bias", "absent")

    def __init__(self, c: int, depth: int = 1, mode: str = "plain"):
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth starts at 1, got {depth}")
        self.depth, self.mode = depth, mode
        self.rate = nn.Parameter(torch.ones(c, 2))
        self.bias_table = nn.Parameter(torch.ones(1, c, 1, 1))
        self.proj = nn.Linear(c, c)
        self.norm = nn.LayerNorm(c)
        self.absent = None

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.proj(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return x + y * self.rate.prod(1)[:, None, None] + self.bias_table


@yolomix.register
class Changes(nn.Module):
    """Changes the channels; built from the host's own layer."""

    def __init__(self, c1: int, c2: int, k: int = 1):
        super().__init__()
        self.conv = Conv(c1, c2, k)

    @staticmethod
    def row_arguments(args: list) -> list:
        return [a for a in args if a != "directions"]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@yolomix.register(aliases=("RepeatsAlias",), source="tests")
class Repeats(nn.Module):
    """Takes the repeats itself."""

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5):
        super().__init__()
        self.n, self.e = n, e
        self.layers = nn.Sequential(nn.Conv2d(c1, c2, 1), *(nn.Conv2d(c2, c2, 1) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@yolomix.register
class Joins(nn.Module):
    """Reads several layers of one size."""

    def __init__(self, ch: list[int], gain: float = 1.0):
        super().__init__()
        self.ch, self.gain = list(ch), gain
        self.convs = nn.ModuleList(nn.Conv2d(c, ch[-1], 1) for c in ch)

    def forward(self, xs: list[Tensor]) -> Tensor:
        return self.gain * sum(conv(x) for conv, x in zip(self.convs, xs, strict=True))
