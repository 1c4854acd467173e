"""The verb ``demo``: a progress bar while it works, then one table."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from yolomix.host import offline
from yolomix.host.streams import output_to
from yolomix.cli.request import Request, UsageError

if TYPE_CHECKING:
    from yolomix.demo import Outcome

LOG = "ultralytics.log"


def demo(request: Request) -> None:
    """Run the demo and print its table.

    Raises:
        UsageError: an argument is unknown or no whole number.
        RuntimeError: the exported model answers differently.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded, which is next
    started = time.perf_counter()
    from yolomix import demo as job

    given = {"seed": "0", "epochs": str(job.EPOCHS), "out": "runs/demo", **request.values}
    seed, epochs, out = _whole(given, "seed", 0), _whole(given, "epochs", 1), Path(given["out"])
    offline.prepare()
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOG).open("w", encoding="utf-8") as log, _bar() as bar, output_to(log), redirect_stderr(log):
        task = bar.add_task("starting", total=None)
        outcome = job.run(
            out, seed, epochs, lambda done, total, what: bar.update(task, completed=done, total=total, description=what)
        )
    seconds = time.perf_counter() - started
    if request.json:
        sys.stdout.write(
            json.dumps(
                {**dataclasses.asdict(outcome), "agrees": outcome.agrees, "all_seconds": seconds}, default=_plain
            )
            + "\n"
        )
    else:
        _show(outcome, f"yolo11n-mlla from scratch on the sample data: seed {seed}, {epochs} epochs", seconds, out)
    if outcome.agrees is False:
        raise RuntimeError(f"the ONNX file answers differently from PyTorch: by {outcome.difference:.1e}")


def _show(outcome: Outcome, title: str, seconds: float, out: Path) -> None:
    table = Table(title=title)
    heads = ("parameters", "GFLOPs at 640", "ms per image", "mAP50", "mAP50-95", "time")
    for head in heads:
        table.add_column(head, justify="right")
    table.add_row(
        f"{outcome.parameters:,}",
        f"{outcome.gflops:.2f}",
        f"{outcome.ms:.1f}",
        f"{outcome.map50:.3f}",
        f"{outcome.map:.3f}",
        f"{seconds:.0f} s",
    )
    same = "no comparison"
    if outcome.difference is not None:
        verdict = "same answers as PyTorch" if outcome.agrees else "NOT the answers of PyTorch"
        same = f"{verdict}, largest difference {outcome.difference:.1e}"
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    console.print(table)
    console.print(
        f"threads   {outcome.threads}, training {outcome.seconds:.0f} s; GFLOPs counted by FlopCounterMode of PyTorch\n"
        f"weights   {outcome.weights}\npictures  {outcome.pictures[0]}\n"
        f"ONNX      {outcome.onnx}: {same}\nlog       {out / LOG}",
        soft_wrap=True,
        markup=False,
    )


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False, redirect_stderr=False)


def _whole(given: dict[str, str], key: str, least: int) -> int:
    text = given[key]
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{key} must be a whole number of at least {least}, got {text!r}")
    return int(text)


def _plain(value: object) -> str:
    return str(value)
