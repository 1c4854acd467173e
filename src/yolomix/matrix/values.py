"""What became of models in formats and precisions: rows of a CSV file, a table, and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from yolomix import files
from yolomix.showing import Shown

KEY = ("model", "content", "format", "precision", "imgsz")
FOUND = (
    "converts", "agrees", "delivered", "reason", "boxes", "boxes_allowed", "scores", "scores_allowed", "map",
    "map_pytorch", "mb", "cpu_ms", "cpu_ms_pytorch", "export_cpu_s", "verify_cpu_s",
)  # fmt: skip
CONDITIONS = ("packages", "torch", "ultralytics", "yolomix", "python", "threads", "machine", "system", "date")
COLUMNS = (*KEY, *FOUND, *CONDITIONS)
NOT_MEASURED = "not measured"
TOLD = 60  # characters of a reason in a table; a row has all of it


class Key(NamedTuple):
    """Which cell: a model in a format and a precision.

    Attributes:
        model: as a user types it.
        content: the first digits of the SHA-256 of a checkpoint or a model YAML; empty of a packaged model.
        format: what ``format=`` says.
        precision: ``FP32``, ``FP16`` or ``INT8``.
        imgsz: side of the images in pixels.
    """

    model: str
    content: str
    format: str
    precision: str
    imgsz: str


@dataclass(frozen=True)
class Cell:
    """What became of a model in a format and a precision.

    >>> cell = Cell(Key("a.yaml", "", "onnx", "FP32", "64"), {"converts": "True", "agrees": "True", "scores": "1e-07"})
    >>> cell.in_short(), cell.is_measured
    ('agrees 1e-07', False)

    Attributes:
        key: which.
        found: the columns of its row; those that are empty may be missing.
    """

    key: Key
    found: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Mapping[str, str]) -> Cell:
        """From a row of a CSV file."""
        return cls(Key(*(row[name] for name in KEY)), {name: row.get(name) or "" for name in (*FOUND, *CONDITIONS)})

    @property
    def is_measured(self) -> bool:
        """Whether a process tried it: such a row names the packages."""
        return bool(self.found.get("packages"))

    def row(self) -> dict[str, str]:
        """The columns of a CSV row."""
        return {**self.key._asdict(), **self.found}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the columns of the row, with numbers, true, false and null."""
        return {name: _plain(name, self.row().get(name, "")) for name in COLUMNS}

    def in_short(self) -> str:
        """What became of it, in a few words: the larger difference, CPU time and size of a file that agrees."""
        said = self.found.get
        reason = said("reason") or ""
        if said("converts") == "True" and said("agrees") == "True":
            other = f"is {said('delivered')}" if said("delivered") not in ("", None, self.key.precision) else ""
            differs = f"agrees {said('boxes') or said('scores') or ''}".strip()
            ms, mb = (f"{said(name)} {unit}" if said(name) else "" for name, unit in (("cpu_ms", "ms"), ("mb", "MB")))
            return ", ".join(part for part in (differs, other, ms, mb) if part)
        if said("agrees") == "False":
            return f"differs: {_told(reason)}"
        if said("converts") == "True":
            return f"converts; {_told(reason)}"
        if said("converts") == "False":
            return f"no: {_told(reason)}"
        return f"{NOT_MEASURED}: {_told(reason)}" if reason else NOT_MEASURED


@dataclass(frozen=True, repr=False)
class Matrix(Shown):
    """Cells of models, formats and precisions, those included of which nothing is known.

    Attributes:
        cells: in the order in which they were asked for.
    """

    cells: tuple[Cell, ...]

    def in_short(self) -> str:
        """How many cells are measured, and in how many the file agrees."""
        agree = sum(cell.found.get("agrees") == "True" for cell in self.cells)
        known = sum(cell.is_measured for cell in self.cells)
        return f"{known} of {len(self.cells)} cells measured, {agree} agree"

    def as_rows(self) -> list[tuple[str, ...]]:
        """A line for each cell."""
        rows: list[tuple[str, ...]] = [("model", "format", "precision", "")]
        rows += [(cell.key.model, cell.key.format, cell.key.precision, cell.in_short()) for cell in self.cells]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"cells": [cell.to_dict() for cell in self.cells]}

    def markdown(self) -> str:
        """A table for each precision, models by formats, and below them what it was measured with."""
        lines = []
        for precision in dict.fromkeys(cell.key.precision for cell in self.cells):
            lines += [*self._table([cell for cell in self.cells if cell.key.precision == precision], precision), ""]
        return "\n".join([*lines, *self._conditions(), ""])

    def _table(self, cells: Sequence[Cell], precision: str) -> list[str]:
        """Without models and formats of which nothing is known: a line names them."""
        told = {(cell.key.model, cell.key.format): cell.in_short() for cell in cells}
        known = [cell.key for cell in cells if told[cell.key.model, cell.key.format] != NOT_MEASURED]
        unasked = _others(cells, known, "format")
        forms = [form for form in dict.fromkeys(cell.key.format for cell in cells) if form not in unasked]
        lines = [_bar([precision, *forms]), f"|---|{'---|' * len(forms)}"]
        for model in dict.fromkeys(key.model for key in known):
            lines.append(_bar([_name(model), *(told.get((model, form), NOT_MEASURED) for form in forms)]))
        if not known:
            return [f"{precision}, {NOT_MEASURED}: any model in any format."]
        for unknown, what in ((map(_name, _others(cells, known, "model")), "any format"), (unasked, "any model")):
            if names := ", ".join(unknown):
                lines += ["", f"{precision}, {NOT_MEASURED} in {what}: {names}."]
        return lines

    def _conditions(self) -> list[str]:
        """Packages, versions, machine and dates of the cells that are measured: a line for each format."""
        lines = []
        for form in dict.fromkeys(cell.key.format for cell in self.cells):
            used: dict[str, list[str]] = {}
            for cell in self.cells:
                if cell.key.format == form and cell.is_measured:
                    used.setdefault(_versions(cell.found), []).append(cell.found.get("date", ""))
            for versions, dates in used.items():
                when = min(dates) if min(dates) == max(dates) else f"{min(dates)} to {max(dates)}"
                lines.append(f"- `{form}`: {versions}; {when}")
        return lines


def read(path: Path) -> list[Cell]:
    """The cells in a CSV file; none where there is no file.

    Raises:
        ValueError: it is another file.
    """
    if not path.exists():
        return []
    reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    if lacking := [name for name in KEY if name not in (reader.fieldnames or ())]:
        raise ValueError(f"{path} is no table of export-matrix: no column {', '.join(lacking)}; give another out=")
    return [Cell.of(row) for row in reader]


def write(path: Path, cells: Iterable[Cell]) -> None:
    """Write a CSV file, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(cell.row() for cell in cells)
    files.write_text(path, text.getvalue())


def _versions(found: Mapping[str, str]) -> str:
    torch = found.get("torch", "").partition("+")[0]
    named = found.get("packages", "")
    packages = [named, f"PyTorch {torch}"] if torch and not named.startswith("torch ") else [named]
    threads = f"threads: {found['threads']}" if found.get("threads") else ""
    where = [f"Ultralytics {found.get('ultralytics')}", found.get("machine", ""), threads]
    return ", ".join(part for part in (*packages, *where) if part)


def _others(cells: Iterable[Cell], known: Iterable[Key], what: str) -> list[str]:
    """The models or formats of cells that no known cell has, in order."""
    seen = {getattr(key, what) for key in known}
    return [one for one in dict.fromkeys(getattr(cell.key, what) for cell in cells) if one not in seen]


def _name(model: str) -> str:
    return f"`{model.removesuffix('.yaml')}`"


def _told(reason: str) -> str:
    """A reason in a table: its first part.

    >>> _told("not done after 60 s; last said: tracing"), len(_told("a" * 100))
    ('not done after 60 s', 60)
    """
    first = reason.partition("; ")[0]
    return first if len(first) <= TOLD else f"{first[: TOLD - 3]}..."


def _plain(name: str, text: str) -> Any:
    """The value of a column.

    >>> _plain("converts", "True"), _plain("mb", "12.5"), _plain("agrees", ""), _plain("date", "2026-11-28")
    (True, 12.5, None, '2026-11-28')
    """
    if name in ("converts", "agrees"):
        return {"True": True, "False": False}.get(text)
    if name == "imgsz":
        return int(text)
    if name in FOUND and name not in ("delivered", "reason"):
        return float(text) if text else None
    return text


def _bar(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
