"""Weights from one model into another, whatever their layers are numbered: with a report."""

from __future__ import annotations

import functools
from collections.abc import Callable
from copy import copy, deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import ultralytics
from torch import nn
from ultralytics.nn import tasks

from yolomix.surgery.align import Order, align, plain, seated, shapes
from yolomix.surgery.report import Report, Tensor

Model = Any  # a model of Ultralytics: an nn.Module that keeps its layers in ``model``


def copy_weights(source: Model, target: Model, order: Order | None = None) -> Report:
    """Load a model into another through the host and say what became of every tensor.

    Args:
        source: a model of Ultralytics.
        target: the model that receives.
        order: per layer of the target the layer of the source; found by what fits when not given.

    Raises:
        ValueError: not one tensor was copied.
    """
    native = tasks.BaseModel.load.native  # without the report in the log: the caller gets it
    order = order or align(list(source.model), list(target.model))
    return load_aligned(functools.partial(native, verbose=False), source, target, order)[0]


def read(file: str | Path) -> Model:
    """The model of a checkpoint, in float32 and eval mode, its training arguments in ``model.args``."""
    return _loaded(file)[0]


def is_finished(file: str | Path) -> bool:
    """Whether a checkpoint has no state of a training any more, as Ultralytics leaves it at the end."""
    found = _loaded(file)[1]
    return found.get("epoch", -1) < 0 or found.get("optimizer") is None


def _loaded(file: str | Path) -> Any:
    loader = getattr(tasks, "load_checkpoint", None) or tasks.attempt_load_one_weight
    return loader(str(file))


def from_yaml(name: str | Path) -> Model:
    """A new model from the name of a model YAML."""
    wrapped = ultralytics.RTDETR if "rtdetr" in str(name).lower() else ultralytics.YOLO
    return wrapped(str(name)).model


def rebuilt(source: Model, model: dict[str, Any], order: Order, seed: int) -> tuple[Model, Report]:
    """A model of the source's kind with other rows, with the source's weights and everything else that it holds.

    Args:
        source: a model of Ultralytics.
        model: the model dictionary to build.
        order: per layer to build the layer of the source, or None.
        seed: for what new layers start with; no other random state changes.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        target = type(source)(deepcopy(model), ch=model.get("channels", model.get("ch", 3)), verbose=False)
    for name, value in vars(source).items():
        if not name.startswith("_") and name not in ("yaml", "save", "stride", "training", "criterion", "pt_path"):
            setattr(target, name, value)
    report = copy_weights(source, target, order)
    return target.eval(), report


def write(model: Model, file: str | Path) -> Path:
    """Save a model as a checkpoint that stock Ultralytics predicts with and trains from."""
    path = Path(file)
    args = getattr(model, "args", {})
    content = {
        "epoch": -1,
        "best_fitness": None,
        "model": model,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": {**(args if isinstance(args, dict) else vars(args)), "task": model.task},
        "date": datetime.now(UTC).isoformat(),
        "version": ultralytics.__version__,
    }
    torch.save(content, path)
    return path


def is_layered(model: Any) -> bool:
    """Whether a model keeps its layers as Ultralytics does."""
    return isinstance(getattr(model, "model", None), nn.Sequential)


def _fitting(source: Model, target: Model, order: Order) -> int:
    """How many tensors fit, by name and shape, in the layers that correspond."""
    pairs = [(source.model[k], target.model[j]) for j, k in enumerate(order) if k is not None]
    return sum(len(shapes(a) & shapes(b)) for a, b in pairs)


def load_aligned(native: Callable[..., None], source: Model, target: Model, order: Order) -> tuple[Report, bool]:
    """Seat the source's layers in that order, load them natively and compare; and whether any had to move."""
    layers = seated(list(source.model), list(target.model), order)
    moved = [*layers] != [*source.model]
    predicted = _fitting(source, target, order)
    weights = source
    if moved:
        weights = copy(source)
        weights._modules = {**source._modules, "model": layers}
    native(target, weights)
    report = _compared(source, target, order, predicted)
    if not any(t.numbers > 1 for t in report.of("copied")):  # the counters of norms fit everywhere
        raise ValueError(f"no weight was copied from {report.source} into {report.target}:\n{report.missing()}")
    return report, moved


def _compared(source: Model, target: Model, order: Order, predicted: int) -> Report:
    """The report, from the numbers that both models hold now."""
    have = {(i, plain(layer, k)): t for i, layer in enumerate(source.model) for k, t in layer.state_dict().items()}
    names = {(i, plain(layer, k)): k for i, layer in enumerate(source.model) for k in layer.state_dict()}
    seen, found = set(), []
    for j, layer in enumerate(target.model):
        for name, tensor in layer.state_dict().items():
            key = (order[j], plain(layer, name))
            fate, why = _fate(have.get(key), tensor, j == len(order) - 1, source, target)  # type: ignore[arg-type]
            seen.add(key)
            found.append(Tensor(f"model.{j}.{name}", j, type(layer).__name__, fate, tensor.numel(), why))
    for key in sorted(have.keys() - seen):
        i = key[0]
        found.append(Tensor(f"model.{i}.{names[key]}", i, type(source.model[i]).__name__, "unused", have[key].numel()))
    return Report(_named(source, "pt_path"), _named(target), tuple(found), predicted, len(have))


def _fate(
    given: torch.Tensor | None, now: torch.Tensor, in_head: bool, source: Model, target: Model
) -> tuple[str, str]:
    """What became of one tensor of the target, and why."""
    if given is None:
        return "left at init", ""
    if given.shape != now.shape:
        return "shape differs", f"{tuple(given.shape)} -> {tuple(now.shape)}"
    if torch.equal(given.to(now.device, now.dtype), now):
        return "copied", ""
    if in_head and getattr(source, "names", None) != getattr(target, "names", None):
        return "copied", "rows in the order of the class names"
    return "left at init", "it fits and did not arrive"


def _named(model: Model, file: str = "") -> str:
    """A model's file if that attribute has one, else what it was built from."""
    return str(getattr(model, file, None) or model.yaml.get("yaml_file") or type(model).__name__)
