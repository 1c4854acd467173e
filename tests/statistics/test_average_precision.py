"""Weighted AP: equal to Ultralytics' for images kept or left out, and to the definition for any weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.utils.metrics import Metric, ap_per_class, compute_ap

from tests.statistics.found import chosen, matches, slow_average_precision
from yolomix.statistics import (
    Matches,
    accuracy,
    average_precision,
    has_ramp,
    mean_over_classes,
    weightings,
)

RAMP = has_ramp(compute_ap)
EXACT = 1e-12
MANY = settings(max_examples=100, deadline=None)


def theirs(found: Matches, classes: int) -> np.ndarray:
    """(C, T) of Ultralytics, NaN for classes without labels."""
    ap = np.full((classes, 10), np.nan)
    if len(found.target):
        given = ap_per_class(found.tp, found.confidence, found.predicted, found.target)
        ap[given[6]] = given[5]
    return ap


@given(matches())
@MANY
def test_weights_of_one_give_the_number_of_ultralytics(case) -> None:
    found, images, classes = case
    ours = average_precision(found, np.ones((1, images)), classes, ramp=RAMP)
    np.testing.assert_allclose(ours[0], theirs(found, classes), rtol=0, atol=EXACT)


@given(matches(), st.randoms(use_true_random=False))
@MANY
def test_weights_of_0_and_1_give_the_number_of_the_images_that_are_kept(case, random) -> None:
    found, images, classes = case
    # Ties are broken here: in which order they fall is the sort's affair, which sees fewer of them in a subset.
    ranks = np.empty(len(found.confidence), dtype=np.float32)
    ranks[np.argsort(-found.confidence)] = np.linspace(1, 0.1, len(ranks))
    found = found._replace(confidence=ranks)
    kept = np.array([[random.random() < 0.6 for _ in range(images)] for _ in range(8)])
    kept = kept[kept.any(axis=1)]
    ours = average_precision(found, kept.astype(np.float64), classes, ramp=RAMP)
    for mine, keep in zip(ours, kept, strict=True):
        np.testing.assert_allclose(mine, theirs(chosen(found, keep), classes), rtol=0, atol=EXACT)


@given(matches(), st.booleans(), st.integers(0, 1000))
@MANY
def test_any_weights_give_the_definition(case, ramp, seed) -> None:
    found, images, classes = case
    weights = weightings(max(images, 2), 17, seed).weights[:, :images]  # one row more than are swept together
    weights[1:4] *= np.random.default_rng(seed).integers(0, 2, (3, images))
    weights = weights[weights.any(axis=1)]
    ours = average_precision(found, weights, classes, ramp=ramp)
    for mine, row in zip(ours, weights, strict=True):
        np.testing.assert_allclose(mine, slow_average_precision(found, row, classes, ramp), rtol=0, atol=EXACT)


def test_weights_count_as_copies_of_images() -> None:
    """A weight of 3 is the image three times, to Ultralytics itself."""
    rng = np.random.default_rng(3)
    found = drawn(rng, images=20)
    copies = rng.integers(1, 4, 20)
    images = np.repeat(np.arange(20), copies)
    parts = [chosen(found, np.arange(20) == image) for image in images]
    repeated = Matches(*(np.concatenate([part[i] for part in parts]) for i in range(6)))
    ours = average_precision(found, copies[None].astype(np.float64), 3, ramp=RAMP)[0]
    # Copies follow each other in the sort, and precision differs between them; the staircase only rises to its end.
    assert np.abs(ours - theirs(repeated, 3)).max() < 0.02
    assert np.abs(average_precision(found, np.ones((1, 20)), 3, ramp=RAMP)[0] - theirs(repeated, 3)).max() > 0.02


def drawn(rng: np.random.Generator, images: int, labels: int = 200) -> Matches:
    target, target_image = rng.integers(0, 3, labels), rng.integers(0, images, labels)
    quality = rng.integers(0, 11, labels)
    tp = np.vstack([np.arange(10) < quality[:, None], np.zeros((labels, 10), dtype=bool)])
    confidence = np.concatenate([rng.beta(4, 2, labels) * (quality + 1) / 11, rng.beta(1, 4, labels)])
    predicted = np.concatenate([target, rng.integers(0, 3, labels)])
    image = np.concatenate([target_image, rng.integers(0, images, labels)])
    return Matches(tp, confidence.astype(np.float32), predicted, image, target, target_image)


def test_means_are_those_of_ultralytics() -> None:
    found = drawn(np.random.default_rng(0), images=10)
    metric = Metric()
    metric.update(ap_per_class(found.tp, found.confidence, found.predicted, found.target)[2:])
    ap = average_precision(found, np.ones((1, 10)), 5, ramp=RAMP)  # two classes of five have no label
    assert mean_over_classes(ap)[0] == pytest.approx(metric.map, abs=EXACT)
    assert mean_over_classes(ap[..., :1])[0] == pytest.approx(metric.map50, abs=EXACT)


def test_a_class_that_a_weighting_leaves_without_labels_drops_out_of_the_mean() -> None:
    found = Matches(
        tp=np.ones((2, 10), dtype=bool),
        confidence=np.array([0.9, 0.8]),
        predicted=np.array([0, 1]),
        image=np.array([0, 1]),
        target=np.array([0, 1, 1]),
        target_image=np.array([0, 1, 1]),
    )
    ap = average_precision(found, np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), classes=2)
    assert np.isnan(ap[0, 1]).all()
    assert np.isnan(ap[1, 0]).all()
    assert mean_over_classes(ap).round(4).tolist() == [0.995, 0.495, 0.745]


def test_without_labels_the_mean_is_0() -> None:
    nothing = Matches(np.zeros((0, 10), dtype=bool), *(np.zeros(0, dtype=np.int64) for _ in range(5)))
    assert mean_over_classes(average_precision(nothing, np.ones((2, 3)), classes=2)).tolist() == [0, 0]


def test_both_tails_of_the_curve_are_told_apart() -> None:
    assert has_ramp(lambda recall, precision: (np.interp(np.linspace(0, 1, 101), [0, 0.5, 1], [1, 1, 0]).mean(), 0, 0))
    assert not has_ramp(lambda recall, precision: (0.505, 0, 0))
    found = Matches(*(np.array(value) for value in ([[True]], [0.9], [0], [0], [0, 0], [0, 0])))
    ap = [average_precision(found, np.ones((1, 1)), 1, ramp=ramp)[0, 0, 0] for ramp in (False, True)]
    assert np.round(ap, 3).tolist() == [0.495, 0.75]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"confidence": np.array([0.5])}, r"got tp \(2, 10\), \[1, 2, 2\] and \[2, 2\]"),
        ({"tp": np.ones(2, dtype=bool)}, r"got tp \(2,\)"),
        ({"target_image": np.array([0])}, r"\[2, 1\]"),
        ({"confidence": np.array([0.5, np.nan])}, "1 confidences are NaN: the run has diverged"),
        ({"predicted": np.array([0, 3])}, "predicted needs indices from 0 to 1, got 0 to 3"),
        ({"image": np.array([-1, 0])}, "image needs indices from 0 to 1, got -1 to 0"),
        ({"image": np.array([1, 1])}, r"image 1 has more true positives of class 0 than labels \(0\)"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(change, told) -> None:
    good = Matches(
        np.ones((2, 10), dtype=bool), np.array([0.5, 0.4]), *(np.array(v) for v in ([0, 1], [0, 1], [0, 1], [0, 1]))
    )
    with pytest.raises(ValueError, match=told):
        average_precision(good._replace(**change), np.ones((1, 2)), classes=2)


def test_accuracy_is_a_weighted_mean() -> None:
    correct = np.array([True, False, True, True])
    weights = weightings(4, 100).weights
    expected = [np.average(correct, weights=row) for row in weights]
    np.testing.assert_allclose(accuracy(correct, weights), expected, rtol=0, atol=EXACT)
    assert accuracy(correct, np.ones((1, 4))) == 0.75
