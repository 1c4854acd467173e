"""What FP16 and INT8 cost trained models: ``python -m benchmarks.precision CHECKPOINT... --data your.yaml``.

INT8 is calibrated on the training images. Both sides are evaluated on the validation images; the file in its own
runtime, in a process of its own. A row is written as soon as it is known, and a second call goes on where the first
ended; a row that is deleted is made again.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import yolomix
from benchmarks.table import RESULTS
from yolomix.data import sample_dataset
from yolomix.host import evaluating, exported, offline, predicting
from yolomix.host.exported import Contents
from yolomix.matrix.filling import packages_of
from yolomix.records import Conditions
from yolomix.statistics import has_ramp
from yolomix.verifying import accuracy
from yolomix.verifying.images import chosen
from yolomix.verifying.reference import Reference
from yolomix.verifying.runtime import Runtime

PRECISIONS = {"FP32": 32, "FP16": 16, "INT8": 8}  # as quantize= says them
CELLS = tuple((form, name) for form in ("onnx", "openvino") for name in PRECISIONS)
MORE = (*(("mnn", name) for name in PRECISIONS), ("torchscript", "FP32"))  # TorchScript has no FP16 on a CPU
WARM, PASSES = 3, 13
FOUND = ("map", "map_file", "difference", "low", "high", "images", "mb", "cpu_ms", "pytorch_cpu_ms", "ratio", "reason")
COLUMNS = (
    "model", "data", "format", "precision", "imgsz", *FOUND, "packages", "torch", "ultralytics", "yolomix", "python",
    "threads", "machine", "vector", "system", "date",
)  # fmt: skip
Row = dict[str, Any]


def file() -> Path:
    """Where the results of this machine are."""
    return RESULTS / f"precision-{Conditions.here().slug}.csv"


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


class Trained:
    """A checkpoint, and what PyTorch makes of it.

    Args:
        checkpoint: of a detector, in a file that is called as the model is.
        data: the dataset YAML that has its classes, or ``sample``.
    """

    def __init__(self, checkpoint: Path, data: str) -> None:
        self.yolo: Any = yolomix.YOLO(str(checkpoint.resolve()))
        self.name = checkpoint.stem
        self.place = str(sample_dataset("detect")) if data == "sample" else str(Path(data).resolve())
        self.imgsz: int = self.yolo.model.args["imgsz"]
        self.arguments = {
            "data": self.place, "split": "val", "imgsz": self.imgsz, "batch": 1, "rect": False, "plots": False,
            "workers": 0, "verbose": False, "device": "cpu", "exist_ok": True,
        }  # fmt: skip

    @cached_property
    def matched(self) -> evaluating.Matched:
        """What PyTorch finds in the validation images."""
        return evaluating.evaluate(evaluating.copied(self.yolo), None, {**self.arguments, "project": os.getcwd()})

    def cell(self, form: str, precision: str) -> Row:
        """Export into the working folder, evaluate the file, and time it and PyTorch in turns."""
        given: Row = {"format": form, "imgsz": self.imgsz, "quantize": PRECISIONS[precision], "device": "cpu"}
        if precision == "INT8" and form != "mnn":  # which has INT8 weights, and calibrates nothing
            given |= {"data": self.place, "split": "train"}
        written = Path(self.yolo.export(**given, verify=False)).resolve()
        with Runtime(written, torch.get_num_threads()) as runtime:
            arguments = {**self.arguments, "project": os.getcwd()}
            theirs = runtime.evaluate("YOLO", str(written), "detect", arguments)
            contents = Contents.of(runtime.opened["metadata"], half=runtime.opened["half"])
            row = self._timed(runtime, contents)
        check = accuracy.judged(self.matched, theirs, precision, has_ramp(evaluating.compute_ap))
        low, high = check.numbers["interval"]
        return row | {
            "map": f"{check.numbers['pytorch']:.4f}",
            "map_file": f"{check.numbers['file']:.4f}",
            "difference": f"{check.numbers['difference']:+.4f}",
            "low": f"{low:+.4f}",
            "high": f"{high:+.4f}",
            "images": len(theirs.images),
            "mb": f"{exported.megabytes(written):.1f}",
        }

    def _timed(self, runtime: Runtime, contents: Contents) -> Row:
        reference = Reference(self.yolo.model, contents, rows=None)
        images, _ = chosen(self.place, "detect", Path())
        x = next(iter(predicting.shown(self.yolo, images[:1], contents)))
        pairs = [(runtime.run(x.numpy()).cpu, reference.timed(x).cpu) for _ in range(WARM + PASSES)]
        its, ours = (1e3 * statistics.median(cpu) for cpu in zip(*pairs[WARM:], strict=True))
        return {"cpu_ms": f"{its:.1f}", "pytorch_cpu_ms": f"{ours:.1f}", "ratio": f"{its / ours:.2f}"}


def measured(checkpoints: Iterable[Path], data: str, cells: Iterable[tuple[str, str]], path: Path) -> Iterator[Row]:
    """Fill the cells that a file has not yet, one after the other; every new row.

    Args:
        checkpoints: of trained detectors.
        data: the dataset YAML that has their classes, or ``sample``.
        cells: formats and precisions.
        path: CSV file with a row for each cell.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {(row["model"], row["data"], row["format"], row["precision"]) for row in read(path)}
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        if is_new:
            writer.writeheader()
        for checkpoint in checkpoints:
            trained, short = Trained(checkpoint, data), "/".join(Path(data).parts[-2:])
            for form, precision in cells:
                key = {"model": trained.name, "data": short, "format": form, "precision": precision}
                if tuple(key.values()) in known:
                    continue
                row = {**Conditions.here().row(), **key, "imgsz": trained.imgsz, "packages": packages_of(form)}
                try:
                    row |= trained.cell(form, precision)
                except Exception as error:  # noqa: BLE001, a converter raises whatever it likes
                    row["reason"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                writer.writerow(row)
                opened.flush()
                yield row


def main(argv: list[str] | None = None) -> int:
    """Fill what is not known yet, and show it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__.splitlines()[0])
    parser.add_argument(
        "checkpoints",
        nargs="+",
        type=Path,
        help="of trained detectors, called as the models are: yolo11n+VSSBlock@p5.pt",
    )
    parser.add_argument("--data", default="sample", help="dataset YAML that has their classes; default: the sample")
    parser.add_argument("--more", action="store_true", help="also MNN and TorchScript")
    parser.add_argument("--out", type=Path, help="CSV file; default: that of this machine in benchmarks/results")
    options = parser.parse_args(argv)
    offline.prepare()
    torch.set_num_threads(1)
    checkpoints = [checkpoint.resolve() for checkpoint in options.checkpoints]
    data = options.data if options.data == "sample" else str(Path(options.data).resolve())
    path, cells = (options.out or file()).resolve(), CELLS + MORE if options.more else CELLS
    with tempfile.TemporaryDirectory(prefix="yolomix-precision-", ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        for row in measured(checkpoints, data, cells, path):
            print(*(row.get(key, "") for key in ("model", "format", "precision", *FOUND)), sep="  ", flush=True)
        os.chdir(path.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
