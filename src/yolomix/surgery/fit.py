"""Which row makes a block fit a place, and whether it can: decided before any model is built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from yolomix.nn.gate import same_width
from yolomix.nn.registry import Block
from yolomix.surgery.graph import Row
from yolomix.surgery.layers import Layer

SIDE = 4  # of the map that a block is tried on, in cells


def row_behind(block: Block, places: Sequence[Layer], args: Sequence[Any], n: int, gate: bool) -> Row:
    """The row that puts the block behind each of these layers, as wide as they are.

    Raises:
        ValueError: the block does not take the channels, changes them or the size of the map, or nothing but the
            identity would ever come through its gate.
    """
    for c, layer in {layer.channels: layer for layer in reversed(places)}.items():
        _try(block, c or 0, args, layer, gate)
    if not gate and not block.rule.takes_width:
        return [-1, n, block.name, list(args)]
    return [-1, n, "ZeroGate" if gate else "SameWidth", [block.name, *([list(args)] if args else [])]]


def row_instead(block: Block, old: Row, layer: Layer, before: Layer | None, args: Sequence[Any], model: dict) -> Row:
    """The row of a block in the place of another: it reads the same and gives as many channels.

    Args:
        block: the block.
        old: the row that goes.
        layer: its layer.
        before: the layer it reads; None when it reads several or the picture.
        args: what follows the channels (and the repeats) in the block's constructor.
        model: the model dictionary, for its width scaling.

    Raises:
        ValueError: the channels cannot be made to fit.
    """
    source, n, _, old_args = old
    several = isinstance(source, list)
    if several != block.rule.reads_several:
        wants = "several layers" if block.rule.reads_several else "one layer"
        raise ValueError(f"{block.name} reads {wants}, {layer} reads {source}")
    if block.rule.keeps_channels and (before is None or before.channels != layer.channels):
        came = "the picture" if before is None else f"{before.channels} channels"
        raise ValueError(
            f"{block.name} keeps the channels it reads; {layer} makes {layer.channels} of {came}, so it cannot go there"
        )
    if not block.rule.takes_width:
        return [source, n, block.name, list(args)]
    wide = [a for a in old_args if isinstance(a, int) and a > 1 and scaled(a, model) == layer.channels]
    if not wide:
        raise ValueError(
            f"{block.name} needs to be given its {layer.channels} channels before width scaling, and no number in the "
            f"row of {layer} {old_args} gives them"
        )
    return [source, n, block.name, [wide[0], *args]]


def scaled(c2: int, model: dict[str, Any]) -> int:
    """Channels after the width scaling of the model, as Ultralytics does it: to a multiple of 8, upwards."""
    width: float = model.get("width_multiple", 1.0)
    most: float = math.inf
    if scales := model.get("scales"):
        _, width, most = scales[model.get("scale") or next(iter(scales))]
    return math.ceil(min(c2, most) * width / 8) * 8


@torch.no_grad()
def _try(block: Block, c: int, args: Sequence[Any], layer: Layer, gate: bool) -> None:
    """Run the block alone on a small map of that many channels."""
    what = f"{block.name} cannot be put behind {layer} with its {c} channels"
    with torch.random.fork_rng(devices=[]):
        x = torch.randn(1, c, SIDE, SIDE)
        try:
            y = same_width(block, c, args).eval()(x)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise ValueError(f"{what}: it takes {block.graft_signature}, got {list(args)}: {error}") from error
    if y.shape != x.shape:
        raise ValueError(
            f"{what}: it makes {y.shape[1]} channels of {c} and a map of {y.shape[2]}x{y.shape[3]} of {SIDE}x{SIDE}; "
            "a graft keeps both"
        )
    if gate and torch.equal(y, x):
        raise ValueError(
            f"{block.name} starts as the identity, so a gate before it would never open; it needs gate=False, and is "
            "equal at the start all the same"
        )
