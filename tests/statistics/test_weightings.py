"""Weightings: exponential, by group, the same for everybody."""

from __future__ import annotations

import math

import numpy as np
import pytest

from yolomix.statistics import Matches, accuracy, average_precision, weightings


def test_weights_are_exponential_with_mean_1() -> None:
    weights, units = weightings(500, 400, seed=1)
    assert weights.shape == (400, 500)
    assert units == 500
    np.testing.assert_allclose(weights.mean(axis=1), 1, rtol=0, atol=1e-7)
    assert weights.min() > 0
    assert weights.var() == pytest.approx(1, abs=0.02)
    assert (weights > 1).mean() == pytest.approx(np.exp(-1), abs=0.005)


def test_images_of_a_group_share_their_weight() -> None:
    weights, units = weightings(["b", "a", "b", "c"], 50)
    assert units == 3
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 0] != weights[:, 1]).all()
    np.testing.assert_allclose(weights.mean(axis=1), 1, rtol=0, atol=1e-7)


def test_sums_of_weights_are_exact() -> None:
    """A class in one image has the same AP under every weighting, whatever the recall of its points."""
    weights = weightings(50, 200).weights
    assert all(math.fsum(row) == row.sum() == row[::-1].sum() for row in weights)
    rng = np.random.default_rng(0)
    found = Matches(
        tp=rng.random((60, 1)) < 0.5,
        confidence=rng.random(60),
        predicted=np.zeros(60, dtype=np.int64),
        image=np.full(60, 7),
        target=np.zeros(50, dtype=np.int64),
        target_image=np.full(50, 7),
    )
    ap = average_precision(found, weights, classes=1)
    np.testing.assert_allclose(ap, ap[0, 0, 0], rtol=0, atol=1e-12)


def test_the_seed_alone_decides() -> None:
    assert (weightings(10, 5, seed=2).weights == weightings(10, 5, seed=2).weights).all()
    assert (weightings(10, 5, seed=2).weights != weightings(10, 5, seed=3).weights).all()
    assert (weightings(3, 5).weights == weightings([7, 8, 9], 5).weights).all()  # a group for each image


@pytest.mark.parametrize(
    ("groups", "told"), [(1, "2 images in the test split, got 1"), (["a"] * 9, "2 groups of images .* got 1")]
)
def test_one_image_or_group_is_refused(groups, told) -> None:
    with pytest.raises(ValueError, match=told):
        weightings(groups)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (np.ones((1, 3)), r"one column for each of 2 images, got the shape \(1, 3\)"),
        (np.array([[1.0, -1.0]]), "rows from -1.0 to 1.0"),
        (np.array([[1.0, np.inf]]), "finite"),
        (np.zeros((1, 2)), "sums from 0.0"),
    ],
)
def test_weights_that_are_none_are_refused(weights, told) -> None:
    with pytest.raises(ValueError, match=told):
        accuracy(np.array([True, False]), weights)
