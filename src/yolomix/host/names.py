"""Names of model YAMLs: packaged ones with their scale letter, and files in folders that Ultralytics misreads."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from yolomix import models


def yaml_model_load(native: Callable[..., dict[str, Any]], path: str | Path) -> dict[str, Any]:
    """A model description with its ``scale`` and ``yaml_file``, from a file, a packaged name or a host's name."""
    file = _ours(Path(path))
    if file is None:
        return _natively(native, path)
    from ultralytics.nn.tasks import guess_model_scale

    description: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    scale = models.scale_at_the_end(Path(path).stem) or guess_model_scale(path)
    return {**description, "scale": scale, "yaml_file": str(path)}


def _natively(native: Callable[..., dict[str, Any]], path: str | Path) -> dict[str, Any]:
    try:
        return native(path)
    except FileNotFoundError as error:
        stem = models.without_scale(Path(path).stem)
        near = difflib.get_close_matches(stem, models.names(), n=3, cutoff=0.5) or models.names()
        raise FileNotFoundError(
            f"no model file {str(path)!r} on disk, in Ultralytics or in yolomix, which has {', '.join(near)} "
            "(with a scale letter after the digits: yolo11n-mlla.yaml, or at the end without digits: mamba-yolo-t.yaml)"
        ) from error


def _ours(path: Path) -> Path | None:
    """The file we have to read ourselves, or None where Ultralytics finds its way.

    Ultralytics removes the scale letter with a pattern over the whole path, so that ``/env3s/yolo11n-a.yaml`` is looked
    up as ``/env3/yolo11n-a.yaml``; here only the file's name is changed.
    """
    if path.is_file():
        return None
    beside = path.with_name(models.without_scale(path.stem) + path.suffix)
    if beside != path and beside.is_file():
        return beside
    return models.find(str(path))
