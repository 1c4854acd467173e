"""Names of places in a model, as people think of them, to layer numbers."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Sequence
from itertools import chain

from yolomix.surgery.layers import Layer

At = int | str | Sequence[int | str]


def resolve(at: At, layers: Sequence[Layer]) -> list[int]:
    """The layers that a place names, in order, each once.

    ====================  =====================================================================
    a number              that layer
    ``"p3"`` ``"p4"`` ..  the backbone's last map of stride 8, 16, .. pixels
    ``"backbone"``        the backbone's maps that the rest of the model reads
    ``"neck"``            the layer after every concatenation of the neck
    ``"head-inputs"``     what the head reads
    ``"C2PSA"``           every layer of that type; ``"C2*"`` every type that fits the pattern
    ``"*"``               every layer that gives one map
    a list                all of these together
    ====================  =====================================================================

    Raises:
        ValueError: no such place, or a place where nothing can be put (the head, a layer that gives no single map).
    """
    each = [at] if isinstance(at, int | str) else list(at)
    if not each:
        raise ValueError(f"a place is needed, got {at!r}; {known(layers)}")
    found = sorted(set(chain.from_iterable(_one(place, layers) for place in each)))
    for i in found:
        _check(layers, i)
    return found


def typed(pattern: str, layers: Sequence[Layer], within: str | None = None) -> list[int]:
    """Layers of a type, in the whole model or within ``"backbone"`` or ``"neck"`` (all rows between it and the head).

    Raises:
        ValueError: no such part, or no such layer in it.
    """
    if within not in (None, "backbone", "neck"):
        raise ValueError(f"a part of a model is 'backbone' or 'neck', got {within!r}")
    body = [x for x in layers[:-1] if within is None or x.backbone == (within == "backbone")]
    found = [x.index for x in body if fnmatch.fnmatchcase(x.module, pattern)]
    if not found:
        types = sorted({x.module for x in body})
        raise ValueError(f"no layer {pattern!r} in the {within or 'model'}; it has {', '.join(types)}")
    return found


def known(layers: Sequence[Layer]) -> str:
    """The places of a model, in words."""
    types = sorted({x.module for x in layers if x.channels is not None})
    names = [f"p{level}" for level in levels(layers)] + [name for name in GROUPS if GROUPS[name](layers)]
    return f"its places: layers 0 to {len(layers) - 2}, {', '.join(names)}, '*', or a module type ({', '.join(types)})"


def levels(layers: Sequence[Layer]) -> dict[int, int]:
    """Per level k the backbone's last layer whose map has stride 2^k."""
    maps = [x for x in layers if x.backbone and x.stride is not None and x.stride & (x.stride - 1) == 0]
    return {x.stride.bit_length() - 1: x.index for x in maps if x.stride}


def _backbone(layers: Sequence[Layer]) -> list[int]:
    rows = [x.index for x in layers if x.backbone]
    read = {i for x in layers if not x.backbone for i in x.reads if i in rows}
    return [i for i in sorted(read | {rows[-1]}) if layers[i].channels is not None]


def _neck(layers: Sequence[Layer]) -> list[int]:
    neck = [x for x in layers[:-1] if not x.backbone and x.channels is not None and x.module != "Concat"]
    return [x.index for x in neck if any(layers[i].module == "Concat" for i in x.reads)]


def _head_inputs(layers: Sequence[Layer]) -> list[int]:
    return [i for i in layers[-1].reads if layers[i].channels is not None]


GROUPS = {"backbone": _backbone, "neck": _neck, "head-inputs": _head_inputs}


def _one(place: int | str, layers: Sequence[Layer]) -> list[int]:
    """The layers of one name or number."""
    if isinstance(place, int) or re.fullmatch(r"\d+", place):
        return [int(place)]
    if (level := re.fullmatch(r"[pP](\d+)", place)) and int(level[1]) in (there := levels(layers)):
        return [there[int(level[1])]]
    found = GROUPS[place](layers) if place in GROUPS else []
    if not found and place not in GROUPS:
        maps = [x for x in layers[:-1] if x.channels is not None]
        types = {x.module for x in layers}
        # A plain type is taken as it is, so that one that gives no map is an error and not nothing.
        found = [x.index for x in (layers if place in types else maps) if fnmatch.fnmatchcase(x.module, place)]
    if not found:
        names = [*GROUPS, *(f"p{k}" for k in levels(layers)), *sorted({x.module for x in layers})]
        near = difflib.get_close_matches(place, names, n=3, cutoff=0.5)
        raise ValueError(f"no place {place!r}; " + (f"near: {', '.join(near)}; " if near else "") + known(layers))
    return found


def _check(layers: Sequence[Layer], i: int) -> None:
    """Raise unless something can be put after layer i."""
    last = len(layers) - 1
    if i == last:
        raise ValueError(
            f"{layers[last]} is the head, which stays last; what it reads is 'head-inputs'; {known(layers)}"
        )
    if not 0 <= i < last:
        raise ValueError(f"no layer {i}; {known(layers)}")
    if layers[i].channels is None:
        raise ValueError(f"{layers[i]} gives no single map, so nothing can be put there; {known(layers)}")
