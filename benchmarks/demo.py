"""What the demo takes and reaches: whole commands, each in a process of its own without a terminal.

    python -m benchmarks.demo [--seeds 0 1 2] [--out FOLDER]

Before the seeds, stock yolo11n trains with the same recipe for as many steps: its CPU time is what the demo's is
compared with, in the same run.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import table
from yolomix import demo
from yolomix.cli.verbs import VERBS
from yolomix.data import sample_dataset
from yolomix.records import Conditions, Record

EPOCHS = VERBS["demo"].argument("epochs").default
STOCK = """
import sys
from ultralytics import YOLO
from yolomix.demo import RECIPE
out, data, epochs = sys.argv[1:]
YOLO("yolo11n.yaml").train(data=data, epochs=int(epochs), project=out, name="stock", exist_ok=True, **RECIPE)
"""
KEYS = {"mAP50": "metrics/mAP50(B)", "mAP50-95": "metrics/mAP50-95(B)"}
QUIET = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "OMP_WAIT_POLICY": "PASSIVE"}


@dataclass(frozen=True)
class Taken:
    """What a command took.

    Attributes:
        out: what it wrote to stdout.
        wall: seconds.
        cpu: seconds of all its threads and children.
        first: seconds until it wrote its first line to stderr.
        gap: seconds at most between two lines, or between the last line and its end.
    """

    out: str
    wall: float
    cpu: float
    first: float
    gap: float


def taken(command: list[str], **variables: str) -> Taken:
    """Run a command, with variables of the environment, and watch when it writes.

    >>> found = taken([sys.executable, "-c", "import sys; print(7); print('a', file=sys.stderr)"])
    >>> found.out.strip(), 0 < found.first <= found.wall
    ('7', True)
    """
    started, moments = time.monotonic(), []
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, env=os.environ | QUIET | variables)
        assert child.stderr is not None
        for _ in child.stderr:
            moments.append(time.monotonic())
        _, status, usage = os.wait4(child.pid, 0)
        ended = time.monotonic()
        out.seek(0)
        if status:
            raise RuntimeError(f"{command} ended with status {status}\n{out.read()}")
        gaps = [after - before for before, after in itertools.pairwise([*moments, ended])]
        first = moments[0] - started if moments else ended - started
        return Taken(out.read(), ended - started, usage.ru_utime + usage.ru_stime, first, max(gaps, default=0.0))


def main() -> None:
    """Run everything; a row per command, as CSV and on the screen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/demo-benchmark"))
    given = parser.parse_args()
    data = sample_dataset()
    conditions = Conditions.here()
    names = ["what", "seed", *KEYS, "wall_s", "cpu_s", "cpu_over_stock", "first_line_s", "longest_gap_s"]
    with table.file_for("demo").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*names, *table.CONDITIONS[1:]], restval="", extrasaction="ignore")
        writer.writeheader()

        def _row(what: str, seed: int, found: Taken, stock: Taken, metrics: dict[str, float]) -> None:
            numbers = {"wall_s": found.wall, "cpu_s": found.cpu, "cpu_over_stock": found.cpu / stock.cpu}
            if metrics:
                numbers |= {"first_line_s": found.first, "longest_gap_s": found.gap}
                numbers |= {name: metrics[key] for name, key in KEYS.items()}
            row = {"what": what, "seed": seed, **Record(numbers, conditions).row()}
            writer.writerow(row)
            file.flush()
            print(*(f"{name} {row[name]}" for name in names if name in row), sep="  ", flush=True)

        stock = taken([sys.executable, "-c", STOCK, str(given.out.resolve()), str(data), str(EPOCHS)])
        _row(f"yolo11n, {EPOCHS} epochs", 0, stock, stock, {})
        for seed in given.seeds:
            words = ["demo", f"seed={seed}", f"epochs={EPOCHS}", f"out={given.out / str(seed)}", "--json"]
            # It renders the dataset, as on a fresh machine.
            with tempfile.TemporaryDirectory() as cache:
                found = taken([sys.executable, "-m", "yolomix", *words], YOLOMIX_CACHE=cache)
            _row(demo.MODEL, seed, found, stock, json.loads(found.out)["metrics"])


if __name__ == "__main__":
    main()
