"""Channels and strides of every layer of a model description, without its weights."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import C2fAttn

from yolomix.surgery.graph import sources
from yolomix.surgery.layers import Layer

SIDE = 256  # picture side in pixels: what Ultralytics itself measures strides with
Shape = tuple[int | None, int | None]  # channels and stride
WITH_TEXT = ("C2fAttn", "ImagePoolingAttn")  # layers that take a text beside the map


def survey(model: dict[str, Any], partial: bool = False) -> tuple[Layer, ...]:
    """What is known of every layer: built on the meta device, where a tensor has a shape and no numbers.

    A block that cannot be built or run there is built on the CPU, together with the rest.

    Args:
        model: a model dictionary.
        partial: where a layer cannot take what it reads, leave out its channels and those of all that follow.

    Raises:
        ValueError: a row cannot be built, see ``yolomix.hooks.rows``; or a layer cannot take what it reads.
    """
    try:
        shapes, built = _traced(model, "meta", False)
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        shapes, built = _traced(model, "cpu", partial)
    rows, backbone = model["backbone"] + model["head"], len(model["backbone"])
    layers = []
    for i, (f, n, module, _) in enumerate(rows):
        channels, stride = shapes[i] if i < len(shapes) else (None, None)
        sizes = sum(p.numel() for p in built[i].parameters()), len(built[i].state_dict())
        reads = tuple(sources(f, i))
        layers.append(Layer(i, reads, n, module, channels, stride, *sizes, i < backbone, module not in WITH_TEXT))
    return tuple(layers)


def described(name: str | Path) -> dict[str, Any]:
    """The model dictionary of any name of a model YAML that ``YOLO`` takes.

    Raises:
        FileNotFoundError: no such file.
    """
    model: dict[str, Any] = tasks.yaml_model_load(name)
    return model


def prepared(model: dict[str, Any]) -> dict[str, Any]:
    """A copy whose scale is chosen and whose rows download nothing: both are defaults that Ultralytics warns about."""
    model = deepcopy(model)
    if model.get("scales") and not model.get("scale"):
        model["scale"] = next(iter(model["scales"]))
    for _, _, module, args in model["backbone"] + model["head"]:
        if module == "TorchVision":
            args[2:3] = [None]  # the pretrained weights to fetch; the shapes do not depend on them
    return model


def _traced(model: dict[str, Any], device: str, partial: bool) -> tuple[list[Shape], nn.Sequential]:
    """Channels and stride of every layer but the head, and the layers."""
    model = prepared(model)
    with torch.device(device), torch.no_grad(), torch.random.fork_rng(devices=[]):
        layers, _ = tasks.parse_model(model, ch=model.get("channels", 3), verbose=False)
        layers.eval()
        shapes: list[Shape] = []
        try:
            for y in _outputs(layers, torch.zeros(1, model.get("channels", 3), SIDE, SIDE)):
                shapes.append(_shape(y))
        except (RuntimeError, TypeError, ValueError) as error:
            if not partial:
                i = len(shapes)
                name = (model["backbone"] + model["head"])[i][2]
                raise ValueError(f"layer {i} ({name}) cannot take what it reads: {error}") from error
        return shapes, layers


def _outputs(layers: nn.Sequential, x: Any) -> Iterator[Any]:
    """What each layer but the head gives, as the ``predict`` of Ultralytics' models runs them."""
    text = torch.zeros(1, 1, 512)
    y: list[Any] = []
    rows: list[Any] = list(layers)[:-1]
    for m in rows:
        if m.f != -1:
            x = y[m.f] if isinstance(m.f, int) else [x if j == -1 else y[j] for j in m.f]
        if isinstance(m, C2fAttn):
            x = m(x, text)
        elif type(m).__name__ == "ImagePoolingAttn":
            text = m(x, text)
            yield text
            y.append(x)
            continue
        else:
            x = m(x)
        yield x
        y.append(x)


def _shape(y: Any) -> Shape:
    """Channels and stride of a map; (None, None) of anything else."""
    if not isinstance(y, Tensor) or y.ndim != 4:
        return None, None
    return y.shape[1], SIDE // y.shape[3] if y.shape[3] else None
