"""Names that say a graft, wherever Ultralytics takes a model's name: see ``yolomix.surgery.names``."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from ultralytics.nn import tasks

from yolomix.host import names as files
from yolomix.surgery import names


def yaml_model_load(native: Callable[..., dict[str, Any]], path: str | Path) -> dict[str, Any]:
    """As :func:`yolomix.host.names.yaml_model_load`, and ``yolo11n+HaloAttention(2,1)@p5.yaml`` is made on the spot."""
    if not names.is_graft(path):
        return files.yaml_model_load(native, path)
    from yolomix.grafting import from_name

    made = from_name(str(path))
    made.plan()
    return {**deepcopy(made.graph.model), "yaml_file": str(path)}


def model_file(native: Callable[..., Any], model: str | Path = "yolo11n") -> Any:
    """``check_model_file_from_stem``; a graft into a checkpoint is written beside it, and its file is the answer."""
    name = str(model)
    if not names.is_graft(name) or name.endswith((".yaml", ".yml")):
        return native(model)
    from yolomix.grafting import from_name

    parsed = names.parse(name)
    file = Path(parsed.base)
    file = file.with_name(re.sub(r'[*?:"<>|]', "-", f"{file.stem}{names.written(parsed.parts)}") + ".pt")
    if not file.is_file() or (Path(parsed.base).is_file() and Path(parsed.base).stat().st_mtime > file.stat().st_mtime):
        made = from_name(name).apply(file)
        tasks.LOGGER.info(f"yolomix: wrote {file}; {made.report.summary if made.report else ''}")
    return str(file)
