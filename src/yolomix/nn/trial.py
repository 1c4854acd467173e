"""What a block gives, found out by trying it once on small feature maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from yolomix.nn.registry import Block
from yolomix.nn.rules import Read

SIDES = (32, 256)  # height and width of what a block is tried on, in positions or pixels: a backbone may need more


@torch.no_grad()
def gives(block: Block, read: Read, args: Sequence[Any], named: Mapping[str, Any]) -> int | list[int] | None:
    """The channels of a block's output, of every map if it gives several; None if it cannot be tried alone.

    It is built on the meta device, where nothing is computed, else on the CPU. No random state changes.

    >>> from yolomix.nn.registry import find
    >>> gives(find("VisionClueMerge"), 8, [], {}), gives(find("MLLABlock"), 8, [4], {})
    (None, 8)

    Args:
        block: the block.
        read: channels of the layer that it reads, or of several, which all get one size.
        args: what follows the channels in its constructor.
        named: arguments by name.
    """
    for device in ("meta", "cpu"):
        with torch.random.fork_rng(devices=[]), torch.device(device):
            try:
                module = block.make(read, args=args, named=named).eval()
            except Exception:  # noqa: BLE001, anybody's block; the row's own error comes when it is built
                continue
            for side in SIDES:
                maps = [torch.zeros(1, c, side, side) for c in (read if isinstance(read, list) else [read])]
                try:
                    found = _channels(module(maps if isinstance(read, list) else maps[0]))
                except Exception:  # noqa: BLE001
                    continue
                if found is not None:
                    return found
    return None


def _channels(y: object) -> int | list[int] | None:
    """Of a feature map (B, C, H, W) or a list of such; None of anything else."""
    if isinstance(y, Tensor):
        return y.shape[1] if y.ndim == 4 else None
    if isinstance(y, list | tuple) and y and all(isinstance(one, Tensor) and one.ndim == 4 for one in y):
        return [one.shape[1] for one in y]
    return None
