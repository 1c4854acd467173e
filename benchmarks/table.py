"""Rows of measurements as CSV: what was measured, by whom, how long it took, and under which conditions."""

from __future__ import annotations

import csv
from pathlib import Path

from benchmarks.cpu_timing import Timing, clock
from yolomix.records import Conditions, Record

KEY = ("what", "shape", "dtype", "threads", "pass", "backend")
METRICS = ("ms_p20", "ms_p50", "ms_p80", "reps", "extra_mb", "share")
CONDITIONS = ("clock", "torch", "numba", "ultralytics", "yolomix", "python", "machine", "vector", "system", "date")
COLUMNS = (*KEY, *METRICS, "note", *CONDITIONS)
SHOWN = (*KEY, *METRICS, "note")
RESULTS = Path(__file__).parent / "results"


def file_for(name: str) -> Path:
    """The file for the results of this machine with the threads that are set, one for each benchmark."""
    return RESULTS / f"{name}-{Conditions.here().slug}.csv"


class Table:
    """A CSV file that grows row by row, so that a run that is cut short keeps what it has."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.conditions = Conditions.here()
        self.clock = clock()[0]
        self.file = path.open("w", newline="", encoding="utf-8")
        # Conditions that have no column say nothing about a number from a CPU.
        self.writer = csv.DictWriter(self.file, COLUMNS, restval="", extrasaction="ignore")
        self.writer.writeheader()

    def add(self, row: dict[str, object], timing: Timing | None = None, limit_ms: float | None = None) -> None:
        """Write a row and show it; ``limit_ms`` is what the machine's limit would take."""
        record = Record({} if timing is None else _metrics(timing, limit_ms), self.conditions)
        full = {**row, **record.row(), "clock": self.clock}
        self.writer.writerow(full)
        self.file.flush()
        print(*(full.get(name, "") for name in SHOWN), sep="  ", flush=True)


def read(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """The rows of a file by what they measured."""
    with path.open(newline="", encoding="utf-8") as file:
        return {tuple(row[name] for name in KEY): row for row in csv.DictReader(file)}


def _metrics(timing: Timing, limit_ms: float | None) -> dict[str, float]:
    low, middle, high = timing.quantiles()
    found: dict[str, float] = {"ms_p20": low, "ms_p50": middle, "ms_p80": high, "reps": len(timing.ms)}
    if timing.extra_mb is not None:
        found["extra_mb"] = timing.extra_mb
    if limit_ms is not None:
        found["share"] = limit_ms / middle
    return found
