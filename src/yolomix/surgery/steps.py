"""What an edit does to every layer, a step each, and what speaks against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yolomix.showing import Shown
from yolomix.surgery.graph import AROUND, CHAIN, Graph, Layer, Row

HEAD = ("old", "new", "", "module", "channels", "stride", "parameters")


@dataclass(frozen=True, repr=False)
class Step(Shown):
    """One line of a plan: a layer of the new model, or one of the old that goes.

    Attributes:
        old: its index before; None for a new layer.
        new: its index after; None for one that goes.
        change: ``""``, ``"new"``, ``"changed"``, ``"wrapped"`` or ``"gone"``.
        module: its module, and what that holds.
        layer: the layer, as it will be or was.
        parameters_added: what the model gains by it.
        tensors_kept: how many tensors of the old layer are sure to arrive in it.
    """

    old: int | None
    new: int | None
    change: str
    module: str
    layer: Layer
    parameters_added: int
    tensors_kept: int = 0

    def to_dict(self) -> dict[str, int | str | None]:
        """Plain values, for a program."""
        return {
            "old": self.old,
            "new": self.new,
            "change": self.change,
            "module": self.module,
            "channels": self.layer.channels,
            "stride": self.layer.stride,
            "parameters_added": self.parameters_added,
        }

    def in_short(self) -> str:
        """Where the layer was and is, and what it holds."""
        return f"{_shown(self.old)} -> {_shown(self.new)} {self.change} {self.module}"

    def as_rows(self) -> list[tuple[str, ...]]:
        """The table of a plan, with this line alone."""
        return [HEAD, self.cells()]

    def cells(self) -> tuple[str, ...]:
        """A row of the table below ``HEAD``, for people."""
        where = _shown(self.old), _shown(self.new)
        gives = _shown(self.layer.channels), _shown(self.layer.stride)
        return (*where, self.change, self.module, *gives, gain(self.parameters_added))


def compare(graph: Graph, old: Sequence[Layer], rows: Sequence[Row], new: Sequence[Layer]) -> tuple[Step, ...]:
    """One step per layer, in the order of the new model; a layer that goes stands where it was.

    Args:
        graph: the changed rows.
        old: layers of the model before.
        rows: its rows.
        new: layers of the model after.

    Raises:
        ValueError: a layer of the old model would give other channels or another stride.
    """
    steps = []
    for index, (layer, row, origin) in enumerate(zip(new, graph.rows, graph.origin, strict=True)):
        if origin is None:
            steps.append(Step(None, index, "new", held(row), layer, layer.parameters))
            continue
        was = old[origin]
        _check_same(was, layer)
        change = _change(rows[origin], row)
        # Of a changed layer some tensors may arrive, those of parts with the same name and shape; none is sure to.
        kept = was.tensors if change in ("", "wrapped") else 0
        gained = layer.parameters - was.parameters
        steps.append(Step(origin, index, change, held(row), layer, gained, kept))
    for layer in old:
        if layer.index not in graph.origin:
            # Before the next of the old layers that stays; the head always does.
            after = next(k for k, step in enumerate(steps) if step.old is not None and step.old > layer.index)
            gone = Step(layer.index, None, "gone", held(rows[layer.index]), layer, -layer.parameters)
            steps.insert(after, gone)
    return tuple(steps)


def held(row: Row) -> str:
    """The module of a row, and for a row around other modules also theirs.

    >>> held([-1, 1, "ZeroGate", ["HaloAttention", [2, 1]]])
    'ZeroGate HaloAttention'
    >>> held([-1, 1, "Chain", [[2, "C3k2", [64]], [1, "MLLABlock", []]]])
    'C3k2 + MLLABlock'
    """
    _, _, module, args = row
    if module == CHAIN:
        return " + ".join(held([-1, *inside]) for inside in args)
    if module in AROUND:
        return f"{module} {args[0]}"
    return str(module)


def gain(parameters: int) -> str:
    """A number of parameters with its sign; empty for none.

    >>> gain(525696), gain(0)
    ('+525,696', '')
    """
    return f"{parameters:+,}" if parameters else ""


def _change(was: Row, now: Row) -> str:
    """What happened to a row, whatever it reads."""
    if was[1:] == now[1:]:
        return ""
    before = was[3] if was[2] == CHAIN else [was[1:]]
    if now[2] == CHAIN and now[3][: len(before)] == before:
        return "wrapped"
    return "changed"


def _check_same(was: Layer, now: Layer) -> None:
    if (was.channels, was.stride) != (now.channels, now.stride):
        raise ValueError(
            f"{was} gives {was.channels} channels at stride {was.stride} and would give {now.channels} at stride "
            f"{now.stride} as layer {now.index} ({now.module}); the rest of the model needs it as it was"
        )


def _shown(value: int | None) -> str:
    return "-" if value is None else str(value)
