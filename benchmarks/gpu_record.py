"""What one lease of a GPU leaves in its folder: a CSV file per step, and ``lease.json`` about all of them.

Both grow as results come. ``lease.json`` is replaced whole; a CSV line that a kill cut short is dropped before the next
one is written. So whatever ends a run, nothing measured is lost, and the next run knows what is left.
"""

from __future__ import annotations

import csv
import json
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from yolomix import files

# PyTorch takes seconds to import, and the process that waits for the steps needs none: functions import it.

Row = dict[str, object]
Key = tuple[str, ...]
KEY = ("what", "shape", "batch", "dtype", "mode", "who")
FIGURES = ("ms_p20", "ms_p50", "ms_p80", "reps", "extra_mb", "share", "step", "loss", "note")
CONDITIONS = ("device", "torch", "triton", "ultralytics", "yolomix", "python", "machine", "system", "date")
COLUMNS = (*KEY, *FIGURES, *CONDITIONS)
FAILED = "traceback"  # of a row that is a failure: no column, it goes into lease.json
BROKEN = 3  # exit code of a step whose GPU answers nothing any more; a new process goes on behind the row


def key(what: object, shape: object = "", batch: object = "", dtype: object = "", mode: str = "", who: str = "") -> Key:
    """What is measured, as the first columns of its rows.

    dtype: a PyTorch type, or a word.
    """
    return str(what), str(shape), str(batch), str(dtype).removeprefix("torch."), mode, who


class Lease:
    """``lease.json``: device, versions, and of every step its state, seconds, rows left and failures."""

    def __init__(self, folder: Path):
        self.file = folder / "lease.json"

    def read(self) -> dict[str, Any]:
        """All of it; of a folder that is new, no steps and no calls."""
        if not self.file.exists():
            return {"calls": 0, "steps": {}}
        found: dict[str, Any] = json.loads(self.file.read_text("utf-8"))
        return found

    def update(self, step: str | None = None, **values: Any) -> None:
        """Replace values of a step, or with None those of the whole lease."""
        found = self.read()
        (found if step is None else found["steps"].setdefault(step, {})).update(values)
        files.write_text(self.file, json.dumps(found, indent=1) + "\n", flush=False)


class Record:
    """The rows of one step."""

    def __init__(self, folder: Path, step: str, device: str):
        from yolomix.records import Conditions

        self.lease, self.step, self.path = Lease(folder), step, folder / f"{step}.csv"
        self.conditions = Conditions.here(device).row()
        self.lease.update(conditions=self.conditions)
        found = self.lease.read()
        self.call: int = found["calls"]
        self.failures: dict[str, dict[str, Any]] = found["steps"].get(step, {}).get("failures", {})
        self.left: list[Key] = []
        self.known = {tuple(row[name] for name in KEY) for row in self._rows()}

    def _rows(self) -> list[dict[str, str]]:
        text = self.path.read_text("utf-8") if self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if not whole:
            self._write([dict(zip(COLUMNS, COLUMNS, strict=True))], "w")
        elif whole != text:
            files.write_text(self.path, whole, flush=False)
        return list(csv.DictReader(whole.splitlines()))

    def _write(self, rows: Iterable[Row], mode: str = "a") -> None:
        with self.path.open(mode, newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n").writerows(rows)

    def todo(self, keys: Iterable[Key]) -> list[Key]:
        """Those without rows in the file, and those that failed in an earlier call; the lease knows them as left."""
        self.left = [one for one in keys if one not in self.known or self._failed_before(one)]
        self._tell()
        return list(self.left)

    def _failed_before(self, one: Key) -> bool:
        return self.failures.get(" ".join(one), {"call": self.call})["call"] < self.call

    def _tell(self) -> None:
        left = [" ".join(one) for one in self.left]
        self.lease.update(self.step, rows=len(self.known), left=left, failures=self.failures)

    def add(self, one: Key, *rows: Row) -> None:
        """Write the rows of what was measured; one with ``FAILED`` makes it a failure, to be tried in the next call."""
        named = dict(zip(KEY, one, strict=True))
        self._write({**named, **row, **self.conditions} for row in rows)
        self.failures.pop(" ".join(one), None)
        for row in rows:
            if FAILED in row:
                self.failures[" ".join(one)] = {"call": self.call, FAILED: str(row[FAILED])}
        self.known.add(one)
        self.left = [other for other in self.left if other != one]
        self._tell()
        shown = {} if len(rows) != 1 else rows[0]
        print(*one, *(str(shown[name]) for name in FIGURES if name in shown), sep="  ", flush=True)

    def work(self, items: Mapping[Key, Callable[[], Iterable[Row]]]) -> None:
        """Measure what is left, in order. A failure is a row with its reason, and costs the others nothing.

        Raises:
            SystemExit: after a failure the GPU answers nothing in this process any more.
        """
        import torch

        for one in self.todo(items):
            try:
                rows = list(items[one]())
            except torch.cuda.OutOfMemoryError:
                rows = [{"note": "not measured: out of memory"}]
            except Exception as error:  # noqa: BLE001  what fails must not cost the other rows
                rows = [failure(error)]
            self.add(one, *rows)
            if any(FAILED in row for row in rows) and not answers():
                raise SystemExit(BROKEN)
            torch.cuda.empty_cache()


def failure(error: BaseException) -> Row:
    """The row of what failed: its reason in one line, and the traceback."""
    note = f"failed: {type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
    return {"note": note, FAILED: "".join(traceback.format_exception(error))[-6000:]}


def answers() -> bool:
    """Whether the GPU, if there is one, still works in this process."""
    import torch

    if not torch.cuda.is_available():
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:  # an illegal access is reported by every later call
        return False
    return True


def best(path: Path, count: int = 3) -> dict[str, list[str]]:
    """Of every size and mode in a CSV file who is fastest, each with its milliseconds; of none that is not there."""
    rows = csv.DictReader(path.read_text("utf-8").splitlines()) if path.exists() else ()
    found: dict[str, list[tuple[float, str]]] = {}
    for row in rows:
        if row["ms_p50"]:
            one = " ".join(row[name] for name in ("shape", "batch", "dtype", "mode"))
            found.setdefault(one, []).append((float(row["ms_p50"]), row["who"]))
    return {one: [f"{who}: {ms:.4f} ms" for ms, who in sorted(times)[:count]] for one, times in found.items()}
