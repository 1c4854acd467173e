"""Weights from one model into another, whatever their layers are numbered, with a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from yolomix.surgery.report import Report


def transfer(source: Any, target: Any, save: str | Path | None = None, any_task: bool = False) -> Report:
    """Copy the weights of one model into another: layers are matched in order by what fits.

    The same happens inside ``model.load(...)`` and ``train(pretrained=...)`` of Ultralytics, which report in the log
    and in ``weights/transfer.txt`` of the run. The class count and the class names are handled as Ultralytics does.

    Args:
        source: a checkpoint file or a model.
        target: a model to change, or the name of a model YAML to build.
        save: a .pt file for the target; the report is written beside it. Needed when ``target`` is a name.
        any_task: take the backbone and neck of a model for another task, too.

    Returns: what became of every tensor; ``print`` it for a table.

    Raises:
        ValueError: not one tensor was copied, or the tasks differ, or the result would be lost.
        FileNotFoundError: no such file.
        FileExistsError: ``save`` is the source.
    """
    from yolomix.host import weights

    if save is None and isinstance(target, str | Path):
        raise ValueError(f"transfer into {str(target)!r} builds a model; give save='name.pt' to keep it, or a YOLO")
    if save is not None and Path(save).suffix != ".pt":
        raise ValueError(f"a model with weights is saved as .pt, got {str(save)!r}")
    if save is not None and isinstance(source, str | Path) and Path(save).resolve() == Path(source).resolve():
        raise FileExistsError(f"{save} is the source, which stays as it is; give another file name: save=...")
    given = weights.read(source) if isinstance(source, str | Path) else _module(source, "source")
    taken = weights.from_yaml(target) if isinstance(target, str | Path) else _module(target, "target")
    if given.task != taken.task and not any_task:
        raise ValueError(
            f"the source is a {given.task} model and the target a {taken.task} model; give any_task=True to copy the "
            "layers that they share"
        )
    report = weights.copy_weights(given, taken)
    if save is not None:
        file = weights.write(taken, save)
        report.save(file.with_name(f"{file.stem}-transfer.txt"))
    return report


def _module(model: Any, role: str) -> Any:
    """The module of a model, which a YOLO has inside."""
    inside = model if isinstance(getattr(model, "model", None), nn.Sequential) else getattr(model, "model", None)
    if not isinstance(getattr(inside, "model", None), nn.Sequential):
        raise TypeError(f"the {role} is a file, a YOLO or its model, got {type(model).__name__}")
    return inside
