"""The rows of a model YAML as a value: insert, wrap, replace and remove rows, with every layer index rewritten.

A model dictionary is a model YAML after parsing. It has two lists of rows, ``backbone`` and ``head``, and their layer
indices count through both. A row is ``[from, repeats, module, args]``. Its ``from`` names the rows that it reads: -1
is the row above, other negative values are relative, the rest are layer indices.

:class:`Graph` keeps beside the rows where each came from, so that weights find their layer again. Every ``from`` keeps
its form: -1 stays -1, relative stays relative. So removing what was inserted gives the original back, and a list never
gains a -1, which some heads of Ultralytics cannot read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

Row = list[Any]

CHAIN = "Chain"  # the row that holds several rows, see yolomix.nn.gate.Chain
AROUND = ("ZeroGate", "SameWidth")  # rows whose first argument is the block that they hold


@dataclass(frozen=True)
class Layer:
    """What is known of one layer without its weights; see :func:`yolomix.host.survey.survey`.

    >>> print(Layer(4, (3,), 2, "C3k2", channels=128, stride=16, parameters=26080, tensors=24, backbone=True))
    layer 4 (C3k2)

    Attributes:
        index: its row.
        reads: rows that it reads; -1 is the image.
        repeats: the row's second column.
        module: the row's module name.
        channels: of its output; None when that is no single feature map.
        stride: image pixels per position of its output; None when that is no single feature map.
        parameters: how many it has.
        tensors: how many tensors a checkpoint holds of it.
        backbone: whether its row is under ``backbone``.
        reads_text: whether it takes a text beside the feature map.
    """

    index: int
    reads: tuple[int, ...]
    repeats: int
    module: str
    channels: int | None
    stride: int | None
    parameters: int
    tensors: int
    backbone: bool
    reads_text: bool = False

    def __str__(self) -> str:
        return f"layer {self.index} ({self.module})"


@dataclass(frozen=True)
class Graph:
    """A model dictionary, and for each of its rows the original row that it came from.

    >>> model = {"backbone": [[-1, 1, "Conv", [8]], [0, 1, "Conv", [16]]], "head": [[[0, 1], 1, "Detect", []]]}
    >>> for row in Graph.of(model).insert([0], [-1, 1, "MLLABlock", []]).rows:
    ...     print(row)
    [-1, 1, 'Conv', [8]]
    [-1, 1, 'MLLABlock', []]
    [1, 1, 'Conv', [16]]
    [[1, 2], 1, 'Detect', []]

    Attributes:
        model: what a model YAML holds; never changed in place.
        origin: per row its index in the original, None for a row that is new.
        rows_before: how many rows the original had.
    """

    model: dict[str, Any]
    origin: tuple[int | None, ...]
    rows_before: int

    @classmethod
    def of(cls, model: dict[str, Any]) -> Graph:
        """The graph of an unchanged model dictionary.

        >>> Graph.of({"backbone": [[-1, 1, "Conv", [8]]], "head": [[4, 1, "Detect", []]]})
        Traceback (most recent call last):
        ValueError: row 1 (Detect) reads layer 4; it can read layers 0 to 0

        Raises:
            ValueError: no rows, or a row that reads one that does not come before it.
        """
        rows = _rows(model)
        check_sources(rows)
        return cls(deepcopy(model), tuple(range(len(rows))), len(rows))

    @property
    def rows(self) -> list[Row]:
        """All rows, backbone first."""
        return _rows(self.model)

    def position(self, layer: int) -> int:
        """Where the original's row ``layer`` is now.

        >>> model = {"backbone": [[-1, 1, "Conv", [8]]], "head": [[-1, 1, "Detect", []]]}
        >>> Graph.of(model).insert([0], [-1, 1, "MLLABlock", []]).position(1)
        2

        Raises:
            ValueError: the row was removed, or never was.
        """
        if layer in self.origin:
            return self.origin.index(layer)
        if 0 <= layer < self.rows_before:
            raise ValueError(f"layer {layer} was removed")
        raise ValueError(f"layer {layer} does not exist (0 to {self.rows_before - 1})")

    def end(self, layer: int) -> int:
        """The last row of what stands for the original's row ``layer``: itself, or the last row grafted after it."""
        index = self.position(layer)
        rows = self.rows
        while index + 1 < len(rows) and self.origin[index + 1] is None and rows[index + 1][0] == -1:
            index += 1
        return index

    def insert(self, after: Sequence[int], row: Row) -> Graph:
        """Put a row that reads the one above after each of these rows; who read the row then reads the new one."""
        layout: list[int | Row] = []
        for index in range(len(self.rows)):
            layout.append(index)
            if index in after:
                layout.append([-1, *deepcopy(row[1:])])
        return self._assembled(layout, lambda read, moved: moved[read] + (read in after))

    def remove(self, index: int) -> Graph:
        """Take a row out; who read it then reads what it read.

        >>> model = {"backbone": [[-1, 1, "Conv", [8]], [-1, 1, "SPPF", [8]]], "head": [[1, 1, "Detect", []]]}
        >>> Graph.of(model).remove(1).rows
        [[-1, 1, 'Conv', [8]], [0, 1, 'Detect', []]]

        Raises:
            ValueError: the row is the head, reads the image, or reads several rows.
        """
        rows = self.rows
        reads = sources(rows[index][0], index)
        if index == len(rows) - 1:
            raise ValueError(f"layer {index} ({rows[index][2]}) is the head; a model needs it")
        if len(reads) != 1 or reads[0] < 0:
            what = "the image" if reads == [-1] else f"several layers {reads}"
            raise ValueError(f"layer {index} ({rows[index][2]}) reads {what}; only a layer that reads one layer can go")
        layout: list[int | Row] = [*range(index), *range(index + 1, len(rows))]
        instead = {index: reads[0]}
        return self._assembled(layout, lambda read, moved: moved[instead.get(read, read)])

    def replace(self, index: int, row: Row) -> Graph:
        """Put another repeats, module and args into a row; what it reads stays."""
        rows = self.rows
        rows[index] = [rows[index][0], *row[1:]]  # a new one: YAML makes rows of one alias one list
        return self._with(rows, self.origin, len(self.model["backbone"]))

    def wrap(self, index: int, row: Row) -> Graph:
        """Put a row behind another inside the same index: no other row changes.

        >>> model = {"backbone": [[-1, 1, "Conv", [8]]], "head": [[0, 1, "Detect", []]]}
        >>> Graph.of(model).wrap(0, [-1, 1, "MLLABlock", []]).rows[0]
        [-1, 1, 'Chain', [[1, 'Conv', [8]], [1, 'MLLABlock', []]]]
        """
        source, n, module, args = self.rows[index]
        inside = [[n, module, args]]
        if module == CHAIN:  # wrapped before: the chain becomes longer
            inside = list(args)
        return self.replace(index, [source, 1, CHAIN, [*inside, row[1:]]])

    def _assembled(self, layout: Sequence[int | Row], target: Callable[[int, dict[int, int]], int]) -> Graph:
        """Rows in a new order.

        Args:
            layout: per new row the index of the present row that goes there, or a row that is new.
            target: the index that a reader of a present row has to read, given where each staying row has moved.
        """
        moved: dict[int, int] = {}
        for new, old in enumerate(layout):
            if isinstance(old, int):
                moved[old] = new
        rows: list[Row] = []
        origin: list[int | None] = []
        for new, old in enumerate(layout):
            if not isinstance(old, int):
                rows.append(old)
                origin.append(None)
                continue
            source, *rest = deepcopy(self.rows[old])
            reads: Any = [_moved(x, old, new, lambda read: target(read, moved)) for x in _listed(source)]
            if not isinstance(source, list):
                (reads,) = reads
            rows.append([reads, *rest])
            origin.append(self.origin[old])
        backbone = len(self.model["backbone"])
        # A row inserted after the last of the backbone comes before the first of the head: it joins the backbone.
        first_of_head = moved[min(old for old in moved if old >= backbone)]
        return self._with(rows, tuple(origin), first_of_head)

    def _with(self, rows: list[Row], origin: tuple[int | None, ...], backbone: int) -> Graph:
        check_sources(rows)
        model = {**self.model, "backbone": rows[:backbone], "head": rows[backbone:]}
        return Graph(deepcopy(model), origin, self.rows_before)


def sources(source: int | list[int], index: int) -> list[int]:
    """The layer indices that row ``index`` reads; -1 for the image.

    >>> sources([-1, 6], 12), sources(-1, 0)
    ([11, 6], [-1])
    """
    return [_absolute(x, index) for x in _listed(source)]


def check_sources(rows: Sequence[Row]) -> None:
    """Raise ValueError unless every row has four parts and reads only rows above it, the first the image."""
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 4:
            raise ValueError(f"row {i} is {row!r}; a row is [from, repeats, module, args]")
        for x in sources(row[0], i):
            if not (0 <= x < i or (i == 0 and x == -1)):
                raise ValueError(f"row {i} ({row[2]}) reads layer {x}; it can read layers 0 to {i - 1}")


def arguments(args: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    """Arguments as a list; those by name are a dictionary at its end.

    >>> arguments({"num_heads": 2})
    [{'num_heads': 2}]
    """
    if isinstance(args, Mapping):
        return [args]
    return list(args)


def _rows(model: dict[str, Any]) -> list[Row]:
    missing = [part for part in ("backbone", "head") if not model.get(part)]
    if missing:
        raise ValueError(f"a model has rows under 'backbone' and 'head'; {' and '.join(missing)} missing")
    return [*model["backbone"], *model["head"]]


def _listed(source: int | list[int]) -> list[int]:
    return source if isinstance(source, list) else [source]


def _absolute(x: int, index: int) -> int:
    """The layer index that one value of a ``from`` column means in row ``index``."""
    return x if x >= 0 else index + x


def _moved(x: int, old: int, new: int, target: Callable[[int], int]) -> int:
    """One value of a ``from`` column, for a row that goes from index ``old`` to ``new``, in the form that it had."""
    if old == 0:  # reads the image, which does not move
        return x
    read = target(_absolute(x, old))
    return read if x >= 0 else read - new
