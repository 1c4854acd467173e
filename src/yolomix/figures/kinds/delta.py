"""Step sizes Δ of scans: where a model writes into its state, and where it passes by."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from yolomix.figures import drawing, mixers, opening
from yolomix.figures.mixers import Mixer
from yolomix.figures.opening import Image, Subject
from yolomix.figures.rows import step_sizes
from yolomix.figures.values import Array, Figure, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


def delta(
    models: Any, source: str | Path | None = None, at: Any = None, imgsz: int | Sequence[int] | None = None
) -> Figure:
    """The mean step size of every position in every scan: over channels and directions.

    Args:
        models: one or several, each a name, a checkpoint or a ``YOLO``.
        source: an image or a folder; None takes four images of the packaged sample.
        at: layers, as for a graft; None takes all.
        imgsz: height and width of the images in pixels, or one number for both; None takes that of the training.

    Raises:
        ValueError: a model has no scan there, the message says which layers have one; or its map has one position.
    """
    subjects = opening.opened(models)
    shown = opening.images(subjects, source, imgsz)
    found = list[tuple[Subject, Image, dict[str, Array]]]()
    for subject in subjects:
        for image in shown:
            scans = mixers.inside(subject, mixers.scans(subject, image.pixels), at, "scan with step sizes")
            for mixer in scans:
                opening.check_places(subject, mixer.name, mixer.size)
            found.append((subject, image, {mixer.name: mean(mixer) for mixer in scans}))
    table: list[Row] = [("model", "image", "module", "lowest", "mean", "highest")]
    arrays = {}
    for i, (subject, image, maps) in enumerate(found):
        for name, values in maps.items():
            numbers = (f"{number:.3g}" for number in (values.min(), values.mean(), values.max()))
            table.append((subject.name, image.name, name, *numbers))
            arrays[f"row{i}_{name}"] = values
    done = opening.said(subjects, shown)
    return Figure("delta", arrays, done, table, functools.partial(_drawn, found))


def mean(mixer: Mixer) -> Array:
    """Δ of every position, the mean over channels and directions: (H, W)."""
    total = torch.zeros(mixer.size[0] * mixer.size[1], dtype=torch.float64)
    paths = mixer.paths
    for path in paths:
        total[path.order.cpu()] += step_sizes(path.scan).mean(0).cpu()
    return (total / len(paths)).reshape(mixer.size).numpy()


def _drawn(found: Sequence[tuple[Subject, Image, dict[str, Array]]]) -> Drawing:
    rows, names = [], []
    for subject, image, maps in found:
        panels = [drawing.Panel(values, name.removeprefix("model.")) for name, values in maps.items()]
        rows.append([drawing.Panel(drawing.as_image(image.pixels), image.name), *panels])
        names.append(drawing.short(subject.name))
    return drawing.panels(rows, names, drawing.Scale("mean step size Δ, of one step of the scan", True))
