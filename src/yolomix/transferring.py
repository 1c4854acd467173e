"""Weights from one model into another, whatever their layer indices: align, load, compare; and a report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch

from yolomix import files
from yolomix.host import weights
from yolomix.host.weights import Model
from yolomix.surgery.align import Order, align, plain, seated
from yolomix.surgery.report import Fate, Outcome, Report

Load = Callable[[Model, Model], None]  # target and source: loads what has the same name and shape
Key = tuple[int | None, str]  # a layer of the source, and a tensor's plain name in it


def transfer(source: Any, target: Any, save: str | Path | None = None, any_task: bool = False) -> Report:
    """Copy the weights of one model into another: layers are matched in order by what fits.

    The same happens inside ``model.load(...)`` and ``train(pretrained=...)`` of Ultralytics, which report in the log
    and in ``weights/transfer.txt`` of the run. The class count and the class names are handled as Ultralytics does.

    >>> import yolomix
    >>> Path("small.yaml").write_text('''
    ... nc: 2
    ... backbone: [[-1, 1, Conv, [16, 3, 2]]]
    ... head: [[[0], 1, Detect, [nc]]]
    ... ''') and None
    >>> Path("grafted.yaml").write_text('''
    ... nc: 2
    ... backbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, MLLABlock, [4]]]
    ... head: [[[1], 1, Detect, [nc]]]
    ... ''') and None
    >>> report = transfer(yolomix.YOLO("small.yaml"), "grafted.yaml", save="grafted.pt")
    >>> report.complete, report.missing, report.left_at_init[0]
    (True, [], 'model.1.cpe1.weight')

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
    _check_save(source, target, save)
    given = _opened(source, weights.read, "source")
    taken = _opened(target, weights.from_yaml, "target")
    if given.task != taken.task and not any_task:
        raise ValueError(
            f"the source is a {given.task} model and the target a {taken.task} model; give any_task=True to copy the "
            "layers that they share"
        )
    report = copy_weights(given, taken)
    if save is not None:
        report.save(report_file(save))
        weights.write(taken, save)
    return report


def report_file(checkpoint: str | Path) -> Path:
    """The report's file beside a checkpoint.

    >>> report_file("runs/start.pt").as_posix()
    'runs/start-transfer.txt'
    """
    path = Path(checkpoint)
    return path.with_name(f"{path.stem}-transfer.txt")


def check_kept(written: Sequence[Path], kept: Iterable[str | Path | None]) -> None:
    """Raise FileExistsError if a file to write is one to keep, by whatever spelling or link it is named."""
    for source in kept:
        for path in written:
            if source is not None and os.path.lexists(path) and files.same(path, source):
                raise FileExistsError(f"{path} is {source}, which stays as it is; give another file name: save=...")


def copy_weights(source: Model, target: Model, order: Order | None = None, load: Load = weights.load_by_name) -> Report:
    """Align, load, compare.

    Args:
        source: a model of Ultralytics.
        target: the model that receives.
        order: per layer of the target the layer of the source; by default found by what fits.
        load: what loads tensors by name and shape: Ultralytics' own function.

    Raises:
        ValueError: not one tensor was copied.
    """
    order = order or align(list(source.model), list(target.model))
    moved = load_aligned(source, target, order, load)
    report = compare(source, target, order, moved)
    # The counters of norms, of one element each, fit everywhere.
    if not any(t.elements > 1 for t in report.of(Fate.COPIED)):
        missing = report.explain_missing()
        raise ValueError(f"no weight was copied from {report.source} into {report.target}:\n{missing}")
    return report


def load_aligned(source: Model, target: Model, order: Order, load: Load) -> bool:
    """Seat the source's layers under the indices of the target and load them; whether any had to move."""
    layers = seated(list(source.model), list(target.model), order)
    if [*layers] == [*source.model]:
        load(target, source)
        return False
    reseated = copy(source)  # another module around the same layers: the source itself stays as it is
    reseated._modules = {**source._modules, "model": layers}
    load(target, reseated)
    return True


def compare(source: Model, target: Model, order: Order, moved: bool = False) -> Report:
    """What became of every tensor, from the values that both models hold now."""
    names: dict[Key, str] = {}
    values: dict[Key, torch.Tensor] = {}
    for i, layer in enumerate(source.model):
        for name, tensor in layer.state_dict().items():
            names[i, plain(layer, name)] = f"model.{i}.{name}"
            values[i, plain(layer, name)] = tensor
    other_classes = getattr(source, "names", None) != getattr(target, "names", None)
    found = []
    unused = dict(names)
    for j, layer in enumerate(target.model):
        reordered = other_classes and j == len(order) - 1
        for name, tensor in layer.state_dict().items():
            key = order[j], plain(layer, name)
            fate, why = _fate(values.get(key), tensor, reordered)
            source_name = unused.pop(key, "")
            kind = type(layer).__name__
            found.append(Outcome(f"model.{j}.{name}", j, kind, fate, tensor.numel(), why, source_name))
    for key, name in sorted(unused.items(), key=lambda item: (item[0][0] or 0, item[0][1])):
        i = key[0] or 0
        kind = type(source.model[i]).__name__
        found.append(Outcome(name, i, kind, Fate.UNUSED, values[key].numel(), "", name))
    return Report(_named(source, "pt_path"), _named(target), tuple(found), len(values), moved, _classes(source, target))


def _classes(source: Model, target: Model) -> tuple[int, int] | None:
    """The class counts where they differ."""
    before, now = (len(getattr(model, "names", ())) for model in (source, target))
    return None if before == now else (before, now)


def _fate(given: torch.Tensor | None, now: torch.Tensor, reordered: bool) -> tuple[Fate, str]:
    """What became of one tensor of the target, and why.

    Args:
        given: the source's tensor, say a kernel (C2, C1, k, k); None when it has none.
        now: the target's tensor.
        reordered: whether it is in a head of other class names, which Ultralytics sorts by name.
    """
    if given is None:
        return Fate.LEFT_AT_INIT, ""
    if given.shape != now.shape:
        return Fate.SHAPE_DIFFERS, f"{tuple(given.shape)} -> {tuple(now.shape)}"
    if torch.allclose(given.to(now.device, now.dtype), now, rtol=0.0, atol=0.0, equal_nan=True):
        return Fate.COPIED, ""
    if reordered:
        return Fate.COPIED, "rows in the order of the class names"
    return Fate.LEFT_AT_INIT, "it fits and did not arrive"


def _check_save(source: Any, target: Any, save: str | Path | None) -> None:
    """Raise if the result would be lost or written over the source."""
    if save is None:
        if isinstance(target, str | Path):
            raise ValueError(f"transfer into {str(target)!r} builds a model; give save='name.pt' to keep it, or a YOLO")
        return
    if Path(save).suffix != ".pt":
        raise ValueError(f"a model with weights is saved as .pt, got {str(save)!r}")
    check_kept([Path(save), report_file(save)], _files_of(source))
    files.check_ours(report_file(save))


def _files_of(source: Any) -> list[str | Path]:
    """The files that a source stands for: itself, or those that a YOLO or its model was read from."""
    if isinstance(source, str | Path):
        return [source]
    found = []
    for owner in (source, getattr(source, "model", None)):
        for name in ("ckpt_path", "pt_path"):
            file = getattr(owner, name, None)
            if isinstance(file, str | Path) and file:
                found.append(file)
    return found


def _opened(model: Any, by_name: Callable[[str | Path], Model], role: str) -> Model:
    """The model of a name, or of a YOLO, which has it inside, or what was given."""
    if isinstance(model, str | Path):
        return by_name(model)
    for inside in (model, getattr(model, "model", None)):
        if weights.is_layered(inside):
            return inside
    raise TypeError(f"the {role} is a file, a YOLO or its model, got {type(model).__name__}")


def _named(model: Model, file: str = "") -> str:
    """A model's file if that attribute has one, else what it was built from."""
    return str(getattr(model, file, None) or model.yaml.get("yaml_file") or type(model).__name__)
