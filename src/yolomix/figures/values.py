"""A figure: numbers first, a drawing of them, and what was done."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolomix import files
from yolomix.showing import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

Array = npt.NDArray[Any]
Row = tuple[str, ...]

DPI = 150


@dataclass(frozen=True, repr=False)
class Figure(Shown):
    """One figure. ``print`` it for its table, ``save`` it for the files.

    Attributes:
        kind: which of ``yolomix.figures.KINDS``.
        arrays: the numbers that are drawn, and those that the table has, by name.
        done: models, images, layers, settings and versions, as plain values.
        rows: the cells of a table, its head first.
        drawn: makes the drawing.
        verdict: what the numbers say in a sentence for each line; empty where that is for the reader.
    """

    kind: str
    arrays: Mapping[str, Array]
    done: Mapping[str, Any]
    rows: Sequence[Row]
    drawn: Callable[[], Drawing]
    verdict: str = ""

    def in_short(self) -> str:
        """The kind, and of what it is."""
        return f"{self.kind} of {', '.join(self.done['models'])}: .save() writes it"

    def as_rows(self) -> Sequence[Row]:
        """The table."""
        return self.rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the arrays by their shapes."""
        shapes = {name: list(array.shape) for name, array in self.arrays.items()}
        return {"kind": self.kind, **self.done, "verdict": self.verdict, "arrays": shapes}

    def save(self, out: str | Path = "runs/figures", name: str = "") -> list[Path]:
        """Write PNG and PDF, the arrays (.npz), the table (.csv) and what was done (.json).

        Args:
            out: folder, made if it is not there.
            name: of the files, without suffix; by default the kind.

        Returns: the files, the PNG first.

        Raises:
            OSError: they cannot be written; what stood there is whole.
        """
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        drawing = self.drawn()
        arrays = io.BytesIO()
        np.savez_compressed(arrays, **self.arrays)  # type: ignore[arg-type]
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(self.rows)
        contents = {
            ".png": _drawing(drawing, "png"),
            ".pdf": _drawing(drawing, "pdf"),
            ".npz": arrays.getvalue(),
            ".csv": table.getvalue().encode(),
            ".json": json.dumps(self.to_dict(), indent=1).encode(),
        }
        return [files.write(folder / f"{name or self.kind}{suffix}", content) for suffix, content in contents.items()]


def _drawing(drawing: Drawing, form: str) -> bytes:
    content = io.BytesIO()
    # A file is the same whenever it is made: no date in it.
    drawing.savefig(content, format=form, dpi=DPI, metadata={"CreationDate": None} if form == "pdf" else None)
    return content.getvalue()
