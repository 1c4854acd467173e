"""What a run found in a split, matched to labels within images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Matches(NamedTuple):
    """Detections of one run in one split, matched to labels within images. T IoU thresholds, mostly 0.50 to 0.95."""

    tp: npt.NDArray[np.bool_]
    """(detections, T): whether the detection is a true positive at each IoU threshold."""
    confidence: npt.NDArray[np.floating]
    """(detections,)."""
    predicted: npt.NDArray[np.integer]
    """(detections,): index of the class."""
    image: npt.NDArray[np.integer]
    """(detections,): index of the image."""
    target: npt.NDArray[np.integer]
    """(labels,): index of the class."""
    target_image: npt.NDArray[np.integer]
    """(labels,): index of the image."""


def check_matches(matches: Matches, images: int, classes: int) -> None:
    """Raise unless the arrays are of one run, and every true positive has a label.

    Raises:
        ValueError: with what does not fit.
    """
    lengths = [len(matches.tp), len(matches.confidence), len(matches.predicted), len(matches.image)]
    if matches.tp.ndim != 2 or len(set(lengths)) > 1 or len(matches.target) != len(matches.target_image):
        raise ValueError(
            "detections need tp of shape (detections, IoU thresholds) and one confidence, class and image each, labels "
            f"a class and an image; got tp {matches.tp.shape}, {lengths[1:]} and "
            f"{[len(matches.target), len(matches.target_image)]}"
        )
    if np.isnan(matches.confidence).any():
        raise ValueError(f"{np.isnan(matches.confidence).sum()} confidences are NaN: the run has diverged")
    for name, limit in (("predicted", classes), ("target", classes), ("image", images), ("target_image", images)):
        values = getattr(matches, name)
        if len(values) and not 0 <= values.min() <= values.max() < limit:
            raise ValueError(f"{name} needs indices from 0 to {limit - 1}, got {values.min()} to {values.max()}")
    _check_labels(matches, images, classes)


def _check_labels(matches: Matches, images: int, classes: int) -> None:
    found = matches.tp.any(axis=1)
    size = images * classes
    cell = matches.predicted[found].astype(np.int64) * images + matches.image[found]
    labels = np.bincount(matches.target.astype(np.int64) * images + matches.target_image, minlength=size)
    for column in matches.tp[found].T:
        over = np.bincount(cell[column], minlength=size) > labels
        if over.any():
            where = int(over.argmax())
            raise ValueError(
                f"image {where % images} has more true positives of class {where // images} than labels "
                f"({labels[where]}); tp must come from a matching within images"
            )
