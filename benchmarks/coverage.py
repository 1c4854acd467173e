"""Whether the statistics of a study hold: simulated studies, of which the truth is known.

``python -m benchmarks.coverage`` writes benchmarks/results/coverage.csv, in about ten minutes on one core.

Every study has a score for each seed and image, in the base and in the arm: an effect of the image that both share,
then effects of seed, image and both together in their difference. Scores are means over images, or AP of simulated
detections. The true difference is 0 unless a row says otherwise.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.detections import Arm, Split
from yolomix import statistics
from yolomix.records import Conditions, Record
from yolomix.statistics import Components, Contrast, weightings

Floats = npt.NDArray[np.float64]
Metric = Callable[[Floats], Floats]  # weights (B, images) to (B, S)

OUT = Path(__file__).parent / "results" / "coverage.csv"
SD = 0.005  # of the difference over studies
MARGIN, FAR = 0.005, 0.025  # the margin; one that studies can resolve, where an arm is as far off as it
SHARED = 0.2  # spread of images that both arms have in common
LEADS = {
    "seeds": (0.8, 0.1, 0.1),
    "images": (0.1, 0.8, 0.1),
    "rest": (0.1, 0.1, 0.8),
    "alike": (1 / 3, 1 / 3, 1 / 3),
    "images only": (0.0, 0.9, 0.1),  # an arm that shifts images up and down, and their mean by nothing
    "no image": (0.5, 0.0, 0.5),  # what an A/A is
}
WEIGHTINGS = 100  # a study has 2,000; fewer are cheaper, and harder
BANDS = {"coverage": (0.93, 0.98), "wrong": (0.0, 0.05), "power": (-0.03, 0.03)}  # power: found minus promised
SURE = 3.3  # standard errors beyond a band before a simulation counts as failed: once in a thousand sound ones


@dataclass(frozen=True)
class Scenario:
    """Studies of one kind.

    Attributes:
        seeds: S.
        leads: what most of the variance comes from, a key of ``LEADS``.
        score: ``additive``, a mean over images, or ``AP`` of simulated detections.
        tails: ``normal`` or ``t4``.
        groups: into which the images fall, of 4 to 12 each; 0: every image is its own.
        effect: the true difference.
    """

    seeds: int
    leads: str
    score: str = "additive"
    tails: str = "normal"
    groups: int = 0
    effect: float = 0.0

    @property
    def units(self) -> int:
        """How many images, or groups of images, differ."""
        return self.groups or (100 if self.score == "additive" else 80)

    @property
    def components(self) -> Components:
        """The true ones of the difference of an additive score."""
        seed, image, rest = (share * SD**2 for share in LEADS[self.leads])
        return Components(seed * self.seeds, image * self.units, rest * self.seeds * self.units)


class Outcome(NamedTuple):
    """What simulated studies came to; shares of all studies."""

    studies: int
    coverage: float
    better_or_worse: float
    equivalent: float
    better: float
    variance: float
    """Vs + I on average, over the variance of the difference between studies."""


def differences(arm: Metric, base: Metric, weights: Floats) -> tuple[Floats, Floats]:
    """D (B, S) and d (S,): both arms under the same weightings, and under weights of one."""
    every = np.vstack([np.ones_like(weights[:1]), weights])
    found = arm(every) - base(every)
    return found[1:], found[0]


def study(scenario: Scenario, rng: np.random.Generator) -> Contrast:
    """Simulate one study."""
    groups = np.arange(scenario.units)
    if scenario.groups:
        groups = np.repeat(groups, rng.integers(4, 13, scenario.groups))
    weights, units = weightings(groups.tolist(), WEIGHTINGS, int(rng.integers(2**31)))
    score = additive if scenario.score == "additive" else detected
    return statistics.contrast(*differences(*score(scenario, groups, rng), weights), units)


def effects(rng: np.random.Generator, scenario: Scenario, groups: npt.NDArray[np.int64]) -> Floats:
    """(S, images): what seeds, images and both give, with variance 1 for the mean of all."""

    def draw(*shape: int) -> Floats:
        if scenario.tails == "t4":
            return rng.standard_t(4, shape) / math.sqrt(2)
        return rng.normal(size=shape)

    seeds, units = scenario.seeds, scenario.units
    seed, image, rest = (math.sqrt(share) for share in LEADS[scenario.leads])
    of_units = image * math.sqrt(units) * draw(units) + rest * math.sqrt(seeds * units) * draw(seeds, units)
    return seed * math.sqrt(seeds) * draw(seeds, 1) + of_units[:, groups]


def additive(scenario: Scenario, groups: npt.NDArray[np.int64], rng: np.random.Generator) -> tuple[Metric, Metric]:
    """Means over images."""
    base = 0.5 + SHARED * rng.normal(size=scenario.units)[groups] + SD * rng.normal(size=(scenario.seeds, 1))
    arm = base + scenario.effect + SD * effects(rng, scenario, groups)
    return _mean_of(arm), _mean_of(base)


def _mean_of(scores: Floats) -> Metric:
    return lambda weights: weights @ scores.T / weights.sum(axis=1, keepdims=True)


def detected(scenario: Scenario, groups: npt.NDArray[np.int64], rng: np.random.Generator) -> tuple[Metric, Metric]:
    """mAP50-95 of simulated detections; both arms differ from what they share by effects of one size."""
    split = Split.drawn(rng, len(groups))
    arm, base = (Arm(split, effects(rng, scenario, groups), rng) for _ in range(2))
    return arm.mean_ap, base.mean_ap


def simulate(scenario: Scenario, studies: int, seed: int = 0, verdicts: bool = False) -> Outcome:
    """Simulate studies and count; verdicts only on request, since an undecided one also computes what it needs."""
    rng = np.random.default_rng(seed)
    found = [study(scenario, rng) for _ in range(studies)]
    covered = [low <= scenario.effect <= high for low, high in (each.interval() for each in found)]
    words: list[str]
    if verdicts:
        words = [statistics.verdicts([each], scenario.effect or MARGIN)[0].word for each in found]
    else:
        words = ["undecided" if each.p >= statistics.LEVEL else _sign(each) for each in found]
    differs = np.var([each.difference for each in found])
    estimated = np.mean([each.seed_variance + each.images_alone for each in found])
    shares = {word: words.count(word) / studies for word in ("better", "worse", "equivalent")}
    either = shares["better"] + shares["worse"]
    ratio = float(estimated / differs)
    return Outcome(studies, sum(covered) / studies, either, shares["equivalent"], shares["better"], ratio)


def _sign(found: Contrast) -> str:
    return "better" if found.difference > 0 else "worse"


def outside(what: str, share: float, studies: int, expected: float = 0.0) -> str:
    """Why a share is not in its band, by more than chance; empty if it is. Of power ``expected`` was promised."""
    low, high = (limit + expected for limit in BANDS[what])
    slack = [SURE * math.sqrt(min(max(limit, 1 / studies), 1) * max(1 - limit, 0) / studies) for limit in (low, high)]
    if low - slack[0] <= share <= high + slack[1]:
        return ""
    return f"{what} {share:.4f} of {studies} studies is outside of {low:.3f} to {high:.3f}"


class Check(NamedTuple):
    """A scenario, and what is asked of it."""

    what: str
    """A key of ``BANDS``."""
    scenario: Scenario
    studies: int
    name: str


def checks(additive: int, detected: int) -> Iterator[Check]:
    """All of them, with so many studies of either score."""
    for seeds in (3, 5, 10):
        for leads in ("seeds", "images", "rest", "alike"):
            yield Check("coverage", Scenario(seeds, leads), additive, f"{seeds} seeds, {leads}")
    for scenario in (
        *(Scenario(seeds, "alike", tails="t4") for seeds in (3, 10)),
        *(Scenario(seeds, leads, groups=12) for seeds, leads in ((3, "images"), (5, "alike"))),
        *(Scenario(seeds, leads, groups=20) for seeds, leads in ((5, "images"), (10, "alike"))),
    ):
        kind = f"{scenario.groups} groups" if scenario.groups else "t4 tails"
        yield Check("coverage", scenario, additive, f"{scenario.seeds} seeds, {scenario.leads}, {kind}")
    for seeds, leads in ((3, "seeds"), (3, "images"), (5, "rest"), (5, "alike"), (10, "images"), (10, "rest")):
        yield Check("coverage", Scenario(seeds, leads, "AP"), detected, f"{seeds} seeds, {leads}, AP")
    yield Check("coverage", Scenario(5, "alike", "AP", groups=20), detected, "5 seeds, alike, AP, 20 groups")
    for score, studies in (("additive", additive), ("AP", detected)):
        for seeds in (3, 5):
            for leads, name in (("no image", "A/A"), ("images only", "arm that shifts images")):
                yield Check("wrong", Scenario(seeds, leads, score), studies, f"{seeds} seeds, {name}, {score}")
    yield Check("wrong", Scenario(5, "images", effect=FAR), additive, "5 seeds, as far off as the margin")
    for seeds, leads in ((3, "alike"), (5, "seeds"), (5, "rest"), (10, "images"), (10, "alike")):
        found = Scenario(seeds, leads)
        effect = statistics.detectable(found.components, seeds, found.units)
        yield Check("power", Scenario(seeds, leads, effect=effect), additive, f"{seeds} seeds, {leads}, {effect:.4f}")
    pilot = Scenario(5, "alike", groups=12)
    effect = statistics.detectable(pilot.components, 5, 12)
    yield Check("power", Scenario(5, "alike", groups=12, effect=effect), additive, f"5 seeds, 12 groups, {effect:.4f}")


def run(check: Check) -> tuple[dict[str, float], str]:
    """The metrics of a check, and why it failed."""
    scenario = check.scenario
    outcome = simulate(scenario, check.studies, verdicts=check.what == "wrong")
    if check.what == "coverage":
        return _metrics(outcome, outcome.coverage), outside("coverage", outcome.coverage, check.studies)
    if check.what == "wrong":
        share = outcome.equivalent if scenario.effect else outcome.better_or_worse
        return _metrics(outcome, share), outside("wrong", share, check.studies)
    promised = statistics.power(scenario.components, scenario.seeds, scenario.units, scenario.effect)
    metrics = {**_metrics(outcome, outcome.better), "promised": promised}
    return metrics, outside("power", outcome.better, check.studies, promised)


def _metrics(outcome: Outcome, share: float) -> dict[str, float]:
    return {"studies": outcome.studies, "share": share, "variance_ratio": outcome.variance}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all checks; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--studies", type=int, default=6000, help="of additive scores, for each check")
    parser.add_argument("--detected", type=int, default=500, help="with simulated detections, for each check")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    conditions, failed = Conditions.here(), 0
    columns = ("check", "scenario", "studies", "share", "promised", "variance_ratio", "verdict")
    with given.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, [*columns, "yolomix", "numba", "python", "date"], restval="", extrasaction="ignore"
        )
        writer.writeheader()
        for check in checks(given.studies, given.detected):
            metrics, why = run(check)
            row = {"check": check.what, "scenario": check.name, "verdict": why or "as it should be"}
            writer.writerow({**Record(metrics, conditions).row(), **row})
            file.flush()
            print(check.what, check.name, *(f"{name} {value:.4g}" for name, value in metrics.items()), why, sep="  ")
            failed += bool(why)
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
