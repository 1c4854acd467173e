"""Where a block goes: the names of insertion points, and the row that makes the block fit there.

Decided from what is known of the layers, before any model is built.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from yolomix.nn.gate import same_width
from yolomix.nn.registry import Block
from yolomix.surgery.graph import Layer, Row

At = int | str | Sequence[int | str]

TRIED = 4  # height and width, in positions, of the feature map that a block is tried on


def resolve(at: At, layers: Sequence[Layer]) -> list[int]:
    """The layer indices that insertion points name, in order, each once.

    =======================  ==================================================================
    a layer index            that layer
    ``"p3"`` ``"p4"`` ..     the backbone's last feature map of stride 8, 16, .. pixels
    ``"backbone"``           the backbone outputs that the rest of the model reads
    ``"neck"``               the layer after every concatenation of the neck
    ``"head-inputs"``        the head inputs
    ``"C2PSA"``, ``"C2*"``   every layer of that module type, or of the types that fit a pattern
    ``"*"``                  every layer that gives one feature map
    a list                   all of these together
    =======================  ==================================================================

    >>> conv = Layer(0, (-1,), 1, "Conv", channels=16, stride=8, parameters=432, tensors=6, backbone=True)
    >>> head = Layer(1, (0,), 1, "Detect", channels=None, stride=None, parameters=99, tensors=9, backbone=False)
    >>> resolve("p3", [conv, head]), resolve(["Conv", "head-inputs"], [conv, head])
    ([0], [0])

    Raises:
        ValueError: no such insertion point, or one where nothing can be put: the head, or a layer that gives no single
            feature map.
    """
    points = [at] if isinstance(at, int | str) else list(at)
    if not points:
        raise ValueError(f"an insertion point is needed, got {at!r}. {known(layers)}")
    found: set[int] = set()
    for point in points:
        found.update(_named(point, layers))
    for index in sorted(found):
        _check(layers, index)
    return sorted(found)


def of_type(pattern: str, layers: Sequence[Layer], within: str | None = None) -> list[int]:
    """Layers of a module type, in the whole model or within ``"backbone"`` or ``"neck"``.

    Here the neck is everything between the backbone and the head.

    Raises:
        ValueError: no such part, or no such layer in it.
    """
    if within not in (None, "backbone", "neck"):
        raise ValueError(f"a part of a model is 'backbone' or 'neck', got {within!r}")
    body = list(layers[:-1])
    if within is not None:
        body = [layer for layer in body if layer.backbone == (within == "backbone")]
    found = _matching(pattern, body)
    if not found:
        raise ValueError(f"no layer {pattern!r} in the {within or 'model'}; it has {_types(body)}")
    return found


def known(layers: Sequence[Layer]) -> str:
    """The insertion points of a model, as a sentence."""
    types = _types(layer for layer in layers if layer.channels is not None)
    names = [f"p{level}" for level in levels(layers)]
    names += [name for name, group in GROUPS.items() if group(layers)]
    return f"Insertion points: layers 0 to {len(layers) - 2}, {', '.join(names)}, '*', or a module type ({types})"


def levels(layers: Sequence[Layer]) -> dict[int, int]:
    """Per level k the backbone's last layer whose feature map has stride 2^k.

    >>> conv = Layer(0, (-1,), 1, "Conv", channels=16, stride=8, parameters=432, tensors=6, backbone=True)
    >>> levels([conv])
    {3: 0}
    """
    found = {}
    for layer in layers:
        if layer.backbone and layer.stride and _is_power_of_two(layer.stride):
            found[layer.stride.bit_length() - 1] = layer.index
    return found


def row_behind(block: Block, layers: Sequence[Layer], args: Sequence[Any], n: int, gate: bool) -> Row:
    """The row that puts a block behind each of these layers, as wide as they are.

    The block is tried at every width, on a small feature map.

    >>> from yolomix.nn.registry import find
    >>> conv = Layer(0, (-1,), 1, "Conv", channels=16, stride=8, parameters=432, tensors=6, backbone=True)
    >>> row_behind(find("HaloAttention"), [conv], [2, 1], n=1, gate=True)
    [-1, 1, 'ZeroGate', ['HaloAttention', [2, 1]]]

    Raises:
        ValueError: the block does not take the channels, or changes them or the size of the feature map; or nothing but
            the identity would ever come through its gate.
    """
    first_of_width: dict[int | None, Layer] = {}
    for layer in layers:  # an error names the first
        first_of_width.setdefault(layer.channels, layer)
    for channels, layer in first_of_width.items():
        _try(block, channels or 0, args, layer, gate)
    if not gate and not block.rule.takes_width:
        return [-1, n, block.name, list(args)]
    inside: list[Any] = [block.name]
    if args:
        inside.append(list(args))
    return [-1, n, "ZeroGate" if gate else "SameWidth", inside]


def row_instead(block: Block, old: Row, layer: Layer, before: Layer | None, args: Sequence[Any], model: dict) -> Row:
    """The row of a block in the place of another: it reads the same and gives as many channels.

    Args:
        block: the block.
        old: the row that goes.
        layer: its layer.
        before: the layer that it reads; None when it reads several or the image.
        args: what follows the channels (and the repeats) in the block's constructor.
        model: the model dictionary, for its width scaling.

    Raises:
        ValueError: the channels cannot be made to fit.
    """
    source, n, _, _ = old
    if block.parent is not None:
        raise ValueError(f"{block.name} is a head, which a model has as its last row; {layer} is none")
    if isinstance(source, list) != block.rule.reads_several and not block.rule.reads_any:
        wants = "several layers" if block.rule.reads_several else "one layer"
        raise ValueError(f"{block.name} reads {wants}, {layer} reads {source}")
    if block.rule.keeps_channels and (before is None or before.channels != layer.channels):
        came = "the image" if before is None else f"{before.channels} channels"
        raise ValueError(
            f"{block.name} keeps the channels it reads; {layer} makes {layer.channels} of {came}, so it cannot go there"
        )
    if not block.rule.takes_width:
        return [source, n, block.name, list(args)]
    return [source, n, block.name, [width_in(old, layer, model, block.name), *args]]


def width_in(old: Row, layer: Layer, model: dict[str, Any], name: str) -> int:
    """A layer's channels before width scaling, which its row says somewhere.

    >>> conv = Layer(0, (-1,), 1, "Conv", channels=64, stride=8, parameters=432, tensors=6, backbone=True)
    >>> width_in([-1, 1, "Conv", [256, 3, 2]], conv, {"width_multiple": 0.25}, "VSSBlock")
    256

    Args:
        old: the layer's row.
        layer: the layer, with its channels after scaling.
        model: the model dictionary, for its width scaling.
        name: what needs them, for the message.

    Raises:
        ValueError: no value in the row gives these channels.
    """
    for value in old[3]:
        if isinstance(value, int) and value > 1 and scaled(value, model) == layer.channels:
            return value
    raise ValueError(
        f"{name} needs to be given its {layer.channels} channels before width scaling, and no value in the "
        f"row of {layer} {old[3]} gives them"
    )


def scaled(c2: int, model: dict[str, Any]) -> int:
    """Channels after the width scaling of the model, as Ultralytics does it: to a multiple of 8, upwards.

    >>> scaled(256, {"scales": {"n": [0.5, 0.25, 1024]}, "scale": "n"})
    64
    """
    width: float = model.get("width_multiple", 1.0)
    most: float = math.inf
    if scales := model.get("scales"):
        _, width, most = scales[model.get("scale") or next(iter(scales))][:3]
    return math.ceil(min(c2, most) * width / 8) * 8


def _backbone(layers: Sequence[Layer]) -> list[int]:
    """The backbone outputs: what the rest of the model reads, and the last."""
    size = sum(layer.backbone for layer in layers)
    read = {size - 1}
    for layer in layers[size:]:
        read.update(layer.reads)
    return _maps(sorted(read.intersection(range(size))), layers)


def _neck(layers: Sequence[Layer]) -> list[int]:
    found = []
    for layer in layers[:-1]:
        reads_concat = any(layers[index].module == "Concat" for index in layer.reads)
        if reads_concat and not layer.backbone and layer.module != "Concat":
            found.append(layer.index)
    return _maps(found, layers)


def _head_inputs(layers: Sequence[Layer]) -> list[int]:
    return _maps(layers[-1].reads, layers)


def _maps(indices: Iterable[int], layers: Sequence[Layer]) -> list[int]:
    """Those of the layers that give one feature map."""
    return [index for index in indices if layers[index].channels is not None]


def _matching(pattern: str, layers: Iterable[Layer]) -> list[int]:
    return [layer.index for layer in layers if fnmatch.fnmatchcase(layer.module, pattern)]


def _types(layers: Iterable[Layer]) -> str:
    """Their module types, as a list for people."""
    return ", ".join(sorted({layer.module for layer in layers}))


GROUPS = {"backbone": _backbone, "neck": _neck, "head-inputs": _head_inputs}


def _named(point: int | str, layers: Sequence[Layer]) -> list[int]:
    """The layers of one name or index."""
    if isinstance(point, int) or re.fullmatch(r"\d+", point):
        return [int(point)]
    by_level = levels(layers)
    level = re.fullmatch(r"[pP](\d+)", point)
    if level and int(level[1]) in by_level:
        return [by_level[int(level[1])]]
    types = [layer.module for layer in layers]
    if point in GROUPS:
        found = GROUPS[point](layers)
    elif point in types:
        found = _matching(point, layers)  # also those that give no feature map: an error follows, and not nothing
    else:
        found = _maps(_matching(point, layers[:-1]), layers)
    if not found:
        names = [*GROUPS, *(f"p{level}" for level in by_level), *sorted(set(types))]
        near = difflib.get_close_matches(point, names, n=3, cutoff=0.5)
        meant = f"; did you mean {', '.join(near)}?" if near else "."
        raise ValueError(f"no insertion point {point!r}{meant} {known(layers)}")
    return found


def _is_power_of_two(stride: int) -> bool:
    return stride & (stride - 1) == 0


def _check(layers: Sequence[Layer], index: int) -> None:
    """Raise unless something can be put after a layer."""
    last = len(layers) - 1
    if index == last:
        raise ValueError(
            f"{layers[last]} is the head, which stays last; what it reads is 'head-inputs'. {known(layers)}"
        )
    if not 0 <= index < last:
        raise ValueError(f"no layer {index}. {known(layers)}")
    if layers[index].channels is None:
        raise ValueError(f"{layers[index]} gives no single feature map, so nothing can be put there. {known(layers)}")


@torch.no_grad()
def _try(block: Block, c: int, args: Sequence[Any], layer: Layer, gate: bool) -> None:
    """Run the block alone on a small feature map of c channels; raise ValueError unless it can go behind the layer."""
    what = f"{block.name} cannot be put behind {layer} with its {c} channels"
    with torch.random.fork_rng(devices=[]):  # a plan leaves the random state of the user's script alone
        x = torch.randn(1, c, TRIED, TRIED)
        try:
            y = same_width(block, c, args).eval()(x)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise ValueError(f"{what}: it takes {block.graft_signature}, got {list(args)}: {error}") from error
    if y.shape != x.shape:
        raise ValueError(
            f"{what}: it makes {y.shape[1]} channels of {c} and a feature map of {y.shape[2]}x{y.shape[3]} of "
            f"{TRIED}x{TRIED}; a graft keeps both"
        )
    if gate and torch.equal(y, x):
        raise ValueError(
            f"{block.name} starts as the identity, so a gate before it would never open; it needs gate=False, and is "
            "equal at the start all the same"
        )
