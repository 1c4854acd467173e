"""The verb ``demo``: a progress bar while it works, then one table."""

from __future__ import annotations

import os
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

from yolomix.cli.answer import Answer, Table
from yolomix.host import offline
from yolomix.host.streams import output_to

if TYPE_CHECKING:
    from rich.progress import Progress

    from yolomix.demo import Exported, Outcome

LOG = "ultralytics.log"


def demo(*, seed: int, epochs: int, out: str | Path) -> Answer:
    """Run the demo and show its table.

    Args:
        seed: of the initial weights and the order of images.
        epochs: passes over the sample dataset.
        out: folder for the results.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded, which is next
    started = time.perf_counter()
    from yolomix import demo as job

    offline.prepare()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOG).open("w", encoding="utf-8") as log, _bar() as bar, output_to(log), redirect_stderr(log):
        task = bar.add_task("starting", total=None)

        def _progress(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        outcome = job.run(out, seed, epochs, _progress)
    seconds = time.perf_counter() - started
    title = f"yolo11n-mlla from scratch on the sample dataset: seed {seed}, {epochs} epochs"
    data = {"verb": "demo", **outcome.to_dict(), "total_seconds": seconds}
    return Answer(data, [_table(outcome, title, seconds), *_lines(outcome)], _fault(outcome.onnx))


def _table(outcome: Outcome, title: str, seconds: float) -> Table:
    metrics = outcome.record.metrics
    cells = {
        "parameters": f"{outcome.parameters:,}",
        "GFLOPs at 640": f"{outcome.gflops:.2f}",
        "ms per image": f"{outcome.latency_ms:.1f}",
        "mAP50": f"{metrics['metrics/mAP50(B)']:.3f}",
        "mAP50-95": f"{metrics['metrics/mAP50-95(B)']:.3f}",
        "time": f"{seconds:.0f} s",
    }
    return Table([*cells], [[*cells.values()]], title, numbers=True)


def _lines(outcome: Outcome) -> list[str]:
    conditions = outcome.record.conditions
    return [
        f"threads   {conditions.threads}, training {outcome.training_seconds:.0f} s; GFLOPs counted by FlopCounterMode "
        "of PyTorch",
        f"processor {conditions.processor}, {conditions.processor.vector}",
        f"weights   {outcome.weights}",
        f"images    {outcome.images[0]}",
        f"ONNX      {outcome.onnx.file or outcome.onnx.refusal}: {_verdict(outcome.onnx)}",
        f"log       {outcome.save_dir / LOG}",
    ]


def _verdict(onnx: Exported) -> str:
    if onnx.difference is None:
        return "no comparison"
    same = "same answers as PyTorch" if onnx.agrees else "NOT the answers of PyTorch"
    return f"{same}, largest difference {onnx.difference:.1e}"


def _fault(onnx: Exported) -> str:
    """Why the command failed; empty where the exported file agrees, or where there is none."""
    if onnx.agrees is False:
        return f"the ONNX file answers differently from PyTorch: by {onnx.difference:.1e}"
    return ""


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False, redirect_stderr=False)
