"""``YOLO`` of Ultralytics, which also finds our packaged model names."""

from __future__ import annotations

from pathlib import Path

from ultralytics import YOLO as _YOLO


class YOLO(_YOLO):
    """``ultralytics.YOLO`` that also builds our packaged models and says which there are.

    Our own code opens models with it. ``yolomix.YOLO``, which explains the arguments, also verifies what it exports.
    """

    def __init__(self, model: str | Path = "yolo11n-mlla.yaml", task: str | None = None, verbose: bool = False) -> None:
        super().__init__(model, task=task, verbose=verbose)
