"""A whole backbone as the first row of a model YAML: its maps become layers of their own.

A module of timm, or of a paper, that gives several feature maps is one row, ``[-1, 1, swin_tiny, []]``. By the custom
of those who publish such files, its maps are the layers up to 4 and what follows is layer 5: the last map is layer 4,
the one before it layer 3, and so on.
"""

from __future__ import annotations

import json
from typing import Any

from yolomix.nn import registry, trial
from yolomix.nn.registry import Block

LAST = 4  # the layer that is the last map
ONE_MAP = "OneMap"

_counted: dict[str, int] = {}  # maps of a block with certain arguments: a file is read several times


def spread(model: dict[str, Any]) -> dict[str, Any]:
    """The model dictionary with a row for each of the maps that its first row gives; the same if it gives one.

    Nothing is added where rows of ``OneMap`` say already which maps are read.
    """
    first = model["backbone"][0] if model["backbone"] else None
    rows = [*model["backbone"], *model["head"]]
    if not (isinstance(first, list) and len(first) == 4 and isinstance(first[2], str) and isinstance(first[3], list)):
        return model
    if any(isinstance(row, list) and row[2:3] == [ONE_MAP] for row in rows):
        return model
    maps = _maps(first[2], first[3], model.get("channels", model.get("ch", 3)))
    if maps < 2:
        return model
    taken = [[0, 1, ONE_MAP, [max(k, 0)]] for k in range(maps - LAST, maps)]
    return {**model, "backbone": [first, *taken, *model["backbone"][1:]]}


def _maps(name: str, args: list[Any], channels: int) -> int:
    """How many maps a row of that name gives to an image; 1 of what is unknown or cannot be tried."""
    from ultralytics.nn import tasks

    block = None if name in vars(tasks) else registry.known(name)
    if block is None or block.parent is not None or not _is_open(block):
        return 1
    key = json.dumps([name, id(block.cls), args, channels], default=repr)
    if key not in _counted:
        named = args[-1] if args and isinstance(args[-1], dict) else {}
        found = trial.gives(block, channels, args[:-1] if named else args, named)
        _counted[key] = len(found) if isinstance(found, list) else 1
    return _counted[key]


def _is_open(block: Block) -> bool:
    """Whether the rule leaves open what the block gives."""
    rule = block.rule
    return not (rule.keeps_channels or rule.takes_width or rule.reads_several)
