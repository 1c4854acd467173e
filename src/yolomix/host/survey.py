"""Channels and strides of every layer of a model dictionary, without its weights."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import C2fAttn

from yolomix.nn import registry
from yolomix.ops import counting
from yolomix.surgery.graph import Layer, sources

SIZE = 256  # height and width of the image in pixels: what Ultralytics itself measures strides with
Shape = tuple[int | None, int | None]  # channels and stride
WITH_TEXT = ("C2fAttn", "ImagePoolingAttn")  # layers that read a text beside the feature map


def survey(model: dict[str, Any], partial: bool = False) -> tuple[Layer, ...]:
    """What is known of every layer: built on the meta device, where a tensor has a shape and no values.

    A block that cannot be built or run there is built on the CPU, together with the rest.

    >>> model = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
    >>> [(layer.module, layer.channels, layer.stride) for layer in survey(model)]
    [('Conv', 16, 2), ('Detect', None, None)]

    Args:
        model: a model dictionary.
        partial: where a layer cannot take what it reads, leave out its channels and those of all that follow.

    Raises:
        ValueError: a row cannot be built, see ``yolomix.hooks.rows``; or a layer cannot take what it reads.
    """
    said = {key: value for key, value in model.items() if key != "yaml_file"}
    try:
        text = json.dumps(said)
    except TypeError:  # what no YAML can say
        return _layers(model, partial)
    return _known(text, partial, _meant(text)) if json.loads(text) == said else _layers(model, partial)


@functools.lru_cache(maxsize=64)
def _known(text: str, partial: bool, meant: tuple[Any, ...]) -> tuple[Layer, ...]:
    """Of a model in JSON: a graft, its plan and its name ask for the same models one after the other."""
    return _layers(json.loads(text), partial)


def _meant(text: str) -> tuple[Any, ...]:
    """The classes that words of a model mean at this moment: a notebook exchanges them."""
    found: list[Any] = [*registry.BLOCKS.values()]
    for word in re.findall(r'"([\w.]+)"', text):
        place, _, name = word.rpartition(".")
        found.append(getattr(sys.modules.get(place or tasks.__name__), name, None))
    return tuple(one for one in found if isinstance(one, type | registry.Block))


def _layers(model: dict[str, Any], partial: bool) -> tuple[Layer, ...]:
    try:
        shapes, built = _traced(model, "meta", False)
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        shapes, built = _traced(model, "cpu", partial)
    rows = [*model["backbone"], *model["head"]]
    shapes += [(None, None)] * (len(rows) - len(shapes))  # the head, and what follows a layer that failed
    layers = []
    for i, (source, n, module, _) in enumerate(rows):
        channels, stride = shapes[i]
        layers.append(
            Layer(
                index=i,
                reads=tuple(sources(source, i)),
                repeats=n,
                module=module,
                channels=channels,
                stride=stride,
                parameters=sum(p.numel() for p in built[i].parameters()),
                tensors=len(built[i].state_dict()),
                backbone=i < len(model["backbone"]),
                reads_text=module in WITH_TEXT,
            )
        )
    return tuple(layers)


def with_scale(model: dict[str, Any]) -> dict[str, Any]:
    """A model dictionary whose scale is chosen: the first, which Ultralytics takes, too, and warns.

    >>> with_scale({"scales": {"n": [1.0, 0.5, 64], "s": [1.0, 1.0, 64]}})["scale"]
    'n'
    """
    if model.get("scales") and not model.get("scale"):
        return {**model, "scale": next(iter(model["scales"]))}
    return model


def image_size(imgsz: int | Sequence[int]) -> tuple[int, int]:
    """Height and width in pixels from one number or two.

    >>> image_size(640), image_size((480, 640))
    ((640, 640), (480, 640))

    Raises:
        ValueError: it is neither.
    """
    sizes = [*imgsz] if isinstance(imgsz, Sequence) else [imgsz, imgsz]
    if len(sizes) == 1:
        sizes *= 2
    if len(sizes) != 2 or not all(type(side) is int and side >= 1 for side in sizes):
        raise ValueError(f"imgsz is one number of pixels, or height and width, as in 480,640; got {imgsz}")
    return sizes[0], sizes[1]


def _prepared(model: dict[str, Any]) -> dict[str, Any]:
    """A copy whose scale is chosen and whose rows download nothing: both are defaults that Ultralytics warns about."""
    model = deepcopy(with_scale(model))
    for _, _, module, args in model["backbone"] + model["head"]:
        if module == "TorchVision":
            args[2:3] = [None]  # the pretrained weights to fetch; the shapes do not depend on them
    return model


def _traced(model: dict[str, Any], device: str, partial: bool) -> tuple[list[Shape], nn.Sequential]:
    """Channels and stride of every layer but the head, and the layers."""
    model = _prepared(model)
    with torch.device(device), torch.no_grad(), torch.random.fork_rng(devices=[]), counting():
        layers, _ = tasks.parse_model(model, ch=model.get("channels", 3), verbose=False)
        layers.eval()
        if device == "meta":
            _skip_same_shape(layers)  # on the meta device PyTorch spends most of the time in these
        shapes: list[Shape] = []
        try:
            for y in _outputs(layers, torch.zeros(1, model.get("channels", 3), SIZE, SIZE)):
                shapes.append(_shape(y))
        except (RuntimeError, TypeError, ValueError) as error:
            if not partial:
                i = len(shapes)
                name = (model["backbone"] + model["head"])[i][2]
                raise ValueError(f"layer {i} ({name}) cannot take what it reads: {error}") from error
        return shapes, layers


def _skip_same_shape(layers: nn.Sequential) -> None:
    """Let modules that change no shape return what they read; their parameters are still counted.

    Ultralytics has one activation for all models of a process, so that one is exchanged, never changed.
    """
    for module in layers.modules():
        for name, part in module._modules.items():
            if type(part) is nn.SiLU:
                module._modules[name] = nn.Identity()
        if type(module) is nn.BatchNorm2d:
            vars(module)["forward"] = _unchanged


def _unchanged(x: Tensor) -> Tensor:
    return x


def _outputs(layers: nn.Sequential, x: Any) -> Iterator[Any]:
    """What each layer but the head gives to an image (B, C, H, W), as ``predict`` of Ultralytics' models runs them."""
    text = torch.zeros(1, 1, 512)  # (B, texts, channels)
    y: list[Any] = []
    rows: list[Any] = list(layers)[:-1]
    for m in rows:
        if isinstance(m.f, list):
            x = [y[j] for j in m.f]
        elif m.f != -1:
            x = y[m.f]
        if isinstance(m, C2fAttn):
            x = m(x, text)
        elif type(m).__name__ == "ImagePoolingAttn":
            text = m(x, text)
            yield text
            y.append(x)  # Ultralytics keeps what it read as its output, and goes on with the text
            continue
        else:
            x = m(x)
        yield x
        y.append(x)


def _shape(y: Any) -> Shape:
    """Channels and stride of a feature map (B, C, H, W); (None, None) of anything else."""
    if not isinstance(y, Tensor) or y.ndim != 4 or not y.shape[3]:
        return None, None
    return y.shape[1], SIZE // y.shape[3]
