"""One sweep over the detections of a run for a block of weightings, compiled by Numba on first use."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from yolomix.statistics.matches import Matches

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

GRID = np.linspace(0, 1, 101)  # recall of COCO's interpolation
SHARE = np.convolve(np.diff(GRID), [0.5, 0.5])  # of each grid point in the area, by the trapezoidal rule

# Compiled anew in each process (a second or two): a report is made once, and a cache on disk can be damaged.
compiled = numba.njit(nogil=True, error_model="numpy")


class Ranked(NamedTuple):
    """Detections by class, then by falling confidence. C classes, T IoU thresholds."""

    image: Integers
    """(detections,)."""
    start: Integers
    """(C + 1,): where the detections of each class begin."""
    place: Integers
    """(found,): positions of detections that are true at some threshold."""
    first: Integers
    """(C + 1,): where those of each class begin."""
    hits: Integers
    """Of each class and threshold the true ones, counted from ``first`` of the class."""
    bounds: Integers
    """(C * T + 1,): where the hits of each class and threshold begin."""
    label_image: Integers
    """(labels,): images of the labels, by class."""
    label_start: Integers
    """(C + 1,): where the labels of each class begin."""


def rank(matches: Matches, classes: int) -> Ranked:
    """Sort the detections of a run, once for all weightings."""
    order = np.argsort(-matches.confidence)  # as Ultralytics sorts, ties included
    order = order[np.argsort(matches.predicted[order], kind="stable")]
    predicted, tp = matches.predicted[order], matches.tp[order]
    every = np.arange(classes + 1)
    start = np.searchsorted(predicted, every)
    place = np.flatnonzero(tp.any(axis=1))
    first = np.searchsorted(predicted[place], every)
    hits, counts = [], [0]
    for here, end in itertools.pairwise(first):
        for true in tp[place[here:end]].T:
            hits.append(np.flatnonzero(true))
            counts.append(len(hits[-1]))
    by_class = np.argsort(matches.target, kind="stable")
    arrays = (
        *(matches.image[order], start, place, first, np.concatenate([*hits, []]), np.cumsum(counts)),
        *(matches.target_image[by_class], np.searchsorted(matches.target[by_class], every)),
    )
    return Ranked(*(np.ascontiguousarray(array, dtype=np.int64) for array in arrays))


@compiled
def sweep(weights: Floats, ranked: Ranked, ramp: bool, ap: Floats) -> None:
    """Write the AP of a block of weightings.

    Args:
        weights: (images, lanes).
        ranked: the sorted detections.
        ramp: see ``average_precision``.
        ap: (lanes, C, T), written.
    """
    lanes, classes, thresholds = ap.shape
    most = 0
    for c in range(classes):
        most = max(most, ranked.first[c + 1] - ranked.first[c])
    totals, own = np.empty((lanes, most)), np.empty((lanes, most))
    recall, precision = np.zeros(most + 1), np.empty(most + 1)
    for c in range(classes):
        labels = _sums(weights, ranked.label_image[ranked.label_start[c] : ranked.label_start[c + 1]])
        total = _running(weights, ranked, c, totals, own)
        for lane in range(lanes):
            for j in range(thresholds):
                at = c * thresholds + j
                hits = ranked.hits[ranked.bounds[at] : ranked.bounds[at + 1]]
                if labels[lane] > 0:
                    last, found = _curve(hits, own[lane], totals[lane], labels[lane], recall, precision)
                    end = found / total[lane] if ramp and found > 0 else 0.0
                    ap[lane, c, j] = _area(recall, precision, last, end)
                else:
                    ap[lane, c, j] = np.nan


@compiled
def _sums(weights: Floats, images: Integers) -> Floats:
    """(lanes,): the weights of these images, added."""
    sums = np.zeros(weights.shape[1])
    for image in images:
        for lane in range(len(sums)):
            sums[lane] += weights[image, lane]
    return sums


@compiled
def _running(weights: Floats, ranked: Ranked, c: int, totals: Floats, own: Floats) -> Floats:
    """Add the weights of a class's detections; keep sum and weight where one is found true. (lanes,): all of them."""
    total = np.zeros(weights.shape[1])
    first, end = ranked.first[c], ranked.first[c + 1]
    k = first
    for i in range(ranked.start[c], ranked.start[c + 1]):
        image = ranked.image[i]
        for lane in range(len(total)):
            total[lane] += weights[image, lane]
        if k < end and ranked.place[k] == i:
            for lane in range(len(total)):
                totals[lane, k - first] = total[lane]
                own[lane, k - first] = weights[image, lane]
            k += 1
    return total


@compiled
def _curve(
    hits: Integers, own: Floats, totals: Floats, labels: float, recall: Floats, precision: Floats
) -> tuple[int, float]:
    """Write recall and precision at true positives, from index 1 on; the last index, and the sum of their weights."""
    found, last = 0.0, 0
    for k in hits:
        if own[k] > 0:
            found += own[k]
            last += 1
            recall[last] = found / labels
            precision[last] = found / totals[k]
    return last, found


@compiled
def _area(recall: Floats, precision: Floats, last: int, end: float) -> float:
    """Area under the staircase: precision from ``recall[k - 1]`` on, up to ``recall[k]``, is the best from k to last.

    From the last recall on it falls in a line from ``end`` to 0 at recall 1, where it is 0 in any case.
    """
    area, envelope, i = 0.0, 0.0, len(GRID) - 2
    while i >= 0 and GRID[i] >= recall[last]:
        area += SHARE[i] * (end - end / (1.0 - recall[last]) * (GRID[i] - recall[last]))
        i -= 1
    for k in range(last, 0, -1):
        envelope = max(envelope, precision[k])
        while i >= 0 and GRID[i] >= recall[k - 1]:
            area += SHARE[i] * envelope
            i -= 1
    return area
