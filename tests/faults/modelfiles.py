"""Checkpoint files made on the spot from a recipe: grafts, stopped trainings, files of the fork; changed."""

from __future__ import annotations

import collections
import copy
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults import mutate
from tests.tiny import TINY, description, write_dataset

SOURCES = ("plain", "graft", "stopped", "fork", "classify")
FILE = "strange.pt"
FORK_ROWS = {
    "backbone": [[-1, 1, "SimpleStem", [16, 3]], [-1, 1, "VSSBlock", [16]], [-1, 1, "VisionClueMerge", [32]]],
    "head": [[-1, 1, "XSSBlock", [32]], [[2, 3], 1, "Detect", ["nc"]]],
}  # fmt: skip
SETTINGS = {
    "imgsz": 64, "batch": 3, "workers": 0, "plots": False, "verbose": False, "device": "cpu", "exist_ok": True,
    "amp": False,
}  # fmt: skip
VALUES = {
    "nan": float("nan"), "inf": float("inf"), "minus inf": float("-inf"), "zero": 0.0, "large": 3e38, "tiny": 1e-45,
}  # fmt: skip


def content(source: str) -> dict[str, Any]:
    """What a checkpoint holds, before any change; ``base.pt`` and ``data/data.yaml`` may be written for it."""
    import torch

    from yolomix.host import weights

    if source == "classify":
        rows = {"backbone": [[-1, 1, "Conv", [8, 3, 2]]], "head": [[-1, 1, "Classify", ["nc"]]], "nc": 2}
        from ultralytics.nn.tasks import ClassificationModel

        model = ClassificationModel(rows, verbose=False)
        model.task = "classify"
        return held(weights.write(model, FILE))
    if source == "fork":
        return {"epoch": 7, "model": fork_model(), "ema": None, "train_args": {"imgsz": 64, "data": "bccd.yaml"}}
    file = base("base.pt")
    if source == "graft":
        import yolomix

        return held(yolomix.graft(file, "HaloAttention", at=1, args=[2, 1]).apply("graft.pt").file)
    found = held(file)
    if source == "stopped":
        from ultralytics.utils.torch_utils import ModelEMA

        write_dataset(Path("data").resolve())
        ema = ModelEMA(found["model"])
        optimizer = torch.optim.SGD(found["model"].parameters(), lr=0.01, momentum=0.9)
        save_dir = Path("runs/train").resolve()
        (save_dir / "weights").mkdir(parents=True)
        args = {**SETTINGS, "data": str(Path("data/data.yaml").resolve()), "epochs": 9, "save_dir": str(save_dir)}
        args.update(model="yolo0n-tiny.yaml", task="detect", mode="train", optimizer="SGD")
        found |= {"epoch": 1, "model": None, "ema": ema.ema.half(), "updates": 4, "scaler": {}, "train_args": args}
        found |= {"optimizer": optimizer.state_dict(), "best_fitness": 0.1, "train_metrics": {}, "train_results": {}}
    return found


def base(name: str) -> Path:
    """The tiny model as a checkpoint."""
    from yolomix.host import weights

    yaml = Path("yolo0n-tiny.yaml")
    yaml.write_text(TINY)
    return weights.write(weights.from_yaml(yaml), name)


def held(file: str | Path) -> dict[str, Any]:
    """What a checkpoint of ours holds."""
    import torch

    found: dict[str, Any] = torch.load(file, weights_only=False)
    return found


def fork_model() -> Any:
    """A small model of the fork, of our blocks; :func:`saved` gives them the fork's names."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    rows = copy.deepcopy(FORK_ROWS)
    return DetectionModel(description(nc=2, ch=3, scales={"T": [1.0, 1.0, 64]}, scale="T", **rows), verbose=False)


def saved(found: Any, fork: bool = False, protocol: int = 2) -> bytes:
    """The bytes that ``torch.save`` makes; the models of one of the fork get the fork's classes."""
    import torch

    from tests import fork_files

    buffer = io.BytesIO()
    with fork_files.in_place() if fork else fork_files.nothing():
        given = fork_files.as_theirs(found) if fork else found
        torch.save(given, buffer, pickle_protocol=protocol)
    return buffer.getvalue()


def change(found: Any, changes: list[list[Any]]) -> Any:
    """The content after changes of its structure; each is ``[how, path, value]``, the path of keys and attributes."""
    for how, path, value in changes:
        if how == "whole":
            found = odd(value, found)
            continue
        if how == "tensors":
            tensors(found, path, value)
            continue
        *parents, last = path
        owner = found
        for key in parents:
            owner = part(owner, key)
        if owner is None:
            continue
        if how == "drop":
            drop(owner, last)
        elif how == "nested":
            put(owner, last, mutate.nested(random.Random(value), part(owner, last)))
        else:
            put(owner, last, odd(value, found))
    return found


def part(owner: Any, key: Any) -> Any:
    """An item or an attribute; None where there is none."""
    if isinstance(owner, dict):
        return owner.get(key)
    if isinstance(key, int):
        return owner[key % len(owner)]
    return getattr(owner, key, None)


def put(owner: Any, key: Any, value: Any) -> None:
    """Set an item or an attribute, past the checks of ``nn.Module``."""
    if isinstance(owner, dict):
        owner[key] = value
    elif isinstance(key, int):
        owner._modules[str(key % len(owner))] = value
    elif key in getattr(owner, "_modules", {}):
        owner._modules[key] = value
    else:
        vars(owner)[key] = value


def drop(owner: Any, key: Any) -> None:
    """Remove an item or an attribute, if it is there."""
    for place in (owner if isinstance(owner, dict) else vars(owner), getattr(owner, "_modules", {})):
        place.pop(str(key) if isinstance(key, int) else key, None)


def odd(value: Any, found: Any) -> Any:
    """A value of a recipe: JSON as it is, ``{"$": name}`` for what JSON cannot say."""
    import torch

    if not (isinstance(value, dict) and "$" in value):
        return value
    model = (found.get("ema") or found.get("model")) if isinstance(found, dict) else None
    state = model.state_dict() if isinstance(model, torch.nn.Module) else {}
    made = {
        "tensor": torch.zeros(3), "state dict": state, "module": torch.nn.Linear(2, 2), "path": Path("x"),
        "type": dict, "set": {1, 2},
        "bytes": b"\xff", "list": [found], "the model": model, "wrapped": torch.nn.Sequential(torch.nn.Identity()),
        "ordered": collections.OrderedDict(state), "short": dict(list(state.items())[:3]), "tuple": (), "complex": 1j,
        "nan": float("nan"), "function": torch.relu, "parameter": torch.nn.Parameter(torch.zeros(2)),
        "dtype": torch.float16,
    }  # fmt: skip
    return made[value["$"]]


def tensors(found: Any, which: int, how: str) -> None:
    """Damage one tensor of the model."""
    model = found.get("ema") or found.get("model") if isinstance(found, dict) else found
    named = [(m, store, n) for m in model.modules() for store in (m._parameters, m._buffers) for n in store]
    named = [(m, store, n) for m, store, n in named if store[n] is not None]
    if not named:  # an earlier change left none
        return
    _, store, name = named[which % len(named)]
    tensor = store[name].data
    if how in VALUES:
        if tensor.is_floating_point():
            tensor.flatten()[0] = VALUES[how]
        return
    store[name] = SHAPES[how](tensor)


SHAPES: dict[str, Callable[[Any], Any]] = {
    "cut": lambda tensor: tensor[1:] if tensor.dim() else tensor[None],
    "flat": lambda tensor: tensor.flatten(),
    "scalar": lambda tensor: tensor.sum(),
    "empty": lambda tensor: tensor.flatten()[:0],
    "one more": lambda tensor: tensor[None],
    "double": lambda tensor: tensor.double(),
    "half": lambda tensor: tensor.half(),
    "whole": lambda tensor: tensor.long(),
    "boolean": lambda tensor: tensor.bool(),
}
