"""What a graft is made of: a block behind a gate that is zero at init, a block of the same width, and a row of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from yolomix.nn.registry import Block, find, register
from yolomix.ops.tracing import into_a_file


def same_width(block: Block, c: int, args: Sequence[Any]) -> nn.Module:
    """The block with c channels in and out; ``args`` follow the channels (and the repeats) in its constructor.

    The last of them may be a mapping: arguments by name, as in a row of the block's own.

    >>> type(same_width(find("C2PSAMLLA"), 32, [0.5, {"num_heads": 2}])).__name__
    'C2PSAMLLA'

    Raises:
        ValueError: the block reads several layers, or is a head.
    """
    if block.parent is not None:
        raise ValueError(f"{block.name} is a head, which a model has as its last row; a graft needs a block")
    if block.rule.reads_several:
        raise ValueError(f"{block.name} reads several layers; a graft reads one, so it needs a block that reads one")
    named: Mapping[str, Any] = {}
    if args and isinstance(args[-1], Mapping):
        *args, named = args
    return block.make(c, c2=c, args=_arguments(block, c, args), named=named)


def _arguments(block: Block, c: int, args: Sequence[Any]) -> list[Any]:
    """The arguments in the block's present spelling, as in a row of its own."""
    translate = getattr(block.cls, "row_arguments", None)
    if translate is None:
        return list(args)
    row = [c] if block.rule.takes_width else []
    return list(translate([*row, *args]))[len(row) :]


@register(source="yolomix: any block as wide as what it reads")
class SameWidth(nn.Module):
    """A registered block with as many channels out as in.

    A row ``[-1, 1, SameWidth, [C2PSAMLLA, [0.5]]]`` spares a block that takes ``c2`` that argument, which would be the
    width before scaling.

    >>> SameWidth(32, "C2PSAMLLA")(torch.zeros(1, 32, 4, 4)).shape
    torch.Size([1, 32, 4, 4])

    Args:
        c: channels of the feature map.
        block: name of a registered block.
        args: what follows the channels (and the repeats) in its constructor.
    """

    def __init__(self, c: int, block: str, args: Sequence[Any] = ()) -> None:
        super().__init__()
        self.block = same_width(find(block), c, args)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.block(x)


@register(source="LayerScale, arXiv:2103.17239, starting at zero as ReZero, arXiv:2003.04887")
class ZeroGate(SameWidth):
    """A block behind a gate that is zero at init.

    It gives x + gate * (block(x) - x). At gate 0 this is x, bit for bit. At gate 1 it is the block, bit for bit,
    whether or not the block has a residual path of its own. The gate has one value per channel: channels differ in
    scale, so they need not open together. It is one-dimensional, so that no optimiser orthogonalises it. It has a
    gradient from the first training step on, the block from the second. A block that puts out NaN or inf puts out NaN
    here too: 0 * inf is not hidden.

    >>> x = torch.randn(1, 32, 4, 4)
    >>> torch.equal(ZeroGate(32, "MLLABlock")(x), x)
    True

    Args:
        c: channels of the feature map.
        block: name of a registered block.
        args: what follows the channels (and the repeats) in its constructor.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("gate",)

    def __init__(self, c: int, block: str, args: Sequence[Any] = ()) -> None:
        super().__init__(c, block, args)
        self.gate = nn.Parameter(torch.zeros(c))  # (C,)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        y = self.block(x).to(x.dtype)
        gate = self.gate.to(x.dtype)[:, None, None]
        if into_a_file():  # ncnn has no lerp
            return x + gate * (y - x)
        return torch.lerp(x, y, gate)  # exact at both ends


@register(rule="", source="yolomix: one of the feature maps that a backbone gives")
class OneMap(nn.Module):
    """One of the feature maps that the layer before it gives.

    >>> OneMap(1)([torch.zeros(1, 8, 4, 4), torch.zeros(1, 16, 2, 2)]).shape
    torch.Size([1, 16, 2, 2])

    Args:
        index: which one, from 0 on.
    """

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """List of maps (B, C, H, W) of any sizes -> one of them."""
        return maps[self.index]


class Chain(nn.Sequential):
    """Several rows in one: what a graft with ``mode="wrap"`` makes, so that no other layer changes its index.

    In a model YAML: ``[-1, 1, Chain, [[2, C3k2, [512, False]], [1, ZeroGate, [HaloAttention, [2, 1]]]]]``, each row
    ``[repeats, module, args]`` reading the one before it.

    >>> chain = Chain(nn.Conv2d(3, 8, 1), ZeroGate(8, "MLLABlock"))
    >>> chain(torch.zeros(1, 3, 4, 4)).shape
    torch.Size([1, 8, 4, 4])
    """
