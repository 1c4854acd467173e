"""Weightings of the images of a test split: the Bayesian bootstrap (Rubin 1981)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
STEP = 2.0**-24  # weights are multiples of it


class Weightings(NamedTuple):
    """Weights of images, the same for every arm and seed."""

    weights: Floats
    """(B, images), positive, mean 1 in each row to within ``STEP``."""
    units: int
    """n of the formulas: how many images, or groups of images, were weighted independently."""


def weightings(groups: int | Sequence[Hashable], count: int = 2000, seed: int = 0) -> Weightings:
    """Weights from the exponential distribution, which keep every image and every class.

    Args:
        groups: the number of images; or the group of every image (video, tile, patient), whose images share a weight.
        count: B, how many weightings.
        seed: of the random numbers: one for a study, so that all arms and seeds are weighted alike.

    Raises:
        ValueError: fewer than two images or groups: nothing is known about others then.

    >>> weights, units = weightings(["a", "a", "b"], count=1000)
    >>> weights.shape, units, bool((weights[:, 0] == weights[:, 1]).all())
    ((1000, 3), 2, True)
    """
    if isinstance(groups, int):
        units, group, what = groups, np.arange(groups), "images"
    else:
        number: dict[Hashable, int] = {}
        group = np.array([number.setdefault(name, len(number)) for name in groups], dtype=np.int64)
        units, what = len(number), "groups of images"
    check_units(units, what)
    drawn = np.random.default_rng(seed).exponential(size=(count, units))[:, group]
    # Sums of multiples of a power of two are exact: a recall that is a grid point of AP's interpolation stays one.
    steps = np.maximum(np.rint(drawn / drawn.mean(axis=1, keepdims=True) / STEP), 1.0)
    return Weightings(steps * STEP, units)


def check_units(units: int, what: str = "images or groups") -> None:
    """Raise unless there are enough images to say something about others.

    Raises:
        ValueError: fewer than two.
    """
    if units < 2:
        raise ValueError(f"a comparison needs at least 2 {what} in the test split, got {units}; add images, or groups")


def accuracy(correct: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """The share of images that a classifier gets right, under every weighting.

    Args:
        correct: (images,), for top-1 or top-5.
        weights: (B, images).

    Returns: (B,).

    Raises:
        ValueError: weights that do not belong to these images, negative or all 0.

    >>> accuracy(np.array([True, False]), np.array([[1.0, 1.0], [1.5, 0.5]])).tolist()
    [0.5, 0.75]
    """
    check_weights(weights, len(correct))
    return weights @ correct.astype(np.float64) / weights.sum(axis=1)


def check_weights(weights: Floats, images: int) -> None:
    """Raise unless every row gives a weight to each image.

    Raises:
        ValueError: another shape, a negative or infinite weight, or a row of zeros.
    """
    if weights.ndim != 2 or weights.shape[1] != images:
        raise ValueError(f"weights need one column for each of {images} images, got the shape {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and (weights.sum(axis=1) > 0).all()):
        raise ValueError(
            "weights must be finite and not negative, with one above 0 in each row; "
            f"got rows from {weights.min()} to {weights.max()} with sums from {weights.sum(axis=1).min()}"
        )
