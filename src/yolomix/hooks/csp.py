"""Rows such as ``C3k2(MLLABlock)``: Ultralytics builds the CSP module, then our block takes its bottlenecks' place."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from ultralytics.nn import tasks

from yolomix.hooks import rows
from yolomix.hooks.layer_table import Line
from yolomix.hooks.reserved import is_module_class
from yolomix.nn import origins
from yolomix.nn.gate import same_width
from yolomix.nn.registry import Block, find
from yolomix.surgery import csp

INSIDE = "m"  # what every CSP module of Ultralytics calls its bottlenecks


@dataclass(frozen=True)
class Mix:
    """A row of a CSP module with a block inside.

    Attributes:
        host: the CSP module's name.
        block: the block.
        args: what the row gives, the block's arguments at the end.
        where: file, index and text of the row, for messages.
    """

    host: str
    block: Block
    args: list[Any]
    where: str

    def put(self, layer: Any) -> None:
        """Put a block of its own in the place of each bottleneck of a built layer.

        Raises:
            RowError: the layer has no bottlenecks, or the block cannot be as wide as they are.
        """
        lists = list(_lists(layer))
        widths = {_width(bottleneck) for inside in lists for bottleneck in inside}
        width = widths.pop() if len(widths) == 1 else None
        if width is None:
            raise rows.RowError(
                f"{self.where}: {self.host} has no bottlenecks of one width, in whose place {self.block.name} could go"
            )
        for inside in lists:
            for i in range(len(inside)):
                inside[i] = self._made(width)
        # The class stays that of Ultralytics; who reads a log sees both names.
        layer.type = f"{layer.type}({self.block.name})"
        layer.np = sum(p.numel() for p in layer.parameters())

    def line(self, line: Line, layer: Any) -> Line:
        """What was built, in the table of layers: Ultralytics' line of the CSP module with our block in it."""
        named = csp.without_mapping(self.args)[1]
        args = f"{line.args[:-1]}, {named}]" if named else line.args
        return replace(line, np=layer.np, type=layer.type, args=args)

    def _made(self, width: int) -> nn.Module:
        named = csp.without_mapping(self.args)[1]
        try:
            return same_width(self.block, width, [named])
        except rows.CONSTRUCTION as error:
            raise rows.RowError(
                f"{self.where}: {self.block.name} in a {self.host} {width} channels wide takes "
                f"{self.block.graft_signature} by name, got {named}: {error}"
            ) from error


def taken(d: dict[str, Any]) -> dict[int, Mix]:
    """Such rows of a model dictionary by layer index; in the dictionary they become rows of the CSP modules alone.

    >>> d = {"backbone": [[-1, 2, "C3k2(MLLABlock)", [64, False, {"num_heads": 2}]]], "head": []}
    >>> taken(d)[0].block.name, d["backbone"]
    ('MLLABlock', [[-1, 2, 'C3k2', [64, False]]])

    Raises:
        RowError: no such CSP module or block; the text has the near names.
    """
    found = {}
    for i, (row, where) in enumerate(zip(d["backbone"] + d["head"], rows.texts(d), strict=True)):
        parts = csp.split(row[2])
        if parts is None:
            continue
        host, inside = parts
        found[i] = Mix(host, _block(host, inside, where), list(row[3]), where)
        row[2], row[3] = host, csp.without_mapping(row[3])[0]
    return found


def _block(host: str, inside: str, where: str) -> Block:
    """The block that goes into a CSP module, after a look whether there is such a module."""
    if not is_module_class(vars(tasks).get(host)):
        known = [known for known, value in vars(tasks).items() if is_module_class(value)]
        near = difflib.get_close_matches(host, known, n=3, cutoff=0.5) or ["C2f", "C3k2", "C2PSA"]
        raise rows.RowError(f"{where}: Ultralytics has no CSP module {host!r}; did you mean {', '.join(near)}?")
    if origins.is_dotted(inside):
        return rows.known(inside, where)
    try:
        return find(inside)
    except (KeyError, TypeError, ValueError) as error:
        raise rows.RowError(f"{where}: {error.args[0]}") from error


def _lists(module: nn.Module) -> Iterator[nn.Sequential | nn.ModuleList]:
    """The lists of bottlenecks in a module, the outermost ones."""
    for name, child in module.named_children():
        if name == INSIDE and isinstance(child, nn.Sequential | nn.ModuleList):
            yield child
        elif name != INSIDE:
            yield from _lists(child)


def _width(bottleneck: nn.Module) -> int | None:
    """How many channels a bottleneck reads: what its first conv says."""
    for module in bottleneck.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return None
