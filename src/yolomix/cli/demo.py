"""The verb ``demo``: progress while it works, then one table."""

from __future__ import annotations

import os
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

from yolomix import progress
from yolomix.cli.answer import Answer, Table
from yolomix.host import offline
from yolomix.host.streams import output_to

if TYPE_CHECKING:
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
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with (
        (out / LOG).open("w", encoding="utf-8") as log,
        progress.shown("loading PyTorch and Ultralytics") as said,
        output_to(log),
        redirect_stderr(log),
    ):
        from yolomix import demo as job

        offline.prepare()
        outcome = job.run(out, seed, epochs, said)
    seconds = time.perf_counter() - started
    title = f"yolo11n-mlla from scratch on the sample dataset: seed {seed}, {epochs} epochs"
    data = {"verb": "demo", **outcome.to_dict(), "total_seconds": seconds}
    shown: list[str | Table] = [title, "", _table(outcome, seconds), "", _facts(outcome)]
    return Answer(data, shown, _fault(outcome.onnx))


def _table(outcome: Outcome, seconds: float) -> Table:
    metrics = outcome.record.metrics
    cells = {
        "parameters": f"{outcome.parameters:,}",
        "GFLOPs at 640": f"{outcome.gflops:.2f}",
        "ms per image": f"{outcome.latency_ms:.1f}",
        "mAP50": f"{metrics['metrics/mAP50(B)']:.3f}",
        "mAP50-95": f"{metrics['metrics/mAP50-95(B)']:.3f}",
        "seconds": f"{seconds:.0f}",
    }
    return Table([*cells], [[*cells.values()]])


def _facts(outcome: Outcome) -> Table:
    conditions = outcome.record.conditions
    training = f"training {outcome.training_seconds:.0f} s"
    facts = {
        "threads": f"{conditions.threads}, {training}",
        "processor": f"{conditions.processor}, {conditions.processor.vector}",
        "weights": str(outcome.weights),
        "images": str(outcome.images[0]),
        "ONNX": f"{outcome.onnx.file or outcome.onnx.refusal}: {_verdict(outcome.onnx)}",
        "log": str(outcome.save_dir / LOG),
    }
    return Table((), [*facts.items()])


def _verdict(onnx: Exported) -> str:
    if onnx.agrees is None or onnx.difference is None:
        return "no comparison"
    same = "same answers as PyTorch" if onnx.agrees else "NOT the answers of PyTorch"
    return f"{same}, largest difference {onnx.difference:.1e}"


def _fault(onnx: Exported) -> str:
    """Why the command failed; empty where the exported file agrees, or where there is none."""
    if onnx.agrees is False:
        assert onnx.verification is not None
        return onnx.verification.advice
    return ""
