"""What became of every tensor when weights went from one model into another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolomix.surgery.plan import table

FATES = ("copied", "shape differs", "left at init", "unused")
SHOWN = 8  # layers in a warning


@dataclass(frozen=True)
class Tensor:
    """One tensor and its fate.

    Args:
        name: its full name, in the target, or in the source when it is unused.
        layer: number of its layer there.
        module: type of its layer.
        fate: one of ``FATES``.
        numbers: how many numbers it holds.
        why: for a shape that differs, both shapes.
    """

    name: str
    layer: int
    module: str
    fate: str
    numbers: int
    why: str = ""


@dataclass(frozen=True)
class Report:
    """A transfer: every tensor of the target, and those of the source that found no place.

    Args:
        source: where the weights came from.
        target: where they went.
        tensors: all of them.
        predicted: how many tensors were expected to arrive.
        source_tensors: how many tensors the source has.
    """

    source: str
    target: str
    tensors: tuple[Tensor, ...]
    predicted: int
    source_tensors: int

    def of(self, fate: str) -> list[Tensor]:
        """The tensors of one fate."""
        return [t for t in self.tensors if t.fate == fate]

    @property
    def copied(self) -> int:
        """How many tensors arrived, compared number by number."""
        return len(self.of("copied"))

    @property
    def complete(self) -> bool:
        """Whether every tensor of the source arrived."""
        return self.copied >= self.source_tensors

    @property
    def summary(self) -> str:
        """One line."""
        into = sum(t.fate != "unused" for t in self.tensors)
        return f"{self.copied} of {self.source_tensors} source tensors copied, into a model of {into} ({self.target})"

    def missing(self) -> str:
        """The layers that did not get or give all, and why, a line each; empty when every source tensor arrived."""
        lines = []
        short = [
            t for t in self.tensors if t.fate in ("shape differs", "unused") or (t.fate == "left at init" and t.why)
        ]
        for layer, group in _grouped(short).items():
            group = sorted(group, key=lambda t: -t.numbers)
            why = [f"{t.name.split('.', 2)[-1]} {t.why}".strip() for t in group]
            more = f" and {len(why) - 2} more" if len(why) > 2 else ""
            lines.append(f"  {layer}: {len(group)} tensors {group[0].fate}: {', '.join(why[:2])}{more}")
        return "\n".join([*lines[:SHOWN], *([f"  and {len(lines) - SHOWN} more layers"] if len(lines) > SHOWN else [])])

    def __str__(self) -> str:
        head = ("layer", "module", *(f"{fate}" for fate in FATES))
        body = [
            (*_place(group[0]), *(_sum(group, fate) for fate in FATES)) for group in _grouped(self.tensors).values()
        ]
        total = ("all", "", *(_sum(self.tensors, fate) for fate in FATES))
        return f"{table([head, *body, total])}\ntensors / numbers each; {self.summary}"

    def save(self, file: str | Path) -> Path:
        """Write the table, and the name of every tensor that was not copied, to a text file."""
        names = [
            f"{t.fate}: {t.name} {t.why}".rstrip() for fate in FATES[1:] for t in self.of(fate)
        ]  # what was copied is in the table
        path = Path(file)
        path.write_text("\n".join([f"{self.source} -> {self.target}", "", str(self), "", *names]) + "\n", "utf-8")
        return path


def _grouped(tensors: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    """By layer; unused ones, whose numbers are the source's, apart."""
    groups: dict[str, list[Tensor]] = {}
    for t in tensors:
        groups.setdefault(" ".join(_place(t)), []).append(t)
    return groups


def _place(t: Tensor) -> tuple[str, str]:
    return (f"source {t.layer}" if t.fate == "unused" else str(t.layer)), t.module


def _sum(tensors: Sequence[Tensor], fate: str) -> str:
    group = [t for t in tensors if t.fate == fate]
    return f"{len(group)} / {sum(t.numbers for t in group):,}" if group else "-"
