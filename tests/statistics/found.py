"""Detections for tests, and AP computed slowly."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from yolomix.statistics import Matches


@st.composite
def matches(draw, confidences=None):
    """(Matches, images, classes): any of it may be empty; each label has at most one detection that is true."""
    images, classes = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    confidence = confidences or st.sampled_from([0.1, 0.3, 0.5, 0.50001, 0.9])  # ties
    image, kind = st.integers(0, images - 1), st.integers(0, classes - 1)
    labels = draw(st.lists(st.tuples(kind, image, st.integers(0, 10), confidence), max_size=30))
    false = draw(st.lists(st.tuples(kind, image, st.just(0), confidence), max_size=30))
    detections = [row for row in labels if row[2]] + false
    order = draw(st.permutations(range(len(detections))))
    rows = np.array([detections[i] for i in order], dtype=np.float64).reshape(-1, 4)
    target = np.array([row[:2] for row in labels], dtype=np.int64).reshape(-1, 2)
    found = Matches(
        tp=np.arange(10) < rows[:, 2:3],
        confidence=rows[:, 3].astype(np.float32),
        predicted=rows[:, 0].astype(np.int64),
        image=rows[:, 1].astype(np.int32),
        target=target[:, 0],
        target_image=target[:, 1].astype(np.int32),
    )
    return found, images, classes


def chosen(found: Matches, keep: np.ndarray) -> Matches:
    """What lies in the images that are kept: (images,) bool."""
    detections, labels = keep[found.image], keep[found.target_image]
    return Matches(*(array[detections] for array in found[:4]), *(array[labels] for array in found[4:]))


def slow_average_precision(found: Matches, weights: np.ndarray, classes: int, ramp: bool) -> np.ndarray:
    """AP by definition, (C, T), float64: cumulated weights, precision envelope, 101 points, trapezoidal rule."""
    x = np.linspace(0, 1, 101)
    ap = np.full((classes, found.tp.shape[1]), np.nan)
    order = np.argsort(-found.confidence)
    for c in range(classes):
        labels = sum(weights[image] for image, kind in zip(found.target_image, found.target, strict=True) if kind == c)
        if not labels:
            continue
        for j in range(found.tp.shape[1]):
            true, total, recall, precision = 0.0, 0.0, [0.0], [1.0]
            for i in order:
                weight = weights[found.image[i]]
                if found.predicted[i] != c or not weight:
                    continue
                total += weight
                if found.tp[i, j]:
                    true += weight
                recall.append(true / labels)
                precision.append(true / total)
            if not ramp:
                recall.append(recall[-1])
                precision.append(0.0)
            recall.append(1.0)
            precision.append(0.0)
            for k in range(len(precision) - 2, -1, -1):
                precision[k] = max(precision[k], precision[k + 1])
            curve = np.interp(x, recall, precision)
            ap[c, j] = sum((curve[i] + curve[i + 1]) / 2 * (x[i + 1] - x[i]) for i in range(100)) if total else 0.0
    return ap
