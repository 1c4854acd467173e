"""What every packaged model takes, beside the stock model it stands in for: ``python -m benchmarks.zoo``.

Parameters and operations at every scale; latency and memory, in turns with the stock model, at the scales that are
named. A row is written as soon as it is measured, and a second call goes on where the first ended.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.table import RESULTS
from yolomix.models import Model, zoo
from yolomix.records import Conditions

COUNTS = ("parameters", "flops", "scan_flops", "scan_flops_papers", "flops_training", "fused_flops")
MEASURED = ("ms_p20", "ms", "ms_p95", "cpu_ms", "memory_mb")
STOCK = ("stock_parameters", "stock_flops", "stock_ms", "stock_cpu_ms", "stock_memory_mb", "ratio")
CONDITIONS = ("torch", "numba", "ultralytics", "yolomix", "python", "threads", "machine", "vector", "system", "date")
COLUMNS = ("model", "stock", "imgsz", *COUNTS, *MEASURED, *STOCK, "note", *CONDITIONS)
# Mamba-YOLO has scales of its own; beside each the YOLOv8 that is nearest above it in operations.
MAMBA = {"t": "s", "b": "m", "l": "l"}
TASKS = {"detect": "", "classify": "-cls", "obb": "-obb", "pose": "-pose", "segment": "-seg"}
Rows = dict[str, dict[str, str]]


def stock(model: Model, scale: str) -> str:
    """The stock model of Ultralytics that a packaged one stands in for.

    >>> stock(zoo()["yolo11-halo"], "n"), stock(zoo()["mamba-yolo-seg"], "t")
    ('yolo11n.yaml', 'yolov8s-seg.yaml')
    """
    version = "yolo11" if model.name.startswith("yolo11") else "yolov8"
    scale = MAMBA[scale] if model.name.startswith("mamba") else "s" if scale == "d" else scale
    return f"{version}{scale}{TASKS[model.task]}.yaml"


def side(model: Model) -> int:
    """The image size in pixels that its task is trained at."""
    return 224 if model.task == "classify" else 640


def file() -> Path:
    """The file for the results of this machine with the threads that are set."""
    return RESULTS / f"zoo-{Conditions.here().slug}.csv"


def read(path: Path) -> Rows:
    """The rows of a file by model."""
    with path.open(newline="", encoding="utf-8") as opened:
        return {row["model"]: row for row in csv.DictReader(opened)}


def counted(name: str, against: str, size: int) -> dict[str, object]:
    """Parameters and operations alone."""
    from yolomix.host import weights
    from yolomix.profiling.costs import cost_of

    ours, theirs = (cost_of(weights.from_yaml(one), (size, size)) for one in (name, against))
    return {
        "parameters": ours.parameters,
        "flops": ours.operations.total,
        "scan_flops": ours.operations.scan,
        "scan_flops_papers": ours.operations.scan_papers,
        "stock_parameters": theirs.parameters,
        "stock_flops": theirs.operations.total,
    }


def measured(name: str, against: str, size: int) -> dict[str, object]:
    """All of it, by ``yolomix.profile``."""
    from yolomix import profile

    ours, theirs = (one.to_dict() for one in profile(name, imgsz=size, against=[against]).models)
    time, other = ours["latency_ms"], theirs["latency_ms"]
    return {
        **{column: ours[column] for column in COUNTS if column != "fused_flops"},
        "fused_flops": ours["fused"]["flops"],
        "ms_p20": f"{time['p20']:.2f}",
        "ms": f"{time['median']:.2f}",
        "ms_p95": f"{time['p95']:.2f}",
        "cpu_ms": f"{time['cpu_median']:.2f}",
        "memory_mb": f"{ours['memory_mb']['inference']:.1f}",
        "stock_parameters": theirs["parameters"],
        "stock_flops": theirs["flops"],
        "stock_ms": f"{other['median']:.2f}",
        "stock_cpu_ms": f"{other['cpu_median']:.2f}",
        "stock_memory_mb": f"{theirs['memory_mb']['inference']:.1f}",
        "ratio": f"{time['cpu_median'] / other['cpu_median']:.3f}",
        "note": "; ".join(ours["remarks"]),
    }


def todo(scales: str, known: Rows) -> Iterator[tuple[Model, str, bool]]:
    """Every model and scale that is not in the file yet, and whether it is to be timed; smallest scales first."""
    for position in range(max(len(model.parameters) for model in zoo().values())):
        for model in zoo().values():
            for scale in [*model.parameters][position : position + 1]:
                timed = scales == "all" or position == 0
                row = known.get(model.typed(scale))
                if row is None or (timed and not row["ms"]):
                    yield model, scale, timed


def main(argv: list[str] | None = None) -> int:
    """Measure what is missing and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch and of our kernels")
    parser.add_argument(
        "--scales", choices=("first", "all"), default="first", help="of which scales latency is measured"
    )
    parser.add_argument("--out", type=Path, help="CSV file; default: that of this machine in benchmarks/results")
    parser.add_argument("--only", help="one model, by the name of its file without a scale")
    options = parser.parse_args(argv)
    import ultralytics  # noqa: F401 - before the threads are set: it sets its own

    torch.set_num_threads(options.threads)
    path = options.out or file()
    rows = read(path) if path.exists() else {}
    for model, scale, timed in todo(options.scales, rows):
        if options.only in (None, model.name):
            name, other, size = model.typed(scale), stock(model, scale), side(model)
            found = (measured if timed else counted)(name, other, size)
            rows[name] = {
                **Conditions.here().row(),
                **{column: "" if value is None else str(value) for column, value in found.items()},
                "model": name,
                "stock": other,
                "imgsz": str(size),
            }
            write(path, rows)
            print(name, *(f"{column} {found[column]}" for column in ("flops", "cpu_ms", "ratio") if column in found))
    return 0


def write(path: Path, rows: Rows) -> None:
    """The whole file, in the order of the zoo."""
    order = [model.typed(scale) for model in zoo().values() for scale in model.parameters]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[name] for name in order if name in rows)


if __name__ == "__main__":
    sys.exit(main())
