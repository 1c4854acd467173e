"""Names of model YAMLs: packaged ones with their scale letter, and files in folders that Ultralytics misreads."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from yolomix import models
from yolomix.models import Packaged


def yaml_model_load(native: Callable[..., dict[str, Any]], path: str | Path) -> dict[str, Any]:
    """A model description with its ``scale`` and ``yaml_file``, from a file, a packaged name or a host's name.

    Raises:
        FileNotFoundError: nobody has it; the text has the near names of packaged models.
    """
    found = None if Path(path).is_file() else _beside(Path(path)) or models.find(str(path))
    if found is None:
        return _natively(native, path)
    description: dict[str, Any] = yaml.safe_load(found.file.read_text(encoding="utf-8"))
    return {**description, "scale": found.scale, "yaml_file": str(path)}


def _beside(path: Path) -> Packaged | None:
    """The file without the scale letter in the same folder, for ``folder/yolo11n-a.yaml``.

    Ultralytics removes the letter with a pattern over the whole path, so that it looks for ``/env3s/yolo11n-a.yaml`` in
    ``/env3``.
    """
    readings = (Packaged(path.with_name(stem + path.suffix), scale) for stem, scale in models.readings_of(path.stem))
    return next((found for found in readings if found.file.is_file()), None)


def _natively(native: Callable[..., dict[str, Any]], path: str | Path) -> dict[str, Any]:
    try:
        return native(path)
    except FileNotFoundError as error:
        near = {
            name: None
            for stem, _ in models.readings_of(Path(path).stem)
            for name in difflib.get_close_matches(stem, models.names(), n=3, cutoff=0.6)
        }
        raise FileNotFoundError(
            f"no model file {str(path)!r} on disk, in Ultralytics or in yolomix, which has "
            f"{', '.join(near or models.names())} (with a scale letter after the digits: yolo11n-mlla.yaml)"
        ) from error
