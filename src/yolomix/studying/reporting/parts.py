"""Where a difference comes from: classes, sizes of objects, images; and how the training went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolomix.statistics import Contrast, Weightings, contrast
from yolomix.studying.record import ImageStatistics, Record
from yolomix.studying.reporting.design import Design, Look, Run
from yolomix.studying.reporting.metrics import (
    FEWEST_LABELS,
    TOPS,
    Measured,
    Sizes,
    class_images,
    column,
    matches,
    without,
)
from yolomix.studying.reporting.values import Curve, ImagePart, Part

Floats = npt.NDArray[np.floating]

FEW_IMAGES = 10  # with a class, below which it is named
TRIED = 500  # images that are left out one at a time; of more, those with the largest covariance
SHOWN = 6  # images of an arm
CONFIDENCE = 0.25  # of detections that are counted image by image
LOSS = "training loss"


class Compared(NamedTuple):
    """Arms that are compared with the base, with all that their parts need."""

    pairs: Mapping[str, Sequence[tuple[Measured, Measured]]]  # arm: for each seed the arm and the base
    statistics: ImageStatistics
    weights: Weightings
    groups: Sequence[str]  # of every image


def of_classes(compared: Compared) -> Iterator[Part]:
    """Differences per class."""
    images = class_images(compared.statistics)
    labels = np.bincount(compared.statistics.target, minlength=len(images))
    if len(compared.statistics.correct):
        labels = np.array([len(one) for one in images])
    for arm, pairs in compared.pairs.items():
        for c, name in enumerate(compared.statistics.classes):
            if len(images[c]):
                values = [(one.classes[:, c], other.classes[:, c]) for one, other in pairs]
                yield Part(name, arm, _contrast(values, images[c], compared), len(images[c]), int(labels[c]))


def of_sizes(compared: Compared, bins: Sizes | None) -> Iterator[Part]:
    """Differences per size of objects."""
    if bins is None:
        return
    which = bins.bins(compared.statistics.target_area.astype(np.float64))
    for arm, pairs in compared.pairs.items():
        for k, name in enumerate(bins.names):
            images = np.unique(compared.statistics.target_image[which == k])
            values = [(one.sizes[:, k], other.sizes[:, k]) for one, other in pairs]
            yield Part(name, arm, _contrast(values, images, compared), len(images), int((which == k).sum()))


def said_of(bins: Sizes | None) -> str:
    """What the sizes mean.

    >>> said_of(Sizes((1024.0, 9216.0), ("small", "medium", "large"), True))
    'small below 32x32 pixels of label area, large from 96x96 on (COCO)'
    """
    if bins is None:
        return ""
    low, high = (round(edge**0.5) for edge in bins.edges)
    if bins.of_coco:
        return f"small below {low}x{low} pixels of label area, large from {high}x{high} on (COCO)"
    return (
        f"thirds of the labels by area, split at {low}x{low} and {high}x{high} pixels, as a size of COCO has fewer "
        f"than {FEWEST_LABELS} labels"
    )


def few(found: ImageStatistics) -> dict[str, int]:
    """Classes with fewer than ten labelled images, and how many they have."""
    counts = [len(images) for images in class_images(found)]
    return {name: count for name, count in zip(found.classes, counts, strict=True) if count < FEW_IMAGES}


def _contrast(
    values: Sequence[tuple[Floats, Floats]], images: npt.NDArray[np.integer], compared: Compared
) -> Contrast | None:
    """Of one class or size; only its own images, or groups of them, count as independent."""
    units = len({compared.groups[image] for image in images})
    differences = np.stack([arm.astype(float) - base.astype(float) for arm, base in values], axis=1)
    if units < 2 or not np.isfinite(differences).all():
        return None
    return contrast(differences[1:], differences[0], units)


def largest(compared: Compared, design: Design, runs: Sequence[Run], look: Look, ramp: bool) -> Iterator[ImagePart]:
    """The images of each arm that move its difference most, when they are left out."""
    records = {(run.spec.arm, run.pair): run.record for run in runs if run.record is not None}
    tried = _tried(compared)
    base = [records[design.plan.base, seed] for seed in look.seeds]
    without_base = [_without(record, design.metric, tried, ramp) for record in base]
    for arm, pairs in compared.pairs.items():
        own = [records[arm, seed] for seed in look.seeds]
        left = np.array([_without(one, design.metric, tried, ramp) for one in own]) - np.array(without_base)
        whole = np.array([one.metric[0] - other.metric[0] for one, other in pairs])
        moved = whole[:, None] - left  # (S, tried)
        mean = moved.mean(axis=0)
        order = np.argsort(-np.abs(mean), kind="stable")[:SHOWN]
        for i in order[mean[order] != 0]:
            image = int(tried[i])
            agree = int((np.sign(moved[:, i]) == np.sign(mean[i])).sum())
            counts = [_counted(each, design.metric, image) for each in (base, own)]
            labels = int((compared.statistics.target_image == image).sum())
            (found, false), (own_found, own_false) = counts
            yield ImagePart(
                compared.statistics.images[image], arm, float(mean[i]), agree, labels, (found, own_found),
                (false, own_false),
            )  # fmt: skip


def _tried(compared: Compared) -> npt.NDArray[np.int64]:
    """Images that may move a difference: all, or those whose weight goes with it most."""
    count = len(compared.statistics.images)
    if count <= TRIED:
        return np.arange(count)
    weights = compared.weights.weights - compared.weights.weights.mean(axis=0)
    most = np.zeros(count)
    for pairs in compared.pairs.values():
        mean = np.mean([arm.metric[1:] - base.metric[1:] for arm, base in pairs], axis=0)
        most = np.maximum(most, np.abs((mean - mean.mean()) @ weights))
    return np.sort(np.argsort(-most, kind="stable")[:TRIED])


def _without(record: Record, metric: str, images: npt.NDArray[np.int64], ramp: bool) -> Floats:
    assert record.statistics is not None, "only whole runs are compared"
    return without(record.statistics, metric, images.tolist(), ramp)


def _counted(records: Sequence[Record], metric: str, image: int) -> tuple[float, float]:
    """Objects found and false detections in one image, mean over runs; of a classifier how often it was right."""
    found, false = 0.0, 0.0
    for record in records:
        assert record.statistics is not None, "only whole runs are compared"
        if metric in TOPS:
            found += float(record.statistics.correct[image, TOPS[metric]])
            continue
        given = matches(record.statistics, metric)
        inside = (given.image == image) & (given.confidence >= CONFIDENCE)
        found += float(given.tp[inside, 0].sum())
        false += float((~given.tp[inside, 0]).sum())
    return found / len(records), false / len(records)


def curves(design: Design, runs: Sequence[Run]) -> Iterator[Curve]:
    """The metric on the val split and the training loss, for every arm."""
    for arm in design.arms:
        histories = [run.record.epochs for run in runs if run.spec.arm == arm.name and run.record is not None]
        name = _metric_column(design.metric, histories)
        for what in (name, LOSS):
            columns = [[_cell(epoch, what) for epoch in history] for history in histories]
            columns = [column for column in columns if column and not any(cell is None for cell in column)]
            if columns:
                yield _curve(arm.name, what, columns)


def _metric_column(metric: str, histories: Sequence[Sequence[Mapping[str, float]]]) -> str:
    """The metric's own column; mAP75 has none, and mAP50-95 stands for it."""
    own = column(metric)
    known = histories[0][0] if histories and histories[0] else {}
    return own if own in known else own.replace("mAP75", "mAP50-95")


def _cell(epoch: Mapping[str, float], what: str) -> float | None:
    if what != LOSS:
        return epoch.get(what)
    losses = [value for name, value in epoch.items() if name.startswith("train/") and name.endswith("loss")]
    return sum(losses) if losses else None


def _curve(arm: str, what: str, columns: Sequence[Sequence[float | None]]) -> Curve:
    longest = max(map(len, columns))
    table = np.full((len(columns), longest), np.nan)
    for row, column_of in zip(table, columns, strict=True):
        row[: len(column_of)] = np.array(column_of, float)
    # A diverged run ends in NaN; what was finite before it is shown.
    kept = np.isfinite(table).any(axis=0)
    table, epochs = table[:, kept], np.flatnonzero(kept) + 1
    statistics = [np.nanmean(table, axis=0), np.nanmin(table, axis=0), np.nanmax(table, axis=0)]
    mean, low, high = (tuple(row.tolist()) for row in statistics)
    return Curve(arm, what, tuple(epochs.tolist()), mean, low, high, len(columns))
