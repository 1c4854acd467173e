"""How many channels every layer of a model gives: noted while Ultralytics works them out, or measured.

``parse_model`` of Ultralytics keeps them in a local variable, ``ch``, and puts it in the place of the word ``"ch"``
among the arguments of a row. :class:`Noted` is a list of arguments that sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from yolomix.hooks.rows import Row, RowError
from yolomix.nn import trial
from yolomix.nn.rules import Read


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
        fault: what is wrong with a row, found while it was measured.
    """

    image: int
    layers: list[Any] = field(default_factory=list)
    untried: set[int] = field(default_factory=set)
    fault: RowError | None = None

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

    def measure(self, row: Row, ch: list[Any]) -> int | list[int]:
        """Of what the block of a row gives, tried on feature maps of one size; of every map if it gives several."""
        self.layers = ch
        read = self.read(row)
        measured = trial.gives(row.block, read, row.options, row.named)
        if measured is None:
            self.untried.add(row.i)
            measured = read[-1] if isinstance(read, list) else read
        if isinstance(measured, list) and row.i > 0:
            # Raised later: Ultralytics suppresses a ValueError where it resolves arguments.
            self.fault = row.error(f"it gives {len(measured)} feature maps, which only the first row of a model can")
            return measured[-1]
        return measured
