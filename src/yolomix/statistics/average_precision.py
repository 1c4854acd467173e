"""Average precision under weightings of images, equal to Ultralytics' ``ap_per_class`` for weights of 0 and 1.

Detections are matched to labels within an image, so a resample of images is a re-weighting of detections and labels.
The curve of Ultralytics is a staircase: its precision envelope is level from one true positive to the next, so a class
needs the precision at its true positives only, and 101 comparisons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from yolomix.statistics import ap_kernel
from yolomix.statistics.matches import Matches, check_matches
from yolomix.statistics.weightings import Floats, check_weights

LANES = 16  # weightings that are swept together


def average_precision(matches: Matches, weights: Floats, classes: int, *, ramp: bool = False) -> Floats:
    """AP for every weighting, class and IoU threshold; NaN for a class which a weighting leaves without labels.

    Detections of equal confidence fall in the order of ``np.argsort``, as in Ultralytics; it depends on the processor.

    Args:
        matches: what a run found.
        weights: (B, images); ones for the number that Ultralytics prints.
        classes: C, how many classes there are.
        ramp: whether precision falls in a line from the last recall to recall 1, as in ``compute_ap`` of Ultralytics
            8.3.0, and not at once to 0, as in that of 8.4.190. ``has_ramp`` tells which.

    Returns: (B, C, T).

    Raises:
        ValueError: arrays that do not belong together, or more true positives than labels.

    >>> found = Matches(np.array([[True], [False]]), np.array([0.9, 0.8]), np.array([0, 0]), np.array([0, 1]),
    ...                 np.array([0, 0]), np.array([0, 1]))
    >>> average_precision(found, np.ones((1, 2)), classes=1).round(3).tolist()
    [[[0.495]]]
    """
    check_matches(matches, weights.shape[-1], classes)
    check_weights(weights, weights.shape[-1])
    ranked = ap_kernel.rank(matches, classes)
    ap = np.empty((len(weights), classes, matches.tp.shape[1]))
    for first in range(0, len(weights), LANES):
        block = slice(first, first + LANES)
        ap_kernel.sweep(np.ascontiguousarray(weights[block].T, dtype=np.float64), ranked, ramp, ap[block])
    return ap


def has_ramp(compute_ap: Callable[..., Any]) -> bool:
    """Whether a ``compute_ap`` of Ultralytics lets precision fall in a line from the last recall to recall 1.

    Versions differ in it, so the one that made a run's own metrics has to be asked.

    >>> has_ramp(lambda recall, precision: (0.505, None, None))
    False

    Args:
        compute_ap: of ``ultralytics.utils.metrics``.
    """
    # Of a curve that ends at recall 0.5: half of the area, or three quarters.
    return bool(compute_ap(np.array([0.5]), np.array([1.0]))[0] > 0.6)


def mean_over_classes(ap: Floats) -> Floats:
    """Mean AP over classes with labels and over IoU thresholds; 0 without such a class.

    Args:
        ap: (B, C, T); ``ap[..., :1]`` for mAP50, all of it for mAP50-95.

    Returns: (B,).

    >>> mean_over_classes(np.array([[[0.4, 0.2], [np.nan, np.nan]]])).round(3).tolist()
    [0.3]
    """
    has_labels = ~np.isnan(ap)
    total = np.where(has_labels, ap, 0.0).sum(axis=(1, 2))
    return total / np.maximum(has_labels.sum(axis=(1, 2)), 1)
