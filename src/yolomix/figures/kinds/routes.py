"""Routes of ASSG: the class of every position, and the order in which positions are scanned."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolomix.figures import drawing, mixers, opening
from yolomix.figures.mixers import Routes
from yolomix.figures.opening import Image, Subject
from yolomix.figures.values import Array, Figure, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


def routes(models: Any, source: str | Path | None = None, imgsz: int | Sequence[int] | None = None) -> Figure:
    """The class of every position in every ASSG, and its place in the sorted sequence.

    Args:
        models: one or several, each a name, a checkpoint or a ``YOLO``.
        source: an image or a folder; None takes four images of the packaged sample.
        imgsz: height and width of the images in pixels, or one number for both; None takes that of the training.

    Raises:
        ValueError: a model has no ASSG, or its map has one position.
    """
    subjects = opening.opened(models)
    shown = opening.images(subjects, source, imgsz)
    found = list[tuple[Subject, Image, list[Routes]]]()
    for subject in subjects:
        for image in shown:
            several = mixers.routes(subject, image.pixels)
            if not several:
                raise ValueError(
                    f"{subject.name} has no ASSG, and nothing else sorts positions; scan shows fixed orders"
                )
            for one in several:
                opening.check_places(subject, one.name, one.size)
            found.append((subject, image, several))
    table: list[Row] = [("model", "image", "module", "classes in use", "largest class")]
    arrays: dict[str, Array] = {}
    for i, (subject, image, several) in enumerate(found):
        for one in several:
            counts = np.bincount(one.classes.cpu().numpy(), minlength=one.kinds)
            largest = f"{counts.max() / counts.sum():.0%} of the positions"
            table.append((subject.name, image.name, one.name, f"{(counts > 0).sum()} of {one.kinds}", largest))
            arrays[f"row{i}_{one.name}_classes"] = one.classes.cpu().numpy().reshape(one.size)
            arrays[f"row{i}_{one.name}_place"] = mixers.time_steps(one.order, one.size)
    return Figure(
        "routes",
        arrays,
        opening.said(subjects, shown),
        table,
        functools.partial(_drawn, found),
    )


def _drawn(found: Sequence[tuple[Subject, Image, list[Routes]]]) -> Drawing:
    rows, names = [], []
    for subject, image, several in found:
        row = [drawing.Panel(drawing.as_image(image.pixels), image.name)]
        for one in several:
            short = one.name.removeprefix("model.")
            classes = one.classes.cpu().numpy().reshape(one.size) / max(one.kinds - 1, 1)
            times = mixers.time_steps(one.order, one.size) / max(one.order.numel() - 1, 1)
            row += [drawing.Panel(classes, f"{short}: class"), drawing.Panel(times, f"{short}: order")]
        rows.append(row)
        names.append(drawing.short(subject.name))
    scale = drawing.Scale("class, or place in the sequence: first to last", low=0.0, high=1.0)
    return drawing.panels(rows, names, scale)
