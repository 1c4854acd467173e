"""The statistics on simulated studies of known truth, and mistakes that the simulation has to notice.

A small part of ``python -m benchmarks.coverage``; shares are compared with their bands to within 3.3 standard errors.
"""

from __future__ import annotations

import csv

import numpy as np
import pytest
from benchmarks.coverage import Scenario, outside, simulate
from scipy import stats

from benchmarks import coverage
from tests.full import cases, full
from yolomix import statistics
from yolomix.statistics import Contrast

STUDIES, DETECTED = 2000, 60

REST = Scenario(10, "rest")
IMAGES = Scenario(5, "images")
SHIFTING = Scenario(5, "images only")  # an arm that shifts images up and down, and their mean by nothing


def wrong_coverage(scenario: Scenario, studies: int = 1000) -> str:
    return outside("coverage", simulate(scenario, studies).coverage, studies)


def wrong_verdicts(scenario: Scenario, studies: int = 1000) -> str:
    return outside("wrong", simulate(scenario, studies).better_or_worse, studies)


COVERED = [
    Scenario(3, "seeds"),
    Scenario(3, "images"),
    Scenario(5, "rest"),
    Scenario(5, "alike"),
    IMAGES,
    REST,
    Scenario(3, "alike", tails="t4"),
    Scenario(5, "alike", groups=12),
    Scenario(10, "images", groups=20),
]


@pytest.mark.parametrize("scenario", cases(COVERED, always=[IMAGES, *COVERED[6:8]]), ids=str)
def test_the_interval_covers_the_truth(scenario) -> None:
    assert not wrong_coverage(scenario)


@pytest.mark.parametrize("leads", cases(["seeds", "images", "rest", "alike"], always=["alike"]))
def test_the_interval_covers_the_truth_of_a_real_ap(leads) -> None:
    assert not wrong_coverage(Scenario(3, leads, "AP"), DETECTED)


def test_equal_arms_are_not_told_apart() -> None:
    assert not wrong_verdicts(Scenario(3, "no image"))
    assert not wrong_verdicts(Scenario(5, "no image", "AP"), DETECTED)


def test_an_arm_that_shifts_images_and_not_their_mean_is_not_told_apart() -> None:
    assert not wrong_verdicts(SHIFTING)
    assert not wrong_verdicts(Scenario(5, "images only", "AP"), DETECTED)


def test_verdicts_are_wrong_no_more_often() -> None:
    found = simulate(SHIFTING, 300, verdicts=True)
    assert not outside("wrong", found.better_or_worse, 300)
    as_far_as_the_margin = simulate(Scenario(5, "images", effect=coverage.FAR), 300, verdicts=True)
    assert as_far_as_the_margin.equivalent > 0
    assert not outside("wrong", as_far_as_the_margin.equivalent, 300)


@pytest.mark.parametrize(("seeds", "leads"), cases([(3, "alike"), (5, "rest"), (10, "images")], always=[(3, "alike")]))
def test_what_is_said_to_be_detectable_is_found_with_80_percent(seeds, leads) -> None:
    parts = Scenario(seeds, leads)
    effect = statistics.detectable(parts.components, seeds, parts.units)
    found = simulate(Scenario(seeds, leads, effect=effect), STUDIES)
    assert not outside("power", found.better, STUDIES, expected=0.8)
    assert outside("power", simulate(Scenario(seeds, leads, effect=0.7 * effect), 300).better, 300, 0.8)


# Planted mistakes


def test_images_resampled_unpaired_are_noticed(monkeypatch) -> None:
    def unpaired(arm, base, weights):
        ones = np.ones_like(weights[:1])
        return arm(weights) - base(weights[::-1]), (arm(ones) - base(ones))[0]

    monkeypatch.setattr(coverage, "differences", unpaired)
    assert "coverage" in wrong_coverage(IMAGES)


def test_weights_cut_at_1_are_noticed(monkeypatch) -> None:
    def cut(groups, count, seed):
        weights, units = statistics.weightings(groups, count, seed)
        return np.minimum(weights, 1.0), units

    monkeypatch.setattr(coverage, "weightings", cut)
    assert "coverage" in wrong_coverage(IMAGES)


def test_a_missing_image_term_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(Contrast, "images_alone", property(lambda found: 0.0))
    assert "coverage" in wrong_coverage(IMAGES)
    assert "wrong" in wrong_verdicts(SHIFTING)
    assert not wrong_verdicts(Scenario(3, "no image"))  # equal arms cannot show it


@full
def test_an_interaction_that_is_counted_twice_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(Contrast, "images_alone", property(lambda found: found.image_variance))
    assert "coverage" in wrong_coverage(REST, 3000)  # too wide: 0.99, where 0.98 is the most


def test_a_p_from_seeds_alone_is_noticed(monkeypatch) -> None:
    def of_seeds(found: Contrast) -> float:
        return 2 * stats.t.sf(abs(found.difference) / found.seed_variance**0.5, found.seeds - 1)

    monkeypatch.setattr(Contrast, "p", property(of_seeds))
    assert not wrong_coverage(SHIFTING)  # the interval is still right
    assert "wrong" in wrong_verdicts(SHIFTING)


# The benchmark itself


def test_a_share_is_compared_with_its_band() -> None:
    assert not outside("coverage", 0.93, 10**6)
    assert outside("coverage", 0.92, 10**6) == "coverage 0.9200 of 1000000 studies is outside of 0.930 to 0.980"
    assert outside("coverage", 0.99, 10**6)
    assert not outside("wrong", 0.0, 10**6)
    assert outside("wrong", 0.052, 10**6)
    assert not outside("power", 0.82, 10**6, expected=0.8)
    assert outside("power", 0.84, 10**6, expected=0.8)
    assert not outside("wrong", 0.08, 100)


def test_the_benchmark_writes_what_it_found(tmp_path, capsys) -> None:
    out = tmp_path / "coverage.csv"
    assert coverage.main(["--studies", "10", "--detected", "2", "--out", str(out)]) in (0, 1)
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kinds = [row["check"] for row in rows]
    assert kinds.count("coverage") >= 12
    assert {"coverage", "wrong", "power"} == set(kinds)
    assert all(row["studies"] and row["share"] and row["date"] and row["verdict"] for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == len(rows)


@full
def test_two_looks_are_wrong_in_no_more_than_5_percent() -> None:
    """The same images at both looks, the first five seeds among the ten of the second."""
    rng, studies, wrong = np.random.default_rng(0), 1000, 0
    for _ in range(studies):
        scenario = Scenario(10, "images only")
        weights, units = statistics.weightings(100, coverage.WEIGHTINGS, int(rng.integers(2**31)))
        weighted, ones = coverage.differences(*coverage.additive(scenario, np.arange(100), rng), weights)
        looks = [statistics.contrast(weighted[:, :seeds], ones[:seeds], units) for seeds in (5, 10)]
        wrong += any(look.p < level for look, level in zip(looks, statistics.LOOKS, strict=True))
    assert wrong > 0
    assert not outside("wrong", wrong / studies, studies)
