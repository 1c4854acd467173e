"""Contrasts: the three variances, one half width for interval, p and equivalence, and what is degenerate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from yolomix.statistics import Contrast, Shares, combined, contrast, weightings


def make(difference=0.01, seed=4e-6, image=3e-6, rest=1e-6, seeds=5, units=72) -> Contrast:
    return Contrast(difference, math.sqrt(seed * seeds), seed, image, rest, seeds, units)


@pytest.fixture(scope="module")
def scores() -> np.ndarray:
    """(S, images): differences with effects of seed, image and both."""
    rng = np.random.default_rng(5)
    return rng.normal(size=(4, 1)) + 5 * rng.normal(size=40) + 3 * rng.normal(size=(4, 40))


def test_variances_are_those_of_the_two_way_analysis_of_variance(scores) -> None:
    """For additive scores: mean squares of a crossed design, up to the noise of the weightings."""
    seeds, images = scores.shape
    weights, units = weightings(images, 60_000, seed=1)
    found = contrast(weights @ scores.T / images, scores.mean(axis=1), units)
    mean, rows, columns = scores.mean(), scores.mean(axis=1), scores.mean(axis=0)
    ms_seed = images * ((rows - mean) ** 2).sum() / (seeds - 1)
    ms_image = seeds * ((columns - mean) ** 2).sum() / (images - 1)
    residual = scores - rows[:, None] - columns + mean
    ms_rest = (residual**2).sum() / ((seeds - 1) * (images - 1))
    size = seeds * images
    assert found.difference == pytest.approx(mean, abs=1e-12)
    assert found.seed_variance == pytest.approx(ms_seed / size, rel=1e-12)
    assert found.image_variance == pytest.approx(ms_image / size, rel=0.03)
    assert found.rest_variance == pytest.approx(ms_rest / size, rel=0.03)
    assert found.images_alone == pytest.approx((ms_image - ms_rest) / size, rel=0.04)
    total = max(ms_seed - ms_rest, 0) + ms_image
    expected = Shares(max(ms_seed - ms_rest, 0) / total, (ms_image - ms_rest) / total, ms_rest / total)
    assert found.shares == pytest.approx(expected, abs=0.03)


def test_the_half_width_is_the_formula() -> None:
    found = make()
    for level in (0.5, 0.05, 0.01, 1e-6):
        t_seeds, t_units = stats.t.isf(level / 2, 4), stats.t.isf(level / 2, 71)
        expected = math.sqrt(t_seeds**2 * 4e-6 + t_units**2 * 2e-6)
        assert found.half_width(level) == pytest.approx(expected, rel=1e-9)
        assert found.interval(level) == pytest.approx((0.01 - expected, 0.01 + expected), rel=1e-9)


@pytest.mark.parametrize("seeds", [2, 3, 10])
@pytest.mark.parametrize("difference", [1e-9, 1e-4, 0.004, 0.05, 0.9])
@pytest.mark.parametrize(("seed", "image", "rest"), [(4e-6, 3e-6, 1e-6), (4e-6, 0, 1e-6), (0, 4e-6, 0), (1e-14, 1, 0)])
def test_p_is_where_the_interval_ends_at_0(difference, seed, image, rest, seeds) -> None:
    found = make(difference, seed, image, rest, seeds)
    assert 0 < found.p < 1
    if found.p > 1e-290:
        assert found.half_width(found.p) == pytest.approx(difference, rel=1e-8)
    assert found.p == make(-difference, seed, image, rest, seeds).p
    assert (found.p < 0.05) == (found.interval()[0] > 0)


def test_p_of_seeds_or_images_alone_is_that_of_the_t_test() -> None:
    d = np.array([0.01, 0.013, 0.004, -0.002])
    found = contrast(np.tile(d, (3, 1)), d, units=50)
    assert found.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, rel=1e-9)
    assert make(0.01, 0, 2e-5, 0).p == pytest.approx(2 * stats.t.sf(0.01 / math.sqrt(2e-5), 71), rel=1e-9)


def test_p_is_1_at_no_difference() -> None:
    assert make(0.0).p == 1


def test_equivalence_at_0_05_is_the_90_percent_interval_within_the_margin() -> None:
    for difference in np.linspace(-0.02, 0.02, 41):
        found = make(float(difference), 4e-7, 3e-7, 1e-7)
        low, high = found.interval(0.10)
        assert (found.p_equivalent(0.005) < 0.05) == (max(-low, high) < 0.005)
        gap = 0.005 - abs(difference)
        if gap > 1e-9:  # where the one-sided half width is the room to the margin
            assert found.half_width(2 * found.p_equivalent(0.005)) == pytest.approx(gap, rel=1e-8)
        if gap < -1e-9:
            assert found.p_equivalent(0.005) > 0.5
    assert make(0.005).p_equivalent(0.005) == 0.5


@pytest.mark.parametrize("margin", [0, -0.005, math.nan])
def test_a_margin_of_0_is_refused(margin) -> None:
    with pytest.raises(ValueError, match=r"margin must be above 0, got .*, say 0.005"):
        make().p_equivalent(margin)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10, 30])
@pytest.mark.parametrize("effect", [-40.0, -1.0, 0.0, 0.3, 2.0, 8.0])
def test_p_better_and_its_interval(effect, seeds) -> None:
    """The ends are where the noncentral t distribution leaves 2.5 % of repetitions beyond what was seen."""
    sd = 0.004
    found = Contrast(effect * sd, sd, sd**2 / seeds, 1e-6, 0.0, seeds, 72)
    assert found.better == pytest.approx(stats.norm.cdf(effect))
    low, high = found.better_interval()
    assert low <= found.better <= high
    u = (np.arange(200_000) + 0.5) / 200_000
    spread = np.sqrt(stats.chi2.ppf(u, seeds - 1) / (seeds - 1))
    for end, share in ((low, 0.975), (high, 0.025)):
        if 1e-12 < end < 1 - 1e-12:
            shift = stats.norm.ppf(end) * math.sqrt(seeds)
            below = stats.norm.cdf(effect * math.sqrt(seeds) * spread - shift).mean()
            assert below == pytest.approx(share, abs=1e-4)


def test_coverage_of_p_better() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(0.5, 1.0, (600, 4))
    intervals = [contrast(np.tile(row, (2, 1)), row, 10).better_interval() for row in d]
    covered = np.mean([low <= stats.norm.cdf(0.5) <= high for low, high in intervals])
    assert abs(covered - 0.95) < 3.3 * math.sqrt(0.95 * 0.05 / 600)


# Degenerate


def test_one_seed_has_a_difference_and_no_p() -> None:
    found = contrast(np.random.default_rng(0).normal(size=(50, 1)), np.array([0.3]), units=9)
    assert found.difference == 0.3
    assert found.image_variance > 0
    for value in (found.p, found.sd, found.half_width(), found.better, *found.interval(), *found.better_interval()):
        assert math.isnan(value)
    assert math.isnan(found.p_equivalent(0.01))
    assert not found.varies
    assert all(math.isnan(share) for share in found.shares)
    assert all(math.isnan(part) for part in found.components)


@pytest.mark.parametrize(("difference", "better"), [(0.0, 0.5), (0.1, 1.0), (-0.1, 0.0)])
def test_equal_runs_say_so(difference, better) -> None:
    found = contrast(np.full((20, 3), difference), np.full(3, difference), units=9)
    assert not found.varies
    assert found.half_width() == 0
    assert math.isnan(found.p)
    assert math.isnan(found.p_equivalent(0.005))
    assert found.better == better
    assert np.isnan(found.better_interval()).all()
    assert found.shares == Shares(0, 0, 0)


def test_rounding_is_no_variance() -> None:
    d = np.array([0.1 + 0.2, 0.3, 0.3])
    assert not contrast(np.tile(d, (4, 1)), d, units=9).varies


def test_equal_seeds_over_differing_images_are_compared() -> None:
    rng = np.random.default_rng(0)
    found = contrast(np.tile(rng.normal(0.1, 0.05, (200, 1)), 3), np.full(3, 0.1), units=30)
    assert found.seed_variance == found.rest_variance == 0
    assert found.p == pytest.approx(2 * stats.t.sf(0.1 / math.sqrt(found.image_variance), 29), rel=1e-9)
    assert found.better == 1


@pytest.mark.parametrize(
    ("weighted", "unweighted", "units", "told"),
    [
        (np.zeros((5, 3)), np.zeros(3), 1, "at least 2 images or groups in the test split, got 1"),
        (np.zeros((5, 3)), np.zeros(2), 9, r"got \(5, 3\) and \(2,\)"),
        (np.zeros((1, 3)), np.zeros(3), 9, r"got \(1, 3\)"),
        (np.zeros((5, 0)), np.zeros(0), 9, r"got \(5, 0\)"),
        (np.full((5, 3), np.nan), np.zeros(3), 9, "finite; leave out seeds"),
    ],
)
def test_what_cannot_be_compared_is_refused(weighted, unweighted, units, told) -> None:
    with pytest.raises(ValueError, match=told):
        contrast(weighted, unweighted, units)


# Several datasets


def test_several_datasets_are_combined_with_equal_weights() -> None:
    parts = [make(0.01), make(0.03, 9e-6)]
    both = combined(parts)
    assert both.difference == pytest.approx(0.02)
    assert both.half_width == pytest.approx(math.hypot(*(part.half_width() for part in parts)) / 2)
    assert not both.in_general
    assert combined([make()] * 5).in_general
    assert combined([make()] * 4, level=0.01).half_width == pytest.approx(make().half_width(0.01) / 2)


def test_no_dataset_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 dataset, got none"):
        combined([])
