"""Class activation maps: which places of an image raise the score of a prediction.

LayerCAM of the head's inputs is Ultralytics' own where its version has one. Other layers and methods, and older
versions, need pytorch-grad-cam. Both explain predictions that are chosen here, and put their maps together in one way.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy import stats

from yolomix.figures import choosing, drawing, gradcam, opening
from yolomix.figures.choosing import Chosen
from yolomix.figures.opening import Image, Subject
from yolomix.figures.values import Array, Figure, Row
from yolomix.host import layercam

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

HEAD_INPUTS = "head-inputs"
HEAD = ("model", "image", "explained", "strongest", "prediction", "box", "half of it", "like random")
BORDER = 114 / 255  # with which Ultralytics fills up an image


class Explanation(NamedTuple):
    """One map.

    Args:
        subject: the model.
        image: what it was shown.
        chosen: the predictions that are explained, the strongest first.
        values: (H, W), 0 to 1.
        untrained: the same with random weights, if it was asked for.
    """

    subject: Subject
    image: Image
    chosen: list[Chosen]
    values: Array
    untrained: Array | None

    @property
    def like_random(self) -> float | None:
        """The rank correlation with random weights (Adebayo et al., arXiv:1810.03292), where both maps have ranks."""
        if self.untrained is None or np.ptp(self.values) == 0 or np.ptp(self.untrained) == 0:
            return None
        return float(stats.spearmanr(self.values, self.untrained, axis=None).statistic)


def cam(
    models: Any,
    source: str | Path | None = None,
    at: Any = None,
    classes: Any = None,
    box: int | Sequence[float] | None = None,
    method: str | None = None,
    imgsz: int | Sequence[int] | None = None,
    random: bool = True,
) -> Figure:
    """Class activation maps of predictions of models, each beside that of the same predictions with random weights.

    Explained are the detections that predict shows, the 16 strongest at most, or the strongest prediction where it
    shows none. A map is relative to its own largest value.

    Args:
        models: one or several, each a name, a checkpoint or a ``YOLO``.
        source: an image or a folder; None takes four images of the packaged sample.
        at: layers, as for a graft; None takes the head's inputs.
        classes: only predictions of these classes, by name or number; one, or several.
        box: only the prediction with the largest product of score and overlap (IoU) with x1, y1, x2, y2 in fractions of
            the image; or the prediction of that number, as it stands in the table.
        method: one of ``layercam`` (the default), ``gradcam``, ``gradcam++``, ``hirescam``, ``xgradcam``,
            ``eigengradcam`` and ``eigencam``, which is the same whatever is explained.
        imgsz: height and width of the images in pixels, or one number for both; None takes that of the training.
        random: whether each model is also shown with random weights.

    Raises:
        ValueError: no such layer, class, prediction or method; a layer or an image without places to point at.
        ModuleNotFoundError: the method, the layers or the version of Ultralytics need pytorch-grad-cam.
    """
    method = method or gradcam.LAYERCAM
    if method not in gradcam.METHODS:
        raise ValueError(f"no method {method!r} of class activation maps; known: {', '.join(gradcam.METHODS)}")
    subjects = opening.opened(models)
    shown = opening.images(subjects, source, imgsz)
    found = list[Explanation]()
    makers, layers = list[str](), list[list[int]]()
    for subject in subjects:
        labels = choosing.labels(subject, classes)
        explain, maker, wanted = _method(subject, at, method)
        makers.append(maker)
        layers.append(wanted)
        _check_maps(subject, wanted, shown[0])
        other = opening.untrained(subject) if random else None
        for image in shown:
            _check_image(image)
            chosen = choosing.chosen(subject, image, labels, box)
            pairs = [one.pair for one in chosen]
            values = explain(subject, image, pairs)
            found.append(Explanation(subject, image, chosen, values, explain(other, image, pairs) if other else None))
    arrays = {}
    for i, one in enumerate(found):
        arrays[f"row{i}"] = one.values
        if one.untrained is not None:
            arrays[f"row{i}_random_weights"] = one.untrained
    done = opening.said(subjects, shown, layers=layers, method=method, made_by=makers, classes=classes, box=box)
    rows = [HEAD, *map(_row, found)]
    return Figure("cam", arrays, done, rows, functools.partial(_drawn, found, method), _verdict(found))


Explain = Callable[[Subject, Image, Sequence[tuple[int, int]]], Array]


def _method(subject: Subject, at: Any, method: str) -> tuple[Explain, str, list[int]]:
    """What makes a map, its name for the record, and of which layers."""
    inputs = opening.at_layers(subject, HEAD_INPUTS)
    layers = inputs if at is None else opening.at_layers(subject, at)
    if method == gradcam.LAYERCAM and layers == inputs and layercam.is_there():
        return _native, "Ultralytics", layers
    gradcam.opened(method)
    return functools.partial(_brought, layers=layers, method=method), gradcam.version(), layers


def _native(subject: Subject, image: Image, pairs: Sequence[tuple[int, int]]) -> Array:
    return layercam.layercam(subject.module, image.pixels, pairs).cpu().numpy()


def _brought(
    subject: Subject, image: Image, pairs: Sequence[tuple[int, int]], layers: Sequence[int], method: str
) -> Array:
    return gradcam.of(subject, image.pixels, pairs, layers, method)


def _check_maps(subject: Subject, layers: Sequence[int], image: Image) -> None:
    """Raise unless every layer has a map with places to point at."""
    with torch.no_grad():
        maps = opening.maps(subject, image.pixels, layers)
    for index, y in maps.items():
        opening.check_places(subject, f"model.{index}", y.shape[2:])


def _check_image(image: Image) -> None:
    """Raise for an image of one colour, as one of 1x1 pixels is when it has been enlarged."""
    cells = image.pixels[0].flatten(1)  # (C, H * W)
    inside = cells[:, (cells != BORDER).any(0)]
    if not inside.numel() or bool((inside == inside[:, :1]).all()):
        raise ValueError(
            f"{image.name} is of one colour, so no place in it can speak for a class; give another image. Of a "
            "model without one there are scan and insertion"
        )


def _row(one: Explanation) -> Row:
    best = one.chosen[0]
    return (
        one.subject.name,
        one.image.name,
        str(len(one.chosen)),
        f"{best.name} {best.score:.3g}",
        str(best.number),
        "none" if best.box is None else ",".join(f"{part:.3f}" for part in best.box),
        _half(one.values),
        "none" if one.like_random is None else f"{one.like_random:.2f}",
    )


def _half(values: Array) -> str:
    """The part of the image that has half of the map's sum, the brightest places first."""
    if not values.any():
        return "none"
    sums = np.sort(values, axis=None)[::-1].cumsum(dtype=np.float64)
    return f"{(1 + int((sums < sums[-1] / 2).sum())) / values.size:.1%}"


def _verdict(found: Sequence[Explanation]) -> str:
    lines = []
    for name in dict.fromkeys(one.subject.name for one in found):
        own = [one for one in found if one.subject.name == name]
        alike = [one.like_random for one in own if one.like_random is not None]
        if alike:
            between = " to ".join(dict.fromkeys(f"{end:.2f}" for end in (min(alike), max(alike))))
            lines.append(f"{name}: rank correlation with random weights {between}, where 1 is the same order of places")
        lines += [
            f"{name}, {one.image.name}: nothing in these layers raises the score of {one.chosen[0].name}"
            for one in own
            if not one.values.any()
        ]
    return "\n".join(lines)


def _drawn(found: Sequence[Explanation], method: str) -> Drawing:
    rows = list[list[drawing.Panel]]()
    names = list[str]()
    for one in found:
        best = one.chosen[0]
        mark = best.middle
        title = f"{best.name} {best.score:.2g}"
        if len(one.chosen) > 1:
            title += f" and {len(one.chosen) - 1} more"
        row = [drawing.Panel(drawing.as_image(one.image.pixels), one.image.name, mark)]
        row.append(drawing.Panel(one.values, title, mark))
        if one.untrained is not None:
            row.append(drawing.Panel(one.untrained, opening.RANDOM, mark))
        rows.append(row)
        names.append(drawing.short(one.subject.name))
    footer = "a map is no evidence: what it shares with random weights was not learnt"
    if method == gradcam.CLASS_BLIND:
        footer += "\neigencam is the same for every class and prediction"
    scale = drawing.Scale("part of the largest value", low=0.0, high=1.0)
    return drawing.panels(rows, names, scale, footer)
