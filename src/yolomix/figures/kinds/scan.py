"""The order in which scans read an image: one map for every direction."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolomix.figures import drawing, mixers, opening
from yolomix.figures.mixers import Mixer
from yolomix.figures.opening import Image, Subject
from yolomix.figures.values import Array, Figure, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


def scan(
    models: Any, source: str | Path | None = None, at: Any = None, imgsz: int | Sequence[int] | None = None
) -> Figure:
    """The time step at which a scan reads each position, for each of its directions, over the first image.

    Args:
        models: one or several, each a name, a checkpoint or a ``YOLO``.
        source: an image or a folder, whose first image is taken; None takes one of the packaged sample.
        at: the layer that the scan is in, as for a graft; None takes the last one in the backbone that has any.
        imgsz: height and width of the images in pixels, or one number for both; None takes that of the training.

    Raises:
        ValueError: a model has no scan there; the message says which layers have one.
    """
    subjects = opening.opened(models)
    image = opening.images(subjects, source, imgsz)[0]
    found = list[tuple[Subject, Mixer, dict[str, Array]]]()
    for subject in subjects:
        mixer = mixers.last(subject, mixers.scans(subject, image.pixels), at, "scan")
        read = {path.direction: mixers.time_steps(path.order, mixer.size) for path in mixer.paths}
        found.append((subject, mixer, read))
    table: list[Row] = [("model", "module", "direction", "map", "first position", "last position")]
    arrays = {}
    for i, (subject, mixer, maps) in enumerate(found):
        for direction, times in maps.items():
            ends = (str(tuple(map(int, np.argwhere(times == end)[0]))) for end in (0, times.size - 1))
            table.append((subject.name, mixer.name, direction, "x".join(map(str, mixer.size)), *ends))
            arrays[f"model{i}_{direction.replace(' ', '_')}"] = times
    done = opening.said(subjects, [image], modules=[mixer.name for _, mixer, _ in found])
    return Figure("scan", arrays, done, table, functools.partial(_drawn, found, image))


def _drawn(found: Sequence[tuple[Subject, Mixer, dict[str, Array]]], image: Image) -> Drawing:
    rows, names = [], []
    for subject, mixer, maps in found:
        row = [drawing.Panel(drawing.as_image(image.pixels), image.name)]
        row += [drawing.Panel(times / max(times.size - 1, 1), direction) for direction, times in maps.items()]
        rows.append(row)
        names.append(f"{drawing.short(subject.name)}\n{mixer.name}")
    return drawing.panels(rows, names, drawing.Scale("time of reading: first to last", low=0.0, high=1.0))
