"""The verb ``demo``: progress while it works, on a terminal as a bar, elsewhere as lines; then one table."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

from yolomix.cli.answer import Answer, Table
from yolomix.host import offline
from yolomix.host.streams import output_to

if TYPE_CHECKING:
    from yolomix.demo import Exported, Outcome

LOG = "ultralytics.log"
INTERVAL = 8.0  # seconds between lines of progress


def demo(*, seed: int, epochs: int, out: str | Path) -> Answer:
    """Run the demo and show its table.

    Args:
        seed: of the initial weights and the order of images.
        epochs: passes over the sample dataset.
        out: folder for the results.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded, which is next
    started = time.perf_counter()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with (
        (out / LOG).open("w", encoding="utf-8") as log,
        _bar() if sys.stderr.isatty() else _lines_of_progress() as progress,
        output_to(log),
        redirect_stderr(log),
    ):
        progress(0, 1, "loading PyTorch and Ultralytics")
        from yolomix import demo as job

        offline.prepare()
        outcome = job.run(out, seed, epochs, progress)
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


@contextmanager
def _bar() -> Iterator[Callable[[int, int, str], None]]:
    """A bar that is redrawn all the time."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)


@contextmanager
def _lines_of_progress() -> Iterator[Callable[[int, int, str], None]]:
    """A line at once and every ``INTERVAL`` seconds, also while one step takes longer than that."""
    stream, started = sys.stderr, time.monotonic()
    state, over = ["starting"], threading.Event()

    def _write() -> None:
        while True:
            print(f"{time.monotonic() - started:4.0f} s  {state[0]}", file=stream, flush=True)
            if over.wait(INTERVAL):
                return

    def _progress(done: int, total: int, what: str) -> None:
        state[0] = f"{what}, step {done} of {total}" if total > 1 else what

    writer = threading.Thread(target=_write, daemon=True)
    writer.start()
    try:
        yield _progress
    finally:
        over.set()
        writer.join()
