"""What became of every tensor when weights went from one model into another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from yolomix import files
from yolomix.showing import Shown
from yolomix.surgery.table import table

SHOWN = 8  # layers in a warning
WORST = 2  # tensors of a layer in a warning


class Fate(StrEnum):
    """What can become of a tensor; the columns of a report."""

    COPIED = "copied"
    SHAPE_DIFFERS = "shape differs"
    LEFT_AT_INIT = "left at init"
    UNUSED = "unused"


@dataclass(frozen=True, repr=False)
class Outcome(Shown):
    """One tensor and what became of it.

    Attributes:
        name: its full name, in the target, or in the source when it is unused.
        layer: index of its layer there.
        module: type of its layer.
        fate: what became of it.
        elements: how many values it holds.
        why: for a shape that differs both shapes, for another surprise a sentence.
        source: the full name of the source's tensor that belongs to it; empty when there is none.
    """

    name: str
    layer: int
    module: str
    fate: Fate
    elements: int
    why: str = ""
    source: str = ""

    @property
    def is_missing(self) -> bool:
        """Whether it stands for a tensor of the source that did not arrive."""
        if self.fate is Fate.LEFT_AT_INIT:
            return bool(self.why)  # a tensor of the target that the source does not have needs no reason
        return self.fate is not Fate.COPIED

    @property
    def reason(self) -> str:
        """Its fate, and why."""
        return f"{self.fate}: {self.why}".removesuffix(": ")

    def in_short(self) -> str:
        """Its name, its fate, and why."""
        return f"{self.name} {self.reason}"


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """A transfer: every tensor of the target, and those of the source that have no counterpart.

    ``print`` it for a table per layer.

    >>> conv = Outcome("model.0.weight", 0, "Conv", Fate.COPIED, 432)
    >>> head = Outcome("model.1.weight", 1, "Detect", Fate.SHAPE_DIFFERS, 80, "(80, 1) -> (3, 1)")
    >>> report = Report("a.pt", "b.yaml", (conv, head), source_tensors=2, classes=(80, 3))
    >>> report.copied, report.missing, report.complete
    (['model.0.weight'], ['model.1.weight'], False)
    >>> print(report)
    layer  module   copied   shape differs  left at init  unused
        0  Conv     1 / 432              -             -       -
        1  Detect         -         1 / 80             -       -
    all             1 / 432         1 / 80             -       -
    tensors / elements each; 1 of 2 source tensors copied, 1 new for 3 classes instead of 80, into a model of 2 (b.yaml)

    Attributes:
        source: where the weights came from.
        target: where they went.
        tensors: all of them.
        source_tensors: how many tensors the source has.
        moved: whether layers of the source had to move to layers of another index.
        classes: the class counts of source and target where they differ.
    """

    source: str
    target: str
    tensors: tuple[Outcome, ...]
    source_tensors: int
    moved: bool = False
    classes: tuple[int, int] | None = None

    def of(self, fate: Fate | str) -> list[Outcome]:
        """The tensors of one fate."""
        return [t for t in self.tensors if t.fate == fate]

    @property
    def copied(self) -> list[str]:
        """Names, in the target, of the tensors that arrived: those that hold the values of the source."""
        return [t.name for t in self.of(Fate.COPIED)]

    @property
    def missing(self) -> list[str]:
        """Names, in the source, of the tensors that did not arrive."""
        return list(self.reasons)

    @property
    def reasons(self) -> dict[str, str]:
        """Why a tensor did not arrive, by its name in the source."""
        return {t.source or t.name: t.reason for t in self._missing()}

    def _missing(self) -> list[Outcome]:
        return [t for t in self.tensors if t.is_missing]

    @property
    def left_at_init(self) -> list[str]:
        """Names, in the target, of the tensors that the source does not have."""
        return [t.name for t in self.of(Fate.LEFT_AT_INIT) if not t.is_missing]

    @property
    def target_tensors(self) -> int:
        """How many tensors the target has."""
        return len(self.tensors) - len(self.of(Fate.UNUSED))

    @property
    def complete(self) -> bool:
        """Whether every tensor of the source arrived."""
        return len(self.copied) >= self.source_tensors

    @property
    def new_for_classes(self) -> list[str]:
        """Names of the head's tensors that another class count needs, where all others arrived; else none."""
        missing = self._missing()
        head = max((t.layer for t in self.tensors if t.fate is not Fate.UNUSED), default=None)
        if not self.classes or any(t.layer != head or t.fate is not Fate.SHAPE_DIFFERS for t in missing):
            return []
        return [t.name for t in missing]

    @property
    def counts(self) -> str:
        """How many tensors arrived, and how many are new for another class count."""
        counts = f"{len(self.copied)} of {self.source_tensors} source tensors copied"
        if self.classes and (new := self.new_for_classes):
            before, now = self.classes
            counts += f", {len(new)} new for {now} classes instead of {before}"
        return counts

    @property
    def summary(self) -> str:
        """One line."""
        return f"{self.counts}, into a model of {self.target_tensors} ({self.target})"

    def in_short(self) -> str:
        """The summary."""
        return self.summary

    def as_rows(self) -> list[tuple[str, ...]]:
        """A row per layer below a head, and one for all."""
        rows: list[tuple[str, ...]] = [("layer", "module", *Fate)]
        for group in _by_layer(self.tensors).values():
            rows.append((*_place(group[0]), *_sums(group)))
        return [*rows, ("all", "", *_sums(self.tensors))]

    def explain_missing(self) -> str:
        """The layers that did not get or give all, and why, a line each; empty when every source tensor arrived.

        >>> head = Outcome("model.1.cv2.weight", 1, "Detect", Fate.SHAPE_DIFFERS, 80, "(80, 1) -> (3, 1)")
        >>> print(Report("a.pt", "b.yaml", (head,), 1).explain_missing())
          1 Detect: 1 tensors shape differs: cv2.weight (80, 1) -> (3, 1)
        """
        lines = [_explained(layer, group) for layer, group in _by_layer(self._missing()).items()]
        if len(lines) > SHOWN:
            lines[SHOWN:] = [f"  and {len(lines) - SHOWN} more layers"]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a program; ``reasons`` has a sentence for every name in ``missing``.

        >>> sorted(Report("a.pt", "b.yaml", (), 0).to_dict())[:4]
        ['copied', 'left_at_init', 'missing', 'moved']
        """
        return {
            "source": self.source,
            "target": self.target,
            "source_tensors": self.source_tensors,
            "target_tensors": self.target_tensors,
            "moved": self.moved,
            "copied": self.copied,
            "missing": self.missing,
            "left_at_init": self.left_at_init,
            "reasons": self.reasons,
        }

    def __str__(self) -> str:
        return f"{table(self.as_rows())}\ntensors / elements each; {self.summary}"

    def save(self, file: str | Path) -> Path:
        """Write the table, and the name of every tensor that was not copied, to a text file."""
        lines = [f"{self.source} -> {self.target}", "", str(self), ""]
        for fate in Fate:
            if fate is not Fate.COPIED:  # what was copied is in the table
                lines += [f"{fate}: {t.name} {t.why}".rstrip() for t in self.of(fate)]
        return files.write_signed(file, "\n".join(lines) + "\n")


def _by_layer(tensors: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Grouped by layer; unused ones, whose layer index is the source's, apart."""
    groups: dict[str, list[Outcome]] = {}
    for t in tensors:
        groups.setdefault(" ".join(_place(t)), []).append(t)
    return groups


def _place(t: Outcome) -> tuple[str, str]:
    """The layer and its module, as the table shows them."""
    if t.fate is Fate.UNUSED:
        return f"source {t.layer}", t.module
    return str(t.layer), t.module


def _explained(layer: str, group: Sequence[Outcome]) -> str:
    """A line about the tensors of one layer, the largest first."""
    largest = sorted(group, key=lambda t: -t.elements)
    names = [f"{t.name.split('.', 2)[-1]} {t.why}".strip() for t in largest[:WORST]]  # without "model.10."
    line = f"  {layer}: {len(group)} tensors {largest[0].fate}: {', '.join(names)}"
    if len(group) > WORST:
        line += f" and {len(group) - WORST} more"
    return line


def _sums(tensors: Sequence[Outcome]) -> list[str]:
    """Per fate how many tensors and elements."""
    cells = []
    for fate in Fate:
        elements = [t.elements for t in tensors if t.fate is fate]
        cells.append(f"{len(elements)} / {sum(elements):,}" if elements else "-")
    return cells
