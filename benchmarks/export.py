"""What exported files are worth beside PyTorch: ``python -m benchmarks.export``.

Every model is exported as ``yolomix export`` does it, with random weights, and verified, which times the file and
PyTorch in turns. A row is written as soon as it is measured.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.table import RESULTS
from yolomix.records import Conditions

MODELS = ("mamba-yolo-t.yaml", "yolo11n-mlla.yaml", "yolo11n-assg.yaml")
FORMATS = ("onnx", "openvino")
COLUMNS = (
    "model", "format", "imgsz", "verified", "size_mb", "nodes", "export_cpu_s", "load_s", "memory_mb", "boxes",
    "boxes_allowed", "scores", "scores_allowed", "cpu_ms", "pytorch_cpu_ms", "ratio", "verify_cpu_s", "note", "runtime",
    "torch", "numba", "ultralytics", "yolomix", "python", "threads", "machine", "vector", "system", "date",
)  # fmt: skip


def file() -> Path:
    """The file for the results of this machine with the threads that are set."""
    return RESULTS / f"export-{Conditions.here().slug}.csv"


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file."""
    with path.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def cpu_seconds() -> float:
    """CPU time of this process and of its processes that have ended."""
    return sum(os.times()[:4])


def nodes(written: Path) -> int | str:
    """How many nodes an ONNX file has, bodies of loops not counted; nothing of another format."""
    if written.suffix != ".onnx":
        return ""
    import onnx

    return len(onnx.load(str(written)).graph.node)


def measured(name: str, form: str, size: int) -> dict[str, Any]:
    """Export a model in the working folder, and verify the file."""
    import yolomix

    torch.manual_seed(0)
    model = yolomix.YOLO(name)
    started = cpu_seconds()
    written = Path(model.export(format=form, imgsz=size, device="cpu", verify=False))
    exported = cpu_seconds()
    found = yolomix.verify(model, written)
    verified = cpu_seconds()
    raw = next(check.numbers for check in found.checks if "differences" in check.numbers)
    theirs, ours = found.costs
    assert theirs.latency is not None
    assert ours.latency is not None
    row: dict[str, Any] = {
        "verified": found.verified,
        "size_mb": f"{theirs.size:.1f}",
        "nodes": nodes(written),
        "export_cpu_s": f"{exported - started:.1f}",
        "load_s": f"{theirs.load:.2f}",
        "memory_mb": f"{theirs.memory:.0f}",
        "cpu_ms": f"{theirs.latency.cpu_median:.1f}",
        "pytorch_cpu_ms": f"{ours.latency.cpu_median:.1f}",
        "ratio": f"{theirs.latency.cpu_median / ours.latency.cpu_median:.2f}",
        "verify_cpu_s": f"{verified - exported:.1f}",
        "note": "; ".join(found.remarks),
        "runtime": theirs.what,
    }
    for part in ("boxes", "scores"):
        row |= {part: f"{raw['differences'][part]:.1e}", f"{part}_allowed": f"{raw['allowed'][part]:.1e}"}
    return row


def main(argv: list[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS, help="names of packaged models, or grafts")
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--imgsz", type=int, default=640, help="side of the images in pixels")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch and of the runtime")
    parser.add_argument("--out", type=Path, help="CSV file; default: that of this machine in benchmarks/results")
    options = parser.parse_args(argv)
    from yolomix.host import offline

    offline.prepare()
    import ultralytics  # noqa: F401 - before the threads are set: it sets its own

    torch.set_num_threads(options.threads)
    path = (options.out or file()).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as opened, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        writer = csv.DictWriter(opened, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for name in options.models:
            for form in options.formats:
                row = {"model": name, "format": form, "imgsz": options.imgsz}
                row |= {**Conditions.here().row(), **measured(name, form, options.imgsz)}
                writer.writerow(row)
                opened.flush()
                print(*(f"{key} {row[key]}" for key in ("model", "format", "verified", "ratio")), flush=True)
        os.chdir(path.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
