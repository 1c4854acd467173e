"""Other people's files: checkpoints of the official Mamba-YOLO fork, state dicts of official layers.

The fork's checkpoints pickle its own classes, which nobody else can import. They are read without running any of the
file's code: PyTorch's weights-only loader gets an inert stand-in for every class of a known package, and refuses all
others. The tensors and the YAML that remain are enough to rebuild the model from our blocks.
"""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn import tasks

from yolomix.nn.registry import BLOCKS

LOGGER = logging.getLogger("yolomix")

FORK = ("ultralytics.nn.modules.mamba_yolo", "ultralytics.nn.modules.common_utils_mbyolo")
KNOWN = ("ultralytics.", "timm.", "torch.nn.", "numpy.", "pathlib.")  # packages whose classes get a stand-in
KNOWN_NAMES = ("builtins.getattr", "functools.partial")  # how the fork pickles a bound method; never called
MODELS = ("DetectionModel", "SegmentationModel", "PoseModel", "OBBModel", "ClassificationModel")
DESCRIPTION = ("nc", "ch", "scales", "scale", "depth_multiple", "width_multiple", "kpt_shape", "backbone", "head")
RENAMED = {"ln_1": "norm", "self_attention": "op", "mixer": "mamba"}
PLAIN = (str, int, float, bool, type(None))


class RefusedError(pickle.UnpicklingError):
    """A file that wants to run something that no checkpoint of a model needs."""


class StandIn:
    """What stands for an object of a class that is not loaded: it keeps the object's attributes and does nothing."""

    def __init__(self, *args: object) -> None:
        """Arguments are accepted and forgotten."""

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


@dataclass(frozen=True)
class Foreign:
    """What a checkpoint of the fork holds.

    Attributes:
        file: where it was read.
        kind: the class of its model, one of ``MODELS``.
        description: the model's YAML.
        tensors: its state dict.
        names: names of the classes by number.
        train_args: the plain ones of the training's arguments.
        stand_ins: the classes that were not loaded.
    """

    file: str
    kind: str
    description: dict[str, Any]
    tensors: dict[str, Tensor]
    names: dict[int, str]
    train_args: dict[str, Any]
    stand_ins: list[str]


def is_foreign(file: str | Path) -> bool:
    """Whether a file is a checkpoint of the fork: a zip whose pickle names the fork's modules. Nothing is loaded."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        return any(mark.encode() in archive.read(name) for name in pickles for mark in FORK)


def checkpoint(file: str | Path) -> dict[str, Any]:
    """A checkpoint of the fork as one of ours, in the form of ``torch_safe_load``; says in the log what was done.

    Raises:
        RefusedError: the file names something outside of ``KNOWN``; nothing of it was run.
        TypeError: it holds no model of the fork.
        ValueError: its weights do not fit the model that its YAML describes.
    """
    found = read(file)
    model = rebuild(found)
    LOGGER.info(
        "%s is a checkpoint of the Mamba-YOLO fork: %s rebuilt from its YAML with yolomix's blocks, %d tensors loaded "
        "by name, none missing, none left over; %d classes of the file were not loaded (%s)",
        file,
        found.kind,
        len(found.tensors),
        len(found.stand_ins),
        ", ".join(name.rpartition(".")[2] for name in found.stand_ins),
    )
    return {"model": model, "ema": None, "train_args": found.train_args, "epoch": -1, "optimizer": None}


def read(file: str | Path) -> Foreign:
    """The tensors and plain data of a checkpoint of the fork; arguments and errors as in :func:`checkpoint`."""
    try:
        unsafe = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(file)))
    except pickle.UnpicklingError as error:
        raise RefusedError(f"{file} is refused: it is no pickle that torch.save writes ({error})") from error
    if refused := [name for name in unsafe if not name.startswith(KNOWN) and name not in KNOWN_NAMES]:
        raise RefusedError(
            f"{file} is refused: loading it would run {', '.join(refused)}, which no checkpoint of a model needs. "
            "Nothing was run. Do not open it with torch.load unless you know who made it"
        )
    stand_ins = {name: type(name.rpartition(".")[2], (StandIn,), {}) for name in unsafe}
    with torch.serialization.safe_globals([(cls, name) for name, cls in stand_ins.items()]):
        content = torch.load(file, map_location="cpu", weights_only=True)
    model = (content.get("ema") or content.get("model")) if isinstance(content, dict) else content
    kind = type(model).__name__
    if kind not in MODELS or not isinstance(model, StandIn):
        raise TypeError(
            f"{file} holds no model of the Mamba-YOLO fork but {kind}; it has to be a {' or '.join(MODELS)}"
        )
    args = content.get("train_args") if isinstance(content, dict) else None
    return Foreign(
        str(file),
        kind,
        _description(file, getattr(model, "yaml", None)),
        dict(_tensors(model)),
        {int(k): str(v) for k, v in dict(getattr(model, "names", {})).items()},
        {k: v for k, v in args.items() if isinstance(v, PLAIN)} if isinstance(args, dict) else {},
        unsafe,
    )


def rebuild(found: Foreign) -> nn.Module:
    """The model of a checkpoint of the fork, built from its YAML with our blocks and loaded strictly."""
    d = found.description
    model: nn.Module = getattr(tasks, found.kind)(d, ch=d.get("ch", 3), verbose=False)
    try:
        model.load_state_dict(found.tensors)
    except RuntimeError as error:
        raise ValueError(
            f"the weights in {found.file} do not fit the model that its YAML describes: {error}. (The fork does not "
            "scale a width that equals the number of classes; such models have to be trained anew.)"
        ) from error
    model.names = found.names  # type: ignore[assignment]
    return model


def load_layer(layer: nn.Module, source: Mapping[str, Any] | str | Path, prefix: str | None = None) -> str:
    """Copy an official layer's weights into ours by name, all of them or none.

    Args:
        layer: a block of ours, whose keys are the official ones: VMamba's, Vim's, MambaIRv2's.
        source: a state dict, or a file with one; wrappers such as ``state_dict`` or ``params_ema`` are opened.
        prefix: what stands before the layer's keys, ``layers.0.blocks.1.``; None finds the only place that fits.

    Returns: what was done, as a sentence.

    Raises:
        ValueError: no place fits, or several do; the text names what is missing, or the places.
    """
    content = source if isinstance(source, Mapping) else torch.load(source, map_location="cpu", weights_only=True)
    tensors = {_present_name(k): v for k, v in _unwrapped(content).items() if isinstance(v, Tensor)}
    wanted = layer.state_dict()
    places = _places(tensors, wanted) if prefix is None else [_present_name(prefix)]
    if len(places) > 1:
        raise ValueError(f"{len(places)} layers of the source fit; give prefix=, one of {', '.join(map(repr, places))}")
    where = places[0] if places else ""
    if missing := _missing(tensors, wanted, where):
        raise ValueError(
            f"no layer of the source fits {type(layer).__name__}: at {where!r} it lacks {'; '.join(missing[:5])}"
            f"{f' and {len(missing) - 5} more' if len(missing) > 5 else ''}; its keys are like "
            f"{', '.join([*tensors][:3]) or 'none'}"
        )
    layer.load_state_dict({k: tensors[where + k].reshape(v.shape) for k, v in wanted.items()})
    return f"{len(wanted)} of {len(tensors)} tensors loaded from {where!r} into {type(layer).__name__}, none missing"


def _description(file: str | Path, description: object) -> dict[str, Any]:
    """The YAML inside a checkpoint, reduced to plain data that describes layers and nothing else."""
    if not isinstance(description, dict) or not {"backbone", "head"} <= description.keys():
        raise TypeError(f"{file} holds no YAML of its model, from which it could be rebuilt")
    kept = {k: description[k] for k in DESCRIPTION if k in description}
    if not _is_plain(kept):
        raise RefusedError(f"{file} is refused: the YAML inside it is not plain data")
    for row in kept["backbone"] + kept["head"]:
        name = row[2] if isinstance(row, list) and len(row) == 4 else None
        if not isinstance(name, str) or not _is_layer(name):
            raise RefusedError(f"{file} is refused: row {row} of the YAML inside it names no layer")
    return {**kept, "yaml_file": Path(file).name}


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, PLAIN) and _is_plain(v) for k, v in value.items())
    return all(map(_is_plain, value)) if isinstance(value, (list, tuple)) else isinstance(value, PLAIN)


def _is_layer(name: str) -> bool:
    """Whether a row may name it: one of our blocks, a layer of Ultralytics or, as nn.X, one of PyTorch."""
    if name in BLOCKS:
        return True
    found = getattr(nn, name[3:], None) if name.startswith("nn.") else getattr(tasks, name, None)
    return isinstance(found, type) and issubclass(found, nn.Module)


def _tensors(module: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The state dict of a tree of stand-ins."""
    state = vars(module)
    for own in ("_parameters", "_buffers"):
        for name, tensor in state.get(own, {}).items():
            if isinstance(tensor, Tensor) and name not in state.get("_non_persistent_buffers_set", ()):
                yield f"{prefix}{name}", tensor.detach()
    for name, child in state.get("_modules", {}).items():
        if child is not None:
            yield from _tensors(child, f"{prefix}{name}.")


def _unwrapped(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict inside the dictionaries that training scripts put around it."""
    for key in ("params_ema", "params", "state_dict", "model"):
        if isinstance(source.get(key), Mapping):
            return _unwrapped(source[key])
    return source


def _present_name(key: str) -> str:
    """Our name of an official tensor: VMamba's first checkpoints and Vim's blocks call some parts otherwise."""
    return re.sub(r"\b(ln_1|self_attention|mixer)\.", lambda m: RENAMED[m[1]] + ".", key)


def _places(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """The prefixes under which all wanted tensors are found."""
    first = next(iter(wanted))
    ends = (k.removesuffix(first) for k in tensors if k == first or k.endswith(f".{first}"))
    return sorted(p for p in ends if not _missing(tensors, wanted, p))


def _missing(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], prefix: str) -> list[str]:
    """The wanted tensors that are not there in that shape; trailing ones are no difference (a 1x1 convolution)."""
    wrong = []
    for key, tensor in wanted.items():
        found = tensors.get(prefix + key)
        if found is None:
            wrong.append(key)
        elif _core(found) != _core(tensor):
            wrong.append(f"{key} {tuple(tensor.shape)} (it has {tuple(found.shape)})")
    return wrong


def _core(tensor: Tensor) -> tuple[int, ...]:
    shape = [*tensor.shape]
    while shape and shape[-1] == 1:
        shape.pop()
    return tuple(shape)
