"""The metric of one run under weightings of its images: over all of them, for each class, for each size of objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolomix.statistics import Matches, accuracy, average_precision, mean_over_classes
from yolomix.studying.record import ImageStatistics, Record

Floats = npt.NDArray[np.float64]

THRESHOLDS = {"mAP50-95": slice(None), "mAP50": slice(0, 1), "mAP75": slice(5, 6)}  # of IoU 0.50 to 0.95
TOPS = {"top1": 0, "top5": 1}  # columns of what a classifier got right
COCO = (32.0**2, 96.0**2)  # between small, medium and large, in pixels
FEWEST_LABELS = 10  # in a bin of sizes
OF_SIZES = 400  # weightings of a description: its variance is known to 7 %, and it takes three times as long
CELLS = 20_000_000  # weights at once, of images and classes


class Sizes(NamedTuple):
    """Bins of label areas.

    Attributes:
        edges: areas between the bins, in pixels of the image as given.
        names: of the bins.
        of_coco: whether they are COCO's; otherwise they are terciles of the labels.
    """

    edges: tuple[float, ...]
    names: tuple[str, ...]
    of_coco: bool

    def bins(self, areas: Floats) -> npt.NDArray[np.int64]:
        """(m,): the bin of every label."""
        return np.searchsorted(self.edges, areas, side="right")


def sizes(areas: Floats) -> Sizes | None:
    """COCO's bins, or terciles where one of these would have fewer than ten labels; None for labels of one size.

    >>> sizes(np.repeat([10.0, 5000.0, 90000.0], 20)).names
    ('small', 'medium', 'large')
    >>> sizes(np.repeat([100.0, 200.0, 300.0], 20))
    Sizes(edges=(200.0, 300.0), names=('smallest third', 'middle third', 'largest third'), of_coco=False)

    Args:
        areas: (m,), in pixels of the image as given.
    """
    coco = Sizes(COCO, ("small", "medium", "large"), True)
    thirds = np.quantile(areas, (1 / 3, 2 / 3), method="higher") if len(areas) else np.zeros(2)
    terciles = Sizes((float(thirds[0]), float(thirds[1])), ("smallest third", "middle third", "largest third"), False)
    for found in (coco, terciles):
        counts = np.bincount(found.bins(areas), minlength=3)
        if counts.min() >= FEWEST_LABELS:
            return found
    return None


@dataclass(frozen=True)
class Measured:
    """The metric of a run. B weightings, C classes, K sizes; the first row of each is that of weights of one.

    Attributes:
        metric: (1 + B,).
        classes: (1 + B, C); NaN for a class without labels.
        sizes: (1 + B', K) with at most ``OF_SIZES`` weightings; K = 0 of a classifier.
    """

    metric: Floats
    classes: npt.NDArray[np.float32]
    sizes: npt.NDArray[np.float32]


def measure(found: ImageStatistics, metric: str, weights: Floats, bins: Sizes | None, ramp: bool) -> Measured:
    """A run under all weightings.

    Args:
        found: its statistics.
        metric: as in the plan.
        weights: (B, images).
        bins: of sizes; None for none.
        ramp: as :func:`yolomix.statistics.average_precision` takes it.
    """
    weights = np.vstack([np.ones(weights.shape[1]), weights])
    if metric in TOPS:
        return _of_classifier(found, metric, weights)
    ap = average_precision(matches(found, metric), weights, len(found.classes), ramp=ramp)[..., _columns(metric)]
    fewer = weights[: 1 + OF_SIZES]
    of_sizes = [_of_size(found, metric, fewer, inside, ramp) for inside in _shares(found, bins)]
    stacked = np.stack(of_sizes, axis=1) if of_sizes else np.empty((len(fewer), 0))
    return Measured(mean_over_classes(ap), ap.mean(axis=2).astype(np.float32), stacked.astype(np.float32))


def without(found: ImageStatistics, metric: str, images: Sequence[int], ramp: bool) -> Floats:
    """(images,): the metric without each of these images."""
    weights = np.ones((len(images), len(found.images)))
    weights[np.arange(len(images)), images] = 0
    if metric in TOPS:
        return accuracy(found.correct[:, TOPS[metric]], weights)
    ap = average_precision(matches(found, metric), weights, len(found.classes), ramp=ramp)
    return mean_over_classes(ap[..., _columns(metric)])


def matches(found: ImageStatistics, metric: str) -> Matches:
    """What the statistics package takes: of boxes, or of masks or keypoints where the metric ends in their letter.

    Raises:
        ValueError: the run has no such matches.
    """
    letter = _letter(metric)
    if letter and letter not in found.other_tp:
        there = ", ".join(found.other_tp) or "boxes only"
        raise ValueError(f"metric {metric} needs matches of {letter}, got {there}; evaluate a model for that task")
    tp = found.other_tp[letter] if letter else found.tp
    return Matches(tp, found.confidence, found.predicted, found.image, found.target, found.target_image)


def column(metric: str) -> str:
    """The name of a metric in Ultralytics' ``results.csv``.

    >>> column("mAP50"), column("mAP50-95(M)"), column("top1")
    ('metrics/mAP50(B)', 'metrics/mAP50-95(M)', 'metrics/accuracy_top1')
    """
    if metric in TOPS:
        return f"metrics/accuracy_{metric}"
    return f"metrics/{metric}" if _letter(metric) else f"metrics/{metric}(B)"


def has_ramp(record: Record) -> bool:
    """Which of two rules of AP made the metrics that Ultralytics itself reported for a run: the nearer one."""
    found, usual = record.statistics, next(iter(THRESHOLDS))
    reported = record.metrics.get(column(usual))
    if reported is None or found is None or len(found.correct):
        return False
    away = [abs(reported - whole(found, usual, ramp)) for ramp in (False, True)]
    return away[1] < away[0]


def whole(found: ImageStatistics, metric: str, ramp: bool) -> float:
    """The metric with weights of one."""
    return float(measure(found, metric, np.ones((0, len(found.images))), None, ramp).metric[0])


def class_images(found: ImageStatistics) -> list[npt.NDArray[np.int64]]:
    """Of every class the images with a label of it; those of a classifier stand in a folder of that name."""
    if len(found.correct):
        folders = np.array([PurePath(image).parent.name for image in found.images])
        return [np.flatnonzero(folders == name) for name in found.classes]
    return [np.unique(found.target_image[found.target == c]) for c in range(len(found.classes))]


def _of_classifier(found: ImageStatistics, metric: str, weights: Floats) -> Measured:
    right = found.correct[:, TOPS[metric]]
    classes = np.full((len(weights), len(found.classes)), np.nan, np.float32)
    for c, images in enumerate(class_images(found)):
        if len(images):
            classes[:, c] = accuracy(right[images], weights[:, images])
    return Measured(accuracy(right, weights), classes, np.empty((len(weights), 0), np.float32))


def _letter(metric: str) -> str:
    return metric[-2] if metric.endswith(")") else ""


def _columns(metric: str) -> slice:
    return THRESHOLDS[metric.partition("(")[0]]


class _Cells(NamedTuple):
    """An image and a class in it as one cell, which can have a weight of its own."""

    matches: Matches
    image: npt.NDArray[np.int64]  # of each cell
    share: Floats  # of each cell: how much of it is of the size


def _shares(found: ImageStatistics, bins: Sizes | None) -> list[Floats]:
    """For every bin: (m,), whether a label is in it."""
    if bins is None or not len(found.target):
        return []
    which = bins.bins(found.target_area.astype(np.float64))
    return [(which == k).astype(np.float64) for k in range(len(bins.names))]


def _of_size(found: ImageStatistics, metric: str, weights: Floats, inside: Floats, ramp: bool) -> Floats:
    """(1 + B',): the metric where an image counts, for each class, with the share of its labels that are of a size."""
    cells = _cells(found, matches(found, metric), inside)
    kept = np.empty(len(weights))
    rows = max(16, CELLS // max(len(cells.image), 1))
    for first in range(0, len(weights), rows):
        block = weights[first : first + rows, cells.image] * cells.share
        ap = average_precision(cells.matches, block, len(found.classes), ramp=ramp)
        kept[first : first + rows] = mean_over_classes(ap[..., _columns(metric)])
    return kept


def _cells(found: ImageStatistics, given: Matches, inside: Floats) -> _Cells:
    classes = len(found.classes)
    of_labels = found.target_image.astype(np.int64) * classes + found.target
    of_detections = found.image.astype(np.int64) * classes + found.predicted
    known, index = np.unique(np.concatenate([of_labels, of_detections]), return_inverse=True)
    at_labels, at_detections = index[: len(of_labels)], index[len(of_labels) :]
    image = known // classes
    # False detections of a class that the image lacks count as the image does, or without any label as the dataset.
    of_images = _share(found.target_image, inside, np.full(len(found.images), inside.mean()))
    share = _share(at_labels, inside, of_images[image])
    moved = given._replace(image=at_detections, target_image=at_labels)
    return _Cells(moved, image, share)


def _share(owner: npt.NDArray[np.integer], inside: Floats, default: Floats) -> Floats:
    """How much of the labels of each owner, an image or a cell, is inside; of an owner without labels the default."""
    labels = np.bincount(owner, minlength=len(default))
    counted = np.bincount(owner, inside, minlength=len(default))
    return np.where(labels > 0, counted / np.maximum(labels, 1), default)
