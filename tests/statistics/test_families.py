"""Verdicts of a family: the order, Holm's correction, what an undecided one needs, and who gets none."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from yolomix.statistics import LOOKS, Contrast, holm, needed_seeds, needed_units, power, verdicts


def make(difference: float, seed=4e-6, image=3e-6, rest=1e-6, seeds=10, units=72) -> Contrast:
    return Contrast(difference, math.sqrt(seed * seeds), seed, image, rest, seeds, units)


def with_p(p: float, sign: int = 1) -> Contrast:
    """A contrast whose own p is this."""
    found = make(sign * make(0.0).half_width(p))
    assert found.p == pytest.approx(p, rel=1e-8)
    return found


def test_holm_is_the_step_down_procedure() -> None:
    """Reject in order while p of rank k is below level / (m - k): the same as a corrected p below the level."""
    values = (0.001, 0.012, 0.02, 0.03, 0.3)
    for p in itertools.product(values, repeat=3):
        for level in (0.01, 0.04, 0.05):
            rejected, order = set(), sorted(range(3), key=lambda i: p[i])
            for step, i in enumerate(order):
                if p[i] >= level / (3 - step):
                    break
                rejected.add(i)
            assert {i for i, q in enumerate(holm(p)) if q < level} == rejected


def test_holm_of_one_and_none() -> None:
    assert holm([0.03]).tolist() == [0.03]
    assert holm([]).tolist() == []
    assert holm([0.9, 0.8]).tolist() == [1, 1]


def test_an_arm_without_p_still_counts_in_its_family() -> None:
    np.testing.assert_allclose(holm([0.02, math.nan, 0.03]), [0.06, math.nan, 0.06])
    assert verdicts([with_p(0.03)])[0].word == "better"
    assert [each.word for each in verdicts([with_p(0.03), None])] == ["undecided", "no verdict"]


def test_words_in_their_order() -> None:
    sharp = {"seed": 4e-8, "image": 3e-8, "rest": 1e-8}
    found = verdicts([make(0.03), make(-0.03), make(0.0001, **sharp), make(0.003, **sharp), make(0.004)])
    assert [each.word for each in found] == ["better", "worse", "equivalent", "equivalent", "undecided"]
    assert [each.text for each in found[:4]] == ["better", "worse", "equivalent", "equivalent"]
    assert found[2].notes == ()
    assert found[3].notes[0].startswith("the difference is real (Holm p ")
    assert found[3].notes[0].endswith(", and smaller than 0.005")


def test_where_holm_overrules_an_interval_it_is_said() -> None:
    first, second = verdicts([with_p(0.03), with_p(0.04, -1)])
    assert first.word == second.word == "undecided"
    assert first.p == second.p == pytest.approx(0.06)
    assert "its interval leaves out 0 (p 0.03), but the family has 2 comparisons" in first.notes[0]
    assert "after Holm's correction p is 0.06, not below 0.05" in first.notes[0]
    close = make(0.0, 4e-6, 1e-6, 1e-6)
    margin = close.half_width(2 * 0.03)
    (alone,) = verdicts([close], margin)
    assert alone.word == "equivalent"
    both = verdicts([close, make(0.01)], margin)
    assert both[0].word == "undecided"
    assert both[0].notes[0].startswith("it would be equivalent alone (p 0.03), but the family has 2 comparisons")


def test_two_looks_share_five_percent() -> None:
    assert sum(LOOKS) == pytest.approx(0.05)
    contrast = with_p(0.03)
    assert [verdicts([contrast], level=level)[0].word for level in LOOKS] == ["undecided", "better"]
    assert "not below 0.01" not in str(verdicts([contrast], level=LOOKS[0])[0].notes)  # its 99 % interval has 0 in it


# What an undecided one needs


def test_seeds_or_images_that_would_resolve_the_margin() -> None:
    found = make(0.003, 2e-6, 2e-6, 1e-6)
    (verdict,) = verdicts([found])
    seeds, units = (needed(found.components, other, 0.005) for needed, other in
                    ((needed_seeds, 72), (needed_units, 10)))  # fmt: skip
    assert verdict.text == f"undecided: {seeds} seeds or {units} images"
    assert seeds > 10
    assert units > 72
    assert power(found.components, seeds, 72, 0.005) >= 0.8 > power(found.components, seeds - 1, 72, 0.005)
    assert power(found.components, 10, units, 0.005) >= 0.8 > power(found.components, 10, units - 1, 0.005)


def test_a_family_asks_for_more_than_one_comparison() -> None:
    found = make(0.003, 2e-6, 2e-6, 1e-6)
    alone, one_of_four = verdicts([found])[0], verdicts([found] * 4)[0]
    seeds = [int(verdict.text.split()[1]) for verdict in (alone, one_of_four)]
    assert seeds[0] < seeds[1] == needed_seeds(found.components, 72, 0.005, level=0.05 / 4)


@pytest.mark.parametrize(
    ("seed", "image", "rest", "text"),
    [
        (4e-6, 1e-8, 1e-8, "undecided: 15 seeds (more images alone cannot)"),
        (1e-8, 4e-6, 1e-8, "undecided: 93 images (more seeds alone cannot)"),
        (9e-6, 9e-6, 1e-8, "undecided: neither more seeds nor more images alone can"),
        (1.2e-6, 1.2e-6, 1e-8, "undecided: this study finds a difference of 0.005 four times in five"),
    ],
)
def test_what_would_decide(seed, image, rest, text) -> None:
    assert verdicts([make(0.0028, seed, image, rest)])[0].text == text


def test_groups_are_called_groups() -> None:
    assert "groups" in verdicts([make(0.002, 1e-8, 4e-6, 1e-8, units=20)], unit="groups")[0].text


# Few seeds, none, equal runs


def test_three_to_five_seeds_are_few() -> None:
    for seeds in (3, 5):
        verdict = verdicts([make(0.1, seeds=seeds)])[0]
        assert verdict.text == "better; few seeds"
        assert verdict.notes == (f"few seeds: {seeds}; the interval is honest, and wide",)
    assert verdicts([make(0.1, seeds=6)])[0].text == "better"
    assert verdicts([make(0.002, seeds=4)])[0].text.endswith("; few seeds")


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_get_no_verdict(seeds) -> None:
    verdict = verdicts([make(0.5, seeds=seeds)])[0]
    assert verdict.word == "no verdict"
    assert verdict.text == f"no verdict: {seeds} seed{'s' if seeds > 1 else ''}, at least 3 are needed"
    assert math.isnan(verdict.p) == (seeds == 1)


def test_a_missing_run_gets_no_verdict() -> None:
    verdict = verdicts([None])[0]
    assert verdict.text == "no verdict: a run is missing, failed or diverged"
    assert math.isnan(verdict.p)
    assert math.isnan(verdict.p_equivalent)


def test_equal_runs_get_no_verdict_and_the_reason() -> None:
    for difference in (0.0, 0.02):
        verdict = verdicts([make(difference, 0, 0, 0)])[0]
        assert verdict.word == "no verdict"
        assert f"the difference is {difference:g} with every seed and on every image" in verdict.text
        assert "see whether seeds reach the training" in verdict.text


def test_an_empty_family_and_a_margin_of_0() -> None:
    assert verdicts([]) == []
    with pytest.raises(ValueError, match="margin must be above 0, got 0"):
        verdicts([make(0.1)], margin=0)
