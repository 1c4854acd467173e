"""Model names that Ultralytics does not know, wherever it takes one: packaged models and grafts."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from ultralytics.nn import tasks

from yolomix import editing
from yolomix.host import names
from yolomix.surgery import grammar


def yaml_model_load(native: Callable[..., dict[str, Any]], path: str | Path) -> dict[str, Any]:
    """A model dictionary with its ``scale`` and ``yaml_file``; ``yolo11n+HaloAttention(2,1)@p5.yaml`` is made here.

    Raises:
        FileNotFoundError: nobody has it; the text has the near names of packaged models.
        GraftNameError: a name with grafts does not follow the grammar, or a graft does not fit.
    """
    if not names.resolve(path).grafts:
        return names.described(path, native)
    made = editing.edit(path)
    made.plan()
    return {**deepcopy(made.graph.model), "yaml_file": str(path)}


def model_file(native: Callable[..., Any], model: str | Path = "yolo11n") -> Any:
    """``check_model_file_from_stem``; a graft into a checkpoint is written beside it, and its file is the answer."""
    name = names.resolve(model)
    if not (name.grafts and name.has_weights):
        return native(model)
    base = Path(name.base)
    file = base.with_name(re.sub(r'[*?:"<>|]', "-", f"{base.stem}{grammar.written(name.grafts)}") + ".pt")
    outdated = file.is_file() and base.is_file() and base.stat().st_mtime > file.stat().st_mtime
    if outdated or not file.is_file():
        made = editing.edit(name.text).apply(file)
        tasks.LOGGER.info(f"yolomix: wrote {file}; {made.report.summary if made.report else ''}")
    return str(file)
