"""Rows of measurements as CSV: what was measured, by whom, how long it took, and under which conditions."""

from __future__ import annotations

import csv
from pathlib import Path

from benchmarks.cpu_timing import Timing, conditions

KEY = ("what", "shape", "dtype", "threads", "pass", "backend")
COLUMNS = (*KEY, "ms_p20", "ms_p50", "ms_p80", "reps", "extra_mb", "share", "note", "clock", "torch", "numba",
           "yolomix", "python", "machine", "date")  # fmt: skip
RESULTS = Path(__file__).parent / "results"


class Table:
    """A CSV file that grows row by row, so that a run that is cut short keeps what it has."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.conditions = conditions()
        self.file = path.open("w", newline="")
        self.writer = csv.DictWriter(self.file, COLUMNS, restval="")
        self.writer.writeheader()

    def add(self, row: dict[str, object], timing: Timing | None = None, limit_ms: float | None = None) -> None:
        """Write a row and show it; ``limit_ms`` is what the machine's limit would take."""
        if timing is not None:
            low, middle, high = timing.quantiles()
            extra = "" if timing.extra_mb is None else f"{timing.extra_mb:.1f}"
            share = "" if limit_ms is None else f"{limit_ms / middle:.3f}"
            row = row | {"ms_p20": f"{low:.3f}", "ms_p50": f"{middle:.3f}", "ms_p80": f"{high:.3f}", "share": share,
                         "reps": len(timing.ms), "extra_mb": extra}  # fmt: skip
        self.writer.writerow(row | self.conditions)
        self.file.flush()
        print(*(row.get(name, "") for name in COLUMNS[:13]), sep="  ", flush=True)


def read(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """The rows of a file by what they measured."""
    with path.open(newline="") as file:
        return {tuple(row[name] for name in KEY): row for row in csv.DictReader(file)}
