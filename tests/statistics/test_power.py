"""Power: the table of the paired t test, the simulation of the three variances, and what is needed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from yolomix.statistics import Components, Contrast, detectable, needed_seeds, needed_units, power

SEEDS_ONLY = Components(1.0, 0.0, 0.0)


@pytest.mark.parametrize(("seeds", "effect"), [(5, 2), (6, 1.5), (10, 1), (16, 0.75), (34, 0.5), (3, 1)])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_power_of_seeds_alone_is_that_of_the_t_test(seeds, effect, level) -> None:
    shift = effect * math.sqrt(seeds)
    expected = stats.nct.sf(stats.t.isf(level / 2, seeds - 1), seeds - 1, shift)
    assert power(SEEDS_ONLY, seeds, 100, effect, level) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(("seeds", "units"), [(3, 12), (5, 40), (10, 100)])
@pytest.mark.parametrize("shares", [(1, 1, 1), (0, 1, 3), (1, 0, 4), (0, 5, 0)])
def test_power_is_that_of_simulated_variances(seeds, units, shares) -> None:
    """The mean squares of a crossed design are independent chi-squares."""
    parts = Components(shares[0] * seeds, shares[1] * units, shares[2] * seeds * units)
    seed, image, rest = shares
    rng, count = np.random.default_rng(1), 200_000
    over_seeds, over_images, both = (
        variance * rng.chisquare(df, count) / df
        for variance, df in ((seed + rest, seeds - 1), (image + rest, units - 1), (rest, (seeds - 1) * (units - 1)))
    )
    t_seeds, t_units = stats.t.isf(0.025, seeds - 1), stats.t.isf(0.025, units - 1)
    half = np.sqrt(t_seeds**2 * over_seeds + t_units**2 * np.maximum(over_images - both, 0))
    for effect in (1.0, 4.0, 8.0):
        found = (rng.normal(effect, math.sqrt(sum(shares)), count) > half).mean()
        assert power(parts, seeds, units, effect) == pytest.approx(found, abs=0.005)


def test_a_detectable_difference_is_found_with_80_percent() -> None:
    parts = Components(2e-5, 3e-4, 1e-4)
    for level in (0.05, 0.0125):
        effect = detectable(parts, 5, 72, level)
        assert power(parts, 5, 72, effect, level) == pytest.approx(0.8, abs=1e-4)
    assert detectable(parts, 10, 72) < detectable(parts, 5, 72)
    assert detectable(parts, 5, 720) < detectable(parts, 5, 72)
    assert detectable(Components(0.0, 0.0, 0.0), 5, 72) == 0
    assert power(Components(0.0, 0.0, 0.0), 5, 72, 0.001) == 1


def test_the_guess_is_of_the_difference_of_two_runs() -> None:
    """Six points of a thousand in either arm."""
    rng = np.random.default_rng(0)
    runs = rng.normal(0.5, 0.006, (2, 100_000))
    assert Components.guessed().seed == pytest.approx(np.var(runs[0] - runs[1]), rel=0.02)
    assert Components.guessed(0.012).seed == pytest.approx(4 * Components.guessed().seed)


def test_needed_seeds_are_the_fewest() -> None:
    assert [needed_seeds(SEEDS_ONLY, 100, effect) for effect in (2, 1.5, 1, 0.75, 0.5)] == [5, 6, 10, 16, 34]
    assert needed_seeds(SEEDS_ONLY, 100, 100.0) == 3  # fewer get no verdict
    assert needed_seeds(Components(0.0, 1.0, 0.0), 10, 0.5) is None  # images alone are too noisy
    assert needed_units(Components(0.0, 1.0, 0.0), 5, 100.0) == 2
    assert needed_units(SEEDS_ONLY, 5, 0.5) is None
    both = Components(1.0, 10.0, 30.0)
    seeds, units = needed_seeds(both, 40, 2.0), needed_units(both, 5, 2.0)
    assert power(both, seeds, 40, 2.0) >= 0.8 > power(both, seeds - 1, 40, 2.0)
    assert power(both, 5, units, 2.0) >= 0.8 > power(both, 5, units - 1, 2.0)


def test_components_give_the_variance_of_the_contrast_they_come_from() -> None:
    found = Contrast(0.0, math.sqrt(5 * 4e-6), 4e-6, 3e-6, 1e-6, 5, 72)
    assert found.components.variance(5, 72) == pytest.approx(4e-6 + 2e-6)
    assert found.components.variance(10, 72) == pytest.approx(2e-6 + 2e-6)
    assert found.components.variance(5, 144) == pytest.approx(3e-6 + 1e-6 / 2 + 2e-6 / 2)
