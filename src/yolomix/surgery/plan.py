"""What a change would do, as a table, and what speaks against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yolomix.surgery.graph import AROUND, CHAIN, Graph, Row
from yolomix.surgery.layers import Layer


@dataclass(frozen=True)
class Step:
    """One line of a plan: a layer of the new model, or one of the old that goes.

    Args:
        old: its number before; None for a new layer.
        new: its number after; None for one that goes.
        change: ``""``, ``"new"``, ``"changed"``, ``"wrapped"`` or ``"gone"``.
        what: its module, and what that holds.
        layer: the layer, as it will be or was.
        added: parameters that the model gains by it.
    """

    old: int | None
    new: int | None
    change: str
    what: str
    layer: Layer
    added: int


@dataclass(frozen=True)
class Plan:
    """A change that was not made yet; ``print(plan)`` shows its table.

    Args:
        base: the model that it changes.
        steps: one per layer, in the order of the new model.
        before: parameters of the old model.
        kept: tensors of layers that stay as they are: so many weights will arrive, and more where a changed layer
            has parts of the same name and shape.
        tensors: tensors of the old model.
    """

    base: str
    steps: tuple[Step, ...]
    before: int
    kept: int
    tensors: int

    @property
    def added(self) -> int:
        """Parameters that the model gains."""
        return sum(step.added for step in self.steps)

    def rows(self) -> list[dict[str, object]]:
        """The table as plain values, for a program."""
        return [
            {
                "old": step.old,
                "new": step.new,
                "change": step.change,
                "what": step.what,
                "channels": step.layer.channels,
                "stride": step.layer.stride,
                "parameters_added": step.added,
            }
            for step in self.steps
        ]

    def __str__(self) -> str:
        head = ("old", "new", "", "what", "channels", "stride", "parameters")
        body = [
            (
                _or(s.old),
                _or(s.new),
                s.change,
                s.what,
                _or(s.layer.channels),
                _or(s.layer.stride),
                _gain(s.added),
            )
            for s in self.steps
        ]
        changes = [step for step in self.steps if step.change]
        foot = f"{self.base}: {len(changes)} of {len(self.steps)} layers change, {_gain(self.added) or 'no'} parameters"
        least = "at least " if any(step.change == "changed" for step in changes) else ""
        weights = f"{least}{self.kept} of {self.tensors} tensors keep their weights"
        return f"{table([head, *body])}\n{foot} on {self.before:,}; {weights}"


def compare(base: str, graph: Graph, old: Sequence[Layer], rows: Sequence[Row], new: Sequence[Layer]) -> Plan:
    """The plan from the layers before and after.

    Args:
        base: name of the model.
        graph: the changed rows.
        old: layers of the model before.
        rows: its rows.
        new: layers of the model after.

    Raises:
        ValueError: a layer of the old model would give other channels or another stride.
    """
    steps = []
    for at, (layer, row, origin) in enumerate(zip(new, graph.rows, graph.origin, strict=True)):
        if origin is None:
            steps.append(Step(None, at, "new", what(row), layer, layer.parameters))
            continue
        was = old[origin]
        _same(was, layer)
        steps.append(Step(origin, at, _change(rows[origin], row), what(row), layer, layer.parameters - was.parameters))
    for layer in old:
        if layer.index not in graph.origin:
            at = next(k for k, step in enumerate(steps) if step.old is not None and step.old > layer.index)
            steps.insert(at, Step(layer.index, None, "gone", what(rows[layer.index]), layer, -layer.parameters))
    kept = sum(old[s.old].tensors for s in steps if s.old is not None and s.change in ("", "wrapped"))
    return Plan(base, tuple(steps), sum(x.parameters for x in old), kept, sum(x.tensors for x in old))


def _change(was: Row, now: Row) -> str:
    """What happened to a row, whatever it reads."""
    if was[1:] == now[1:]:
        return ""
    before = was[3] if was[2] == CHAIN else [was[1:]]
    return "wrapped" if now[2] == CHAIN and now[3][: len(before)] == before else "changed"


def what(row: Row) -> str:
    """The module of a row; for rows around other modules also theirs: ``ZeroGate HaloAttention``."""
    _, _, module, args = row
    if module == CHAIN:
        return " + ".join(what([-1, *inside]) for inside in args)
    return f"{module} {args[0]}" if module in AROUND else str(module)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Cells in columns, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    right = [all(cell[:1] in "0123456789+-" for row in rows[1:] if (cell := row[i])) for i in range(len(widths))]
    lines = [
        "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _same(was: Layer, now: Layer) -> None:
    if (was.channels, was.stride) != (now.channels, now.stride):
        raise ValueError(
            f"{was} gives {was.channels} channels at stride {was.stride} and would give {now.channels} at stride "
            f"{now.stride} as layer {now.index} ({now.module}); the rest of the model needs it as it was"
        )


def _or(value: int | None) -> str:
    return "-" if value is None else str(value)


def _gain(added: int) -> str:
    return f"{added:+,}" if added else ""
