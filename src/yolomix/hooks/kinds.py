"""What kind of model a YAML is: its last row says it, whatever the file and the head are called.

Ultralytics takes the task from the name of the head, and RT-DETR, YOLO-World and YOLOE from the name of the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ultralytics
from torch import nn
from ultralytics.cfg import TASK2MODEL, TASKS
from ultralytics.nn import tasks

from yolomix.host import names
from yolomix.nn import heads
from yolomix.nn.registry import BLOCKS

# The class of models for heads that have one of their own.
OWN_CLASS = {"RTDETRDecoder": "RTDETR", "WorldDetect": "YOLOWorld", "YOLOEDetect": "YOLOE", "YOLOESegment": "YOLOE"}


def guess_model_task(native: Callable[..., str], model: Any) -> str:
    """The task of a model dictionary or model; of a head of one's own that of its parent."""
    described = model
    if isinstance(model, nn.Module):
        args = getattr(model, "args", None)
        described = None if isinstance(args, dict) and "task" in args else getattr(model, "yaml", None)
    head = _head(described)
    if head is None:
        return native(model)
    if _is(head, "RTDETRDecoder"):
        return "detect"
    name = (heads.parent(head) or head).__name__
    return native({"head": [[-1, 1, name, []]]})


def new(native: Callable[..., None], model: Any, cfg: str, *args: Any, **kwargs: Any) -> None:
    """``Model._new``, which builds a model from a YAML; before that, the object becomes what the last row says.

    Raises:
        ValueError: the last row is no head, and nobody says the task; or the task said is not that of the head.
    """
    described: dict[str, Any] = {}
    # What is wrong with the file the native function meets too, and what it raises is for the user.
    with contextlib.suppress(OSError, ValueError):
        described = names.described(names.resolve(cfg).base)  # a graft leaves the head alone, so the base says enough
    head = _head(described)
    if head is not None:
        _check_task(cfg, head, kwargs.get("task", args[0] if args else None))
        _become(model, head)
    try:
        native(model, cfg, *args, **kwargs)
    except NotImplementedError as error:  # Ultralytics: no task
        last = (described.get("head") or described.get("backbone") or ["nothing"])[-1]
        raise ValueError(
            f"{cfg}: its last row {last} is no head, so that nobody knows its task; a model ends in a row such as "
            "[[15, 18, 21], 1, Detect, [nc]]"
        ) from error


def load(native: Callable[..., None], model: Any, *args: Any, **kwargs: Any) -> None:
    """``Model._load``, which opens a checkpoint; a ``YOLO`` then becomes what the head is made for."""
    native(model, *args, **kwargs)
    layers = getattr(model.model, "model", None)
    if isinstance(layers, nn.Sequential) and type(layers[-1]).__name__ in BLOCKS:
        _become(model, type(layers[-1]))


def _head(described: Any) -> type[nn.Module] | None:
    """The class of the last row of a model dictionary; None if nobody knows it."""
    try:
        name = described["head"][-1][2]
    except (TypeError, KeyError, IndexError):
        return None
    if not isinstance(name, str):
        return None
    if name in BLOCKS:
        return BLOCKS[name].cls
    found = getattr(tasks, str(name), None)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def _check_task(file: str, head: type[nn.Module], task: str | None) -> None:
    """Raise unless the head is for the task that somebody said, whose loss and metrics it has to feed."""
    if task is None:
        return
    if task not in TASKS:
        raise ValueError(f"no task {task!r}; there are {', '.join(sorted(TASKS))}")
    try:
        found = tasks.guess_model_task({"head": [[-1, 1, head.__name__, []]]})
    except NotImplementedError:  # nobody knows but who said it
        return
    if found != task and not (task == "detect" and _is(head, "Detect")):  # the other heads detect too
        stock = Path(TASK2MODEL[task]).stem
        example = names.for_another_task(f"{Path(file).stem}-{stock.rpartition('-')[2]}") or f"{stock}.yaml"
        raise ValueError(
            f"{file} is a model for {found}, its last row is {head.__name__}. Leave task={task} out, or take a model "
            f"for it, such as model='{example}'"
        )


def _is(head: type, name: str) -> bool:
    """Whether a head is the one of that name in Ultralytics, or derives from it."""
    return any(base.__name__ == name and base.__module__ == heads.HOME for base in head.__mro__)


def _become(model: Any, head: type[nn.Module]) -> None:
    """Turn the object that a user sees into the class for a head, as Ultralytics itself does with checkpoints."""
    if heads.parent(head) is None and head.__module__ != heads.HOME:
        return
    wanted = "YOLO"
    for name, own in OWN_CLASS.items():
        if _is(head, name):
            wanted = own
    known = [getattr(ultralytics, name) for name in {"YOLO", *OWN_CLASS.values()} if hasattr(ultralytics, name)]
    cls = getattr(ultralytics, wanted)
    if isinstance(model, tuple(known)) and not isinstance(model, cls):
        model.__class__ = cls
