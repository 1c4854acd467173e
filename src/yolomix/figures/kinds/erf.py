"""The effective receptive field: which pixels the middle of a feature map depends on, and how far they reach.

Absolute gradient of the middle position, summed over channels, by the image, summed over its channels and averaged over
images (Luo et al., arXiv:1701.04128; the table of areas as in RepLKNet, arXiv:2203.06717, section 5).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from yolomix.figures import drawing, opening
from yolomix.figures.opening import Image, Subject
from yolomix.figures.values import Array, Figure, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

AT = "p3,p4,p5"
SHARES = (0.2, 0.3, 0.5, 0.99)
DARKEST = 1e-4  # of the brightest: what is below it looks alike


def erf(
    models: Any,
    source: str | Path | None = None,
    at: Any = AT,
    imgsz: int | Sequence[int] | None = None,
    random: bool = True,
) -> Figure:
    """The effective receptive field of layers of models, with the area that has 20, 30, 50 and 99 % of it.

    Args:
        models: one or several, each a name, a checkpoint or a ``YOLO``.
        source: an image or a folder; None takes four images of the packaged sample.
        at: layers, as for a graft; their feature maps are looked at.
        imgsz: height and width of the images in pixels, or one number for both; None takes that of the training.
        random: whether each model is also shown with random weights.

    Raises:
        ValueError: no such layer, no image, or a model that gives no gradient there.
    """
    subjects = opening.opened(models)
    shown = opening.images(subjects, source, imgsz)
    if random:
        subjects = [one for subject in subjects for one in (subject, opening.untrained(subject))]
    layers = [opening.at_layers(subject, at) for subject in subjects]
    fields = [_fields(subject, shown, wanted) for subject, wanted in zip(subjects, layers, strict=True)]
    head = ("model", "layer", *(f"{share:.0%}" for share in SHARES))
    rows: list[Row] = [head]
    arrays = {}
    for i, (subject, found) in enumerate(zip(subjects, fields, strict=True)):
        for index, field in found.items():
            areas = [f"{area(field, share):.2%}" for share in SHARES]
            rows.append((subject.name, str(subject.layers[index]), *areas))
            arrays[f"model{i}_layer{index}"] = field
    done = opening.said(subjects, shown, layers=layers, shares=SHARES)
    return Figure("erf", arrays, done, rows, functools.partial(_drawn, subjects, fields, 2 if random else 1))


def _fields(subject: Subject, shown: Sequence[Image], layers: Sequence[int]) -> dict[int, Array]:
    found = [gradients(subject, image.pixels, layers) for image in shown]
    return {index: torch.stack([one[index] for one in found]).mean(0).cpu().numpy() for index in layers}


def gradients(subject: Subject, pixels: torch.Tensor, layers: Sequence[int]) -> dict[int, torch.Tensor]:
    """The absolute gradient of the middle of each layer's map by one image (1, C, H, W), over channels: (H, W)."""
    x = pixels.clone().requires_grad_()
    with torch.enable_grad():
        maps = opening.maps(subject, x, layers)
        found = {}
        for index, y in maps.items():
            middle = y[0, :, y.shape[2] // 2, y.shape[3] // 2].sum()
            found[index] = torch.autograd.grad(middle, x, retain_graph=True)[0][0].abs().sum(0)
    return found


def area(field: Array, share: float) -> float:
    """The area of the smallest square around the middle that has a share of a field, as a part of the image.

    The middle is where the brightest pixels are that a position in the middle of a map looks at: half of each side.

    >>> area(np.eye(1, 25, 12).reshape(5, 5), 0.99)
    0.04

    Args:
        field: (H, W), not negative.
        share: 0 to 1.
    """
    H, W = field.shape
    total = float(field.sum())
    for reach in range(max(H, W)):
        top, left = max(0, H // 2 - reach), max(0, W // 2 - reach)
        square = field[top : H // 2 + reach + 1, left : W // 2 + reach + 1]
        if float(square.sum()) >= share * total:
            return square.size / field.size
    return 1.0


def _drawn(subjects: Sequence[Subject], fields: Sequence[dict[int, Array]], together: int) -> Drawing:
    """A row for every so many subjects: a model, and the same with random weights."""
    rows = list[list[drawing.Panel]]()
    for i, (subject, found) in enumerate(zip(subjects, fields, strict=True)):
        if i % together == 0:
            rows.append([])
        for index, field in found.items():
            values = np.maximum(field / max(float(field.max()), 1e-30), DARKEST)
            title = str(subject.layers[index]) if i % together == 0 else opening.RANDOM
            rows[-1].append(drawing.Panel(values, f"{title}, 50 %: {area(field, 0.5):.1%}"))
    scale = drawing.Scale("gradient, part of the largest", True, DARKEST, 1.0)
    names = [drawing.short(subject.name) for subject in subjects[::together]]
    return drawing.panels(rows, names, scale, "a map of random weights shows what is there without training")
