"""Attention of one position: what a query reads from every other, in scans (hidden attention) and in attention."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from yolomix.figures import drawing, mixers, opening
from yolomix.figures import rows as one_row
from yolomix.figures.mixers import Mixer
from yolomix.figures.opening import Image, Subject
from yolomix.figures.values import Array, Figure, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

Maps = dict[str, Array]  # by direction, (H, W)


def attention(
    models: Any,
    source: str | Path | None = None,
    at: Any = None,
    query: Sequence[float] = (0.5, 0.5),
    imgsz: int | Sequence[int] | None = None,
) -> Figure:
    """What one position reads from all others, in a token mixer of each model.

    The mean over channels or heads of the absolute weights, each divided by their sum. A scan has a map for every
    direction and one for their sum.

    Args:
        models: one or several, each a name, a checkpoint or a ``YOLO``.
        source: an image or a folder; None takes four images of the packaged sample.
        at: the layer that the mixer is in, as for a graft; None takes the last one in the backbone that has any.
        query: the position, x and y in fractions of the image.
        imgsz: height and width of the images in pixels, or one number for both; None takes that of the training.

    Raises:
        ValueError: a model has no token mixer there, the message has the layers that do; a query outside the image.
    """
    if len(query) != 2 or not all(0 <= part < 1 for part in query):
        raise ValueError(f"query is x and y in fractions of the image, from 0 to less than 1, got {tuple(query)}")
    subjects = opening.opened(models)
    shown = opening.images(subjects, source, imgsz)
    found = list[tuple[Subject, Image, Mixer, Maps]]()
    for subject in subjects:
        for image in shown:
            mixer = mixers.last(subject, mixers.mixers(subject, image.pixels), at, "token mixer")
            found.append((subject, image, mixer, _maps(mixer, query)))
    head = ("model", "image", "module", "operator", "map", "positions with half of it")
    table: list[Row] = [head]
    arrays = {}
    for i, (subject, image, mixer, maps) in enumerate(found):
        for direction, values in maps.items():
            half = f"{_half(values)} of {values.size}"
            table.append((subject.name, image.name, mixer.name, mixer.operator, direction, half))
            arrays[f"row{i}_{direction.replace(' ', '_')}"] = values
    where = [mixer.name for _, _, mixer, _ in found]
    done = opening.said(subjects, shown, query=[*query], modules=where)
    return Figure("attention", arrays, done, table, functools.partial(_drawn, found, (query[0], query[1])))


def _maps(mixer: Mixer, query: Sequence[float]) -> Maps:
    rows = one_row.of_mixer(mixer, drawing.cell(query, mixer.size))
    return {name: _normalised(row).reshape(mixer.size) for name, row in rows.items()}


def _normalised(row: Tensor) -> Array:
    weights = row.abs().mean(0)
    return (weights / weights.sum().clamp(min=1e-30)).cpu().numpy()


def _half(values: Array) -> int:
    """How many positions have half of the weight, the heaviest first."""
    heaviest = np.sort(values, axis=None)[::-1]
    return int((heaviest.cumsum() < 0.5).sum()) + 1


def _drawn(found: Sequence[tuple[Subject, Image, Mixer, Maps]], query: tuple[float, float]) -> Drawing:
    rows, names = [], []
    for subject, image, mixer, maps in found:
        row = [drawing.Panel(drawing.as_image(image.pixels), image.name, query)]
        mark = drawing.middle(query, mixer.size)
        row += [drawing.Panel(values, direction, mark) for direction, values in maps.items()]
        rows.append(row)
        names.append(f"{drawing.short(subject.name)}\n{mixer.name}")
    highest = max(float(values.max()) for _, _, _, maps in found for values in maps.values())
    scale = drawing.Scale("weight, part of the sum", True, highest * 1e-4, highest)
    return drawing.panels(rows, names, scale, "the ring is the query; a weight is no cause")
