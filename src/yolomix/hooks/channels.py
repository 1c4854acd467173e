"""How many channels every layer of a model gives: noted while Ultralytics works them out, or measured.

``parse_model`` of Ultralytics keeps them in a local variable, ``ch``, and puts it in the place of the word ``"ch"``
among the arguments of a row. :class:`Noted` is a list of arguments that sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from yolomix.hooks.rows import Row
from yolomix.nn.rules import Read

SIDE = 32  # height and width, in positions, of the feature map that a block is measured on


class Noted(list[Any]):
    """A row's arguments that end in what ``make`` says once the channels of all layers before the row are known.

    >>> args = Noted([3], lambda ch: [max(ch)])
    >>> args[1] = [16, 32]  # as Ultralytics does with the word "ch"
    >>> args
    [3, 32]
    """

    def __init__(self, args: Iterable[Any], make: Callable[[list[Any]], list[Any]]) -> None:
        super().__init__([*args, "ch"])
        self.make = make

    def __setitem__(self, at: Any, value: Any) -> None:
        if at == len(self) - 1 and self[at] == "ch":
            at, value = slice(at, None), self.make(value)
        super().__setitem__(at, value)


class Sources(list[int]):
    """Several layers that a row reads, which as an index are the last of them.

    >>> [8, 16, 32][Sources([0, 1])]
    16
    """

    def __index__(self) -> int:
        return self[-1]


@dataclass
class Channels:
    """The channels of a model's layers.

    >>> Channels(3, [16, 32]).given(1)
    32

    Attributes:
        image: of the image.
        layers: of the output of every layer; Ultralytics appends to this very list.
        untried: layers whose blocks could not be measured; they are taken to keep the channels of their last input.
    """

    image: int
    layers: list[Any] = field(default_factory=list)
    untried: set[int] = field(default_factory=set)

    def note(self, ch: list[Any]) -> list[Any]:
        """Keep Ultralytics' own list; no arguments."""
        self.layers = ch
        return []

    def given(self, layer: int) -> Any:
        """Of the output of a layer, -1 for the image."""
        return self.image if layer < 0 else self.layers[layer]

    def read(self, row: Row) -> Read:
        """Of what a row reads."""
        found = [self.given(f if f >= 0 else row.i + f) for f in row.sources]
        return found if isinstance(row.f, list) else found[0]

    def measure(self, row: Row, ch: list[Any]) -> int:
        """Of what the block of a row gives, tried on feature maps of one size."""
        self.layers = ch
        read = self.read(row)
        measured = _measured(row, read)
        if measured is None:
            self.untried.add(row.i)
            measured = read[-1] if isinstance(read, list) else read
        return measured


@torch.no_grad()
def _measured(row: Row, read: Read) -> int | None:
    """The channels of a block's output, None if it cannot be tried: it may need maps of several sizes."""
    for device in ("meta", "cpu"):
        with torch.random.fork_rng(devices=[]), torch.device(device):
            try:
                block = row.block.make(read, args=row.options, named=row.named).eval()
                maps = [torch.zeros(1, c, SIDE, SIDE) for c in (read if isinstance(read, list) else [read])]
                y = block(maps if isinstance(read, list) else maps[0])
            except Exception:  # noqa: BLE001, anybody's block; the row's own error comes when it is built
                continue
        if isinstance(y, Tensor) and y.ndim == 4:
            return y.shape[1]
    return None
