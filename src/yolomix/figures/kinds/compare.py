"""What two models find in the same images, with what one finds and the other does not."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy import optimize

from yolomix.figures import opening
from yolomix.figures.drawing import FONT, as_image, short
from yolomix.figures.opening import Image, Subject
from yolomix.figures.values import Array, Figure, Row
from yolomix.host import exported, predicting
from yolomix.host.exported import Contents
from yolomix.host.predicting import Detections
from yolomix.profiling.layers import tensors

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

SUPPRESSED = 0.7  # IoU from which on a box suppresses another, as in predict
SAME, MEETS = 0.75, 0.5  # IoU from which on two boxes are one, and from which on they are of one object
ONE, OTHER, CLASS, MOVED, EQUAL = "first only", "second only", "class changed", "box moved", "equal"
KINDS = (ONE, OTHER, CLASS, MOVED)  # of differences
DRAWN = 8  # images, those with most differences


class Pair(NamedTuple):
    """A detection of the first model, of the second, or one of each of the same object.

    Args:
        kind: one of ``KINDS``, or ``equal``.
        first: its index among the detections of the first model; None where that has none.
        second: the same of the second.
        iou: of both boxes; 0 where there is one.
    """

    kind: str
    first: int | None
    second: int | None
    iou: float


class _Compared(NamedTuple):
    image: Image
    found: tuple[Detections, Detections]
    pairs: list[Pair]

    @property
    def differences(self) -> int:
        """How many pairs are not equal."""
        return sum(pair.kind != EQUAL for pair in self.pairs)


def compare(
    models: Any, source: str | Path | None = None, conf: float = 0.25, imgsz: int | Sequence[int] | None = None
) -> Figure:
    """The detections of two models in the same images; those with most differences come first.

    Args:
        models: two, each a name, a checkpoint or a ``YOLO``.
        source: an image or a folder; None takes four images of the packaged sample.
        conf: the least score of a detection.
        imgsz: height and width of the images in pixels, or one number for both; None takes that of the training.

    Raises:
        ValueError: there are not two models, they have other classes, or one draws no boxes.
    """
    subjects = opening.opened(models)
    _check(subjects)
    shown = opening.images(subjects, source, imgsz)
    height, width = shown[0].pixels.shape[2:]
    finders = [_Finder(subject, (height, width)) for subject in subjects]
    compared = list[_Compared]()
    for image in shown:
        first, second = (finder(image, conf) for finder in finders)
        compared.append(_Compared(image, (first, second), pairs(first, second)))
    compared.sort(key=lambda one: -one.differences)
    names = subjects[0].module.names
    table: list[Row] = [("image", "what", *_columns("first"), *_columns("second"), "IoU")]
    for one in compared:
        table += [_row(one, pair, names) for pair in one.pairs if pair.kind != EQUAL]
    arrays = {}
    for i, one in enumerate(compared):
        for j, found in enumerate(one.found):
            arrays[f"image{i}_model{j}"] = np.column_stack([found.boxes, found.scores, found.classes])
    counts = {kind: sum(pair.kind == kind for one in compared for pair in one.pairs) for kind in (*KINDS, EQUAL)}
    done = opening.said(subjects, [one.image for one in compared], conf=conf, counts=counts)
    verdict = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return Figure("compare", arrays, done, table, functools.partial(_drawn, subjects, compared[:DRAWN], names), verdict)


def _check(subjects: Sequence[Subject]) -> None:
    if len(subjects) != 2:
        raise ValueError(f"compare needs two models, models=a.pt,b.pt, got {len(subjects)}")
    one, other = (subject.module for subject in subjects)
    for subject in subjects:
        if subject.module.task not in ("detect", "segment", "pose"):
            raise ValueError(
                f"{subject.name} is for {subject.module.task}, and compare draws boxes; erf and cam take it"
            )
    if dict(one.names) != dict(other.names):
        raise ValueError(
            f"{subjects[0].name} and {subjects[1].name} have other classes, {len(one.names)} and {len(other.names)}: "
            "give two models of one dataset"
        )


class _Finder:
    """A model as predict runs it, ready for images of one size."""

    def __init__(self, subject: Subject, size: tuple[int, int]) -> None:
        module = subject.module
        self.contents = Contents(module.task, module.names, size, stride=subject.stride)
        self.model = exported.as_exported(module, self.contents)
        self.kind = exported.layout(self.model, self.contents)

    def __call__(self, image: Image, conf: float) -> Detections:
        """What it finds, boxes as corners in pixels of the letterbox."""
        with torch.no_grad():
            outputs = [y.numpy() for y in tensors(self.model(image.pixels))]
        found = predicting.detected(outputs, self.kind, self.contents, conf, SUPPRESSED)[0]
        if self.kind.endswith("queries"):  # in fractions of the image
            height, width = self.contents.imgsz
            found = found._replace(boxes=found.boxes * np.array([width, height, width, height]))
        return found


def pairs(one: Detections, other: Detections) -> list[Pair]:
    """Detections of two models that are of one object, as many of one class as possible, then by IoU; what each is.

    >>> box = np.array([[0.0, 0.0, 10.0, 10.0]])
    >>> cat, dog = (Detections(np.array([i]), np.array([0.9]), box) for i in (0, 1))
    >>> pairs(cat, dog), pairs(cat, cat)[0].kind
    ([Pair(kind='class changed', first=0, second=0, iou=1.0)], 'equal')
    """
    overlaps: Array = predicting.overlaps(one.boxes, other.boxes)
    if not overlaps.size:
        overlaps = np.zeros((len(one.scores), len(other.scores)))
    same_class = one.classes[:, None] == other.classes[None]
    meet = overlaps >= MEETS
    gains = meet * (overlaps + len(overlaps) * same_class)  # no sum of IoU is worth a pair of one class
    matched = [(int(i), int(j)) for i, j in zip(*optimize.linear_sum_assignment(-gains), strict=True) if meet[i, j]]
    found = []
    for i, j in matched:
        iou = round(float(overlaps[i, j]), 6)
        kind = CLASS if not same_class[i, j] else EQUAL if iou >= SAME else MOVED
        found.append(Pair(kind, i, j, iou))
    first, second = ({pair[side] for pair in matched} for side in (0, 1))
    found += [Pair(ONE, i, None, 0.0) for i in range(len(one.scores)) if i not in first]
    found += [Pair(OTHER, None, j, 0.0) for j in range(len(other.scores)) if j not in second]
    return found


def _columns(which: str) -> tuple[str, ...]:
    return (f"{which}: class", f"{which}: score", f"{which}: box")


def _row(one: _Compared, pair: Pair, names: dict[int, str]) -> Row:
    cells = list[str]()
    for found, index in zip(one.found, (pair.first, pair.second), strict=True):
        if index is None:
            cells += ["", "", ""]
        else:
            corners = " ".join(f"{corner:.0f}" for corner in found.boxes[index])
            cells += [names[int(found.classes[index])], f"{found.scores[index]:.3f}", corners]
    return (one.image.name, pair.kind, *cells, f"{pair.iou:.2f}" if pair.iou else "")


# Told apart without colours, too: by line and by letter.
LOOKS: dict[str, dict[str, Any]] = {
    ONE: {"color": "#d55e00", "linestyle": "-", "linewidth": 1.8},
    OTHER: {"color": "#d55e00", "linestyle": "-", "linewidth": 1.8},
    CLASS: {"color": "#0072b2", "linestyle": "--", "linewidth": 1.8},
    MOVED: {"color": "#e69f00", "linestyle": ":", "linewidth": 1.8},
    EQUAL: {"color": "white", "linestyle": "-", "linewidth": 0.7},
}
SIDE = 3.6  # inches of an image


def _drawn(subjects: Sequence[Subject], compared: Sequence[_Compared], names: dict[int, str]) -> Drawing:
    from matplotlib.figure import Figure as Drawing
    from matplotlib.lines import Line2D

    figure = Drawing(figsize=(2 * SIDE, SIDE * len(compared) + 0.8), layout="constrained")
    axes = figure.subplots(len(compared), 2, squeeze=False)
    for one, row in zip(compared, axes, strict=True):
        for side, (axis, subject) in enumerate(zip(row, subjects, strict=True)):
            axis.imshow(as_image(one.image.pixels))
            axis.set_axis_off()
            axis.set_title(f"{short(subject.name)}: {one.image.name}", fontsize=FONT)
            for pair in one.pairs:
                index = (pair.first, pair.second)[side]
                if index is not None:
                    _box(axis, one.found[side], index, pair.kind, names)
    looks = {"found by one only" if kind == ONE else kind: look for kind, look in LOOKS.items() if kind != OTHER}
    lines = [Line2D([], [], **(look | {"color": "0.6"} if kind == EQUAL else look)) for kind, look in looks.items()]
    figure.legend(lines, [*looks], loc="outside lower center", ncols=len(looks), fontsize=FONT)
    return figure


def _box(axis: Any, found: Detections, index: int, kind: str, names: dict[int, str]) -> None:
    from matplotlib.patches import Rectangle

    left, top, right, bottom = found.boxes[index]
    axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **LOOKS[kind]))
    if kind != EQUAL:
        label = f"{names[int(found.classes[index])]} {found.scores[index]:.2f}"
        box = {"facecolor": "black", "alpha": 0.6, "pad": 1.0, "linewidth": 0}
        axis.text(left, top, label, color="white", fontsize=FONT - 2, va="bottom", bbox=box, clip_on=True)
