"""The rows of a model YAML as a value: insert, replace, wrap, remove and repeat, with every index rewritten.

A model dictionary has two lists of rows, ``backbone`` and ``head``, numbered as one; a row is ``[from, repeats, module,
args]`` and ``from`` names the rows it reads: -1 the one above, other negative numbers relative, the rest absolute.
:class:`Graph` keeps beside the rows where each came from, so that weights find their layer again. The form of every
``from`` is kept (-1 stays -1, relative stays relative): taking out what was put in gives the original back, and a list
never gains a -1, which some heads of Ultralytics cannot read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

Row = list[Any]

CHAIN = "Chain"  # the row that holds several rows, see yolomix.nn.gate.Chain
AROUND = ("ZeroGate", "SameWidth")  # rows whose first argument is the block that they hold


@dataclass(frozen=True)
class Graph:
    """A model dictionary, and for each of its rows the number of the original row that it came from.

    Args:
        model: what a model YAML holds; never changed in place.
        origin: per row its number in the original, None for a row that is new.
        rows_before: how many rows the original had.
    """

    model: dict[str, Any]
    origin: tuple[int | None, ...]
    rows_before: int

    @classmethod
    def of(cls, model: dict[str, Any]) -> Graph:
        """The graph of an unchanged model dictionary.

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

        Raises:
            ValueError: the row is gone, or never was.
        """
        if layer not in self.origin:
            state = "was removed" if 0 <= layer < self.rows_before else f"does not exist (0 to {self.rows_before - 1})"
            raise ValueError(f"layer {layer} {state}")
        return self.origin.index(layer)

    def end(self, layer: int) -> int:
        """The last row of what stands for the original's row ``layer``: itself, or the last row grafted after it."""
        at = self.position(layer)
        while at + 1 < len(self.origin) and self.origin[at + 1] is None and self.rows[at + 1][0] == -1:
            at += 1
        return at

    def insert(self, after: Sequence[int], row: Row) -> Graph:
        """Put a row that reads the one above after each of these rows; who read the row then reads the new one."""
        layout: list[int | Row] = []
        for i in range(len(self.rows)):
            layout += [i, [-1, *deepcopy(row[1:])]] if i in after else [i]
        return self._assembled(layout, lambda k, place: place[k] + (k in after))

    def remove(self, at: int) -> Graph:
        """Take a row out; who read it then reads what it read.

        Raises:
            ValueError: the row is the head, reads the picture, or reads several rows.
        """
        rows = self.rows
        reads = sources(rows[at][0], at)
        if at == len(rows) - 1:
            raise ValueError(f"layer {at} ({rows[at][2]}) is the head; a model needs it")
        if len(reads) != 1 or reads[0] < 0:
            what = "the picture" if reads == [-1] else f"several layers {reads}"
            raise ValueError(f"layer {at} ({rows[at][2]}) reads {what}; only a layer that reads one layer can go")
        layout = [i for i in range(len(rows)) if i != at]
        return self._assembled(layout, lambda k, place: place[reads[0] if k == at else k])

    def replace(self, at: int, row: Row) -> Graph:
        """Put another repeats, module and args into a row; what it reads stays."""
        rows = deepcopy(self.rows)
        rows[at][1:] = deepcopy(row[1:])
        return self._with(rows, self.origin, len(self.model["backbone"]))

    def wrap(self, at: int, row: Row) -> Graph:
        """Put a row behind another inside the same index: no other row changes."""
        source, n, module, args = self.rows[at]
        inside = list(args) if module == CHAIN else [[n, module, args]]
        return self.replace(at, [source, 1, CHAIN, [*inside, row[1:]]])

    def _assembled(self, layout: Sequence[int | Row], read: Callable[[int, dict[int, int]], int]) -> Graph:
        """Rows in a new order; ``layout`` has numbers of present rows, or new rows, and ``read`` says where a
        reader of row k has to look, given the places of the rows that stay.
        """
        place = {old: new for new, old in enumerate(layout) if isinstance(old, int)}
        rows: list[Row] = []
        for new, old in enumerate(layout):
            if not isinstance(old, int):
                rows.append(old)
                continue
            source, *rest = deepcopy(self.rows[old])
            each = [_moved(x, old, new, lambda k: read(k, place)) for x in _listed(source)]
            rows.append([each if isinstance(source, list) else each[0], *rest])
        backbone = len(self.model["backbone"])
        first_of_head = next(new for new, old in enumerate(layout) if isinstance(old, int) and old >= backbone)
        origin = tuple(self.origin[old] if isinstance(old, int) else None for old in layout)
        return self._with(rows, origin, first_of_head)

    def _with(self, rows: list[Row], origin: tuple[int | None, ...], backbone: int) -> Graph:
        check_sources(rows)
        rest = {k: deepcopy(v) for k, v in self.model.items() if k not in ("backbone", "head")}
        model = {**rest, "backbone": rows[:backbone], "head": rows[backbone:]}
        return Graph(model, origin, self.rows_before)


def sources(source: int | list[int], at: int) -> list[int]:
    """The absolute numbers of the rows that row ``at`` reads; -1 for the picture."""
    return [x if x >= 0 else at + x for x in _listed(source)]


def check_sources(rows: Sequence[Row]) -> None:
    """Raise ValueError unless every row has four parts and reads only rows above it, the first the picture."""
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 4:
            raise ValueError(f"row {i} is {row!r}; a row is [from, repeats, module, args]")
        for x in sources(row[0], i):
            if not (0 <= x < i or (i == 0 and x == -1)):
                raise ValueError(f"row {i} ({row[2]}) reads layer {x}; it can read layers 0 to {i - 1}")


def _rows(model: dict[str, Any]) -> list[Row]:
    missing = [part for part in ("backbone", "head") if not model.get(part)]
    if missing:
        raise ValueError(f"a model has rows under 'backbone' and 'head'; {' and '.join(missing)} missing")
    rows: list[Row] = [*model["backbone"], *model["head"]]
    return rows


def _listed(source: int | list[int]) -> list[int]:
    return source if isinstance(source, list) else [source]


def _moved(x: int, old: int, new: int, read: Callable[[int], int]) -> int:
    """One number of a ``from`` column, for a row that goes from ``old`` to ``new``, in the form that it had."""
    if old == 0:
        return x
    target = read(x if x >= 0 else old + x)
    return target if x >= 0 else target - new
