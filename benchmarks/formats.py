"""Which models convert to which formats, and agree with PyTorch there: ``python -m benchmarks.formats``.

A cell, one model in one format, is exported and verified in a process of its own that may take so long and no longer:
converters hang, run out of memory and crash. A row is written as soon as it is known, and a second call goes on where
the first ended; a row that is deleted is made again.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.table import RESULTS
from yolomix.models import zoo
from yolomix.records import Conditions

MODELS = (*(model.typed(next(iter(model.parameters))) for model in zoo().values()), "yolov8n+VSSBlock@p5.yaml")
# The packages whose versions stand beside the result of each format.
PACKAGES = {
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "torchscript": ("torch",),
    "ncnn": ("ncnn", "pnnx"),
    "mnn": ("MNN",),
    "litert": ("litert-torch", "ai-edge-litert"),
    "coreml": ("coremltools", "numpy"),
    "executorch": ("executorch",),
    "paddle": ("paddlepaddle", "x2paddle"),
}
UNRUN = {} if sys.platform == "darwin" else {"coreml": "runs on macOS alone"}
FOUND = (
    "converts", "agrees", "reason", "boxes", "boxes_allowed", "scores", "scores_allowed", "mb", "export_cpu_s",
    "verify_cpu_s",
)  # fmt: skip
COLUMNS = (
    "model", "format", "imgsz", *FOUND, "packages", "torch", "ultralytics", "yolomix", "python", "machine", "system",
    "date",
)  # fmt: skip
Row = dict[str, Any]


def file() -> Path:
    """Where the results of this machine are."""
    return RESULTS / f"formats-{Conditions.here().slug}.csv"


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def matrix(models: Iterable[str], forms: Iterable[str], size: int, limit: float, path: Path) -> Iterator[Row]:
    """Fill the cells that a file has not yet, one after the other; every new row.

    Args:
        models: packaged names, checkpoints or grafts.
        forms: values of ``format=``.
        size: side of the images, in pixels.
        limit: how long a cell may take, in seconds.
        path: CSV file with a row for each cell.
    """
    known = {(row["model"], row["format"], row["imgsz"]) for row in read(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        if is_new:
            writer.writeheader()
        for name in models:
            for form in forms:
                if (name, form, str(size)) in known:
                    continue
                row = {**Conditions.here().row(), **cell(name, form, size, limit), "packages": versions(form)}
                writer.writerow(row)
                opened.flush()
                yield row


def cell(name: str, form: str, size: int, limit: float) -> Row:
    """Export and verify in a process of its own, which is ended after ``limit`` seconds."""
    row: Row = {"model": name, "format": form, "imgsz": size}
    with tempfile.TemporaryDirectory(prefix="yolomix-formats-", ignore_cleanup_errors=True) as folder:
        found, said = Path(folder, "found.json"), Path(folder, "said.log")
        paths = f"{Path(__file__).parents[1]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        with said.open("wb") as log:
            process = subprocess.Popen(
                command(name, form, size), cwd=folder, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": paths}
            )
            try:
                code = process.wait(limit)
                ended = f"its process ended with {code}" if code else ""
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                ended = f"not done after {limit:.0f} s"
        if found.exists():
            row |= json.loads(found.read_text(encoding="utf-8"))
        if ended:
            last = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            row["reason"] = ": ".join([ended, *last])[:300]
    return row


def command(name: str, form: str, size: int) -> list[str]:
    """What starts the process of a cell."""
    return [sys.executable, "-m", "benchmarks.formats", "--cell", name, form, str(size)]


def fill(name: str, form: str, size: int) -> None:
    """What the process of a cell does: ``found.json`` in the working folder, after the export and after verifying."""
    import yolomix
    from yolomix.host import offline, tools

    offline.prepare()
    # What a package declares is not what it does, so it is tried: the row says with which versions.
    tools.another_pytorch = tools.another_version = lambda requirement: None
    model = untrained(name)
    row: Row = {"converts": False}
    started = _cpu_seconds()
    try:
        written = Path(model.export(format=form, imgsz=size, device="cpu", verify=False))
    except Exception as error:  # noqa: BLE001, a converter raises whatever it likes
        _write(row | {"reason": _short(f"{type(error).__name__}: {error}")})
        return
    exported = _cpu_seconds()
    row |= {"converts": True, "mb": f"{_megabytes(written):.1f}", "export_cpu_s": f"{exported - started:.0f}"}
    _write(row | {"reason": UNRUN.get(form, "")})
    if form in UNRUN:
        return
    found = yolomix.verify(model, written)
    row |= {"agrees": found.verified, "verify_cpu_s": f"{_cpu_seconds() - exported:.0f}"}
    row["reason"] = _short("; ".join(f"{check.name}: {check.found}" for check in found.failed) or found.refusal)
    for raw in (check.numbers for check in found.checks if "differences" in check.numbers):
        for part in ("boxes", "scores"):
            if part in raw["differences"]:
                row |= {part: f"{raw['differences'][part]:.1e}", f"{part}_allowed": f"{raw['allowed'][part]:.1e}"}
    _write(row)


def untrained(name: str) -> Any:
    """A model with random weights whose norms, scores and routes are not those of a new one, which are nearly equal."""
    import torch
    from torch import nn

    import yolomix

    torch.manual_seed(0)
    model = yolomix.YOLO(name)
    for path, module in model.model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, nn.Linear) and ".route." in path:
            module.weight.data.normal_()
    for branch in getattr(model.model.model[-1], "cv3", ()):
        branch[-1].bias.data.normal_()
    return model


def versions(form: str) -> str:
    """The packages of a format with the versions that are installed.

    >>> versions("torchscript").startswith("torch 2")
    True
    """
    found = []
    for package in PACKAGES.get(form, ()):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


def _cpu_seconds() -> float:
    """CPU time of this process and of its processes that have ended."""
    return sum(os.times()[:4])


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files) / 1e6


def _short(text: str) -> str:
    """A line of a message that may have hundreds."""
    return " ".join(text.split())[:300]


def _write(row: Row) -> None:
    Path("found.json").write_text(json.dumps(row, default=str), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Fill what is not known yet, and show it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.formats", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS, help="packaged names, or grafts")
    parser.add_argument("--formats", nargs="+", default=tuple(PACKAGES))
    parser.add_argument("--imgsz", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--limit", type=float, default=300, help="seconds that a cell may take")
    parser.add_argument("--out", type=Path, help="CSV file; default: that of this machine in benchmarks/results")
    parser.add_argument("--cell", nargs=3, metavar=("MODEL", "FORMAT", "IMGSZ"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.cell:
        name, form, size = options.cell
        fill(name, form, int(size))
        return 0
    for row in matrix(options.models, options.formats, options.imgsz, options.limit, options.out or file()):
        print(*(row.get(key, "") for key in ("model", "format", *FOUND)), sep="  ", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
