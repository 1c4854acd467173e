"""Model names that Ultralytics does not know, wherever it takes one: packaged models and grafts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from ultralytics.nn import tasks

from yolomix import editing
from yolomix.host import entry, names
from yolomix.surgery import writing


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
    """``check_model_file_from_stem``; a graft into a checkpoint is written beside it, and its file is the answer.

    What is in the file decides whether it is the graft, not its name or date.

    Raises:
        FileNotFoundError: it is neither on disk nor offered by Ultralytics; the text has near names.
        FileExistsError: a file of that name was not written for a graft, or has been trained since.
    """
    name = names.resolve(model)
    if not (name.grafts and name.has_weights):
        entry.check_there(model)
        return native(model)
    plan = editing.edit(name.text).plan()
    base = Path(name.base)
    stem = f"{base.stem}{writing.written(name.grafts)}"
    file = base.with_name(re.sub(r'[~*?:"<>|]', _escaped, stem) + ".pt")
    if not os.path.lexists(file) or not plan.is_in(file):
        made = plan.apply(file)
        tasks.LOGGER.info(f"yolomix: wrote {file}; {made.report.summary if made.report else ''}")
    return str(file)


def _escaped(character: re.Match[str]) -> str:
    """A character that not every file system takes, written so that two names never become one."""
    return f"~{ord(character[0]):02X}"
