"""Trainings of the tiny model that cost a second, and what one leaves behind."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.kind import Bad
from tests.tiny import TINY, write_dataset

RUN = Path("runs") / "run"
LAST, BEST = RUN / "weights" / "last.pt", RUN / "weights" / "best.pt"


def prepare() -> None:
    """``yolo0-tiny.yaml`` and ``data`` in this folder."""
    Path("yolo0-tiny.yaml").write_text(TINY)
    write_dataset(Path("data").resolve())


def train(epochs: int, callbacks: dict[str, Callable[[Any], None]] | None = None, **changes: Any) -> Any:
    """Train the tiny model; its trainer."""
    import yolomix

    model = yolomix.YOLO("yolo0n-tiny.yaml", verbose=False)
    for event, callback in (callbacks or {}).items():
        model.add_callback(event, callback)
    settings = {"data": "data/data.yaml", "imgsz": 32, "batch": 6, "workers": 0, "plots": False, "verbose": False}
    more = {"device": "cpu", "exist_ok": True, "val": False, "amp": False, "name": "run"}
    model.train(epochs=epochs, project=str(RUN.parent.resolve()), **{**settings, **more, **changes})
    return model.trainer


def resume(callbacks: dict[str, Callable[[Any], None]] | None = None) -> Any:
    """Go on with what ``last.pt`` holds; the trainer."""
    import yolomix

    model = yolomix.YOLO(str(LAST))
    for event, callback in (callbacks or {}).items():
        model.add_callback(event, callback)
    model.train(resume=True)
    return model.trainer


def epochs() -> list[int]:
    """The epochs that results.csv has rows for.

    Raises:
        Bad: a row is not complete, or has something in it that is no number.
    """
    file = RUN / "results.csv"
    if not file.exists():
        return []
    head, *rows = csv.reader(file.open())
    for row in rows:
        if len(row) != len(head) or not all(re.fullmatch(r"\s*[-+.\de]+|\s*(nan|inf)", value) for value in row):
            raise Bad(f"a row of results.csv is {row}, its head {head}")
    return [int(row[0]) for row in rows]


def kept_epoch(file: Path) -> int | None:
    """The epoch in a checkpoint, counted from 0; -1 for one that is finished; None if there is none.

    Raises:
        Bad: it is no whole checkpoint.
    """
    import torch

    if not file.exists():
        return None
    try:
        return int(torch.load(file, weights_only=False)["epoch"])
    except Exception as error:
        raise Bad(f"{file} is half: {type(error).__name__}: {error}") from error
