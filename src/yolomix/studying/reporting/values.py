"""What a report says, as plain values: the content of ``study.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from yolomix.statistics import Combined, Contrast, Verdict
from yolomix.studying.reporting.design import Planned, Run


@dataclass(frozen=True)
class Difference:
    """An arm minus another on a dataset.

    Attributes:
        planned: what is compared.
        level: 1 minus the confidence of its interval.
        contrast: None where a run of either arm is not whole.
        verdict: of its family; None of a contrast that is in none.
        text: the verdict in a line; of the base again the diagnosis.
        notes: sentences that belong to it.
        at_first: the verdict of the first look, once the last is there.
    """

    planned: Planned
    level: float
    contrast: Contrast | None
    verdict: Verdict | None
    text: str
    notes: tuple[str, ...] = ()
    at_first: Verdict | None = None

    @property
    def half_width(self) -> float:
        """Of its interval; NaN without one."""
        return math.nan if self.contrast is None else self.contrast.half_width(self.level)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the difference; NaN without one."""
        return (math.nan, math.nan) if self.contrast is None else self.contrast.interval(self.level)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain: dict[str, Any] = {**self.planned._asdict(), "level": self.level, "verdict": "", "holm_p": None}
        if self.verdict is not None:
            plain |= {"verdict": self.verdict.word, "holm_p": self.verdict.p}
            plain |= {"holm_p_equivalent": self.verdict.p_equivalent}
        plain |= {"text": self.text, "notes": [*self.notes]}
        if self.at_first is not None:
            plain["first_look"] = {"verdict": self.at_first.word, "holm_p": self.at_first.p}
        return plain | contrast_values(self.contrast, self.level)


def contrast_values(contrast: Contrast | None, level: float) -> dict[str, Any]:
    """The numbers of a contrast by name; without one an empty mapping."""
    if contrast is None:
        return {}
    return {
        "difference": contrast.difference,
        "interval": [*contrast.interval(level)],
        "half_width": contrast.half_width(level),
        "sd": contrast.sd,
        "p": contrast.p,
        "better": contrast.better,
        "better_interval": [*contrast.better_interval(level)],
        "shares": contrast.shares._asdict(),
        "variances": {
            "seeds": contrast.seed_variance,
            "images": contrast.image_variance,
            "rest": contrast.rest_variance,
        },
        "seeds": contrast.seeds,
        "units": contrast.units,
    }


@dataclass(frozen=True)
class Part:
    """A difference in one class or at one size of objects. A description: in no family, without a p.

    Attributes:
        name: of the class or size.
        arm: minus the base.
        contrast: None where it cannot be computed.
        images: of the split with such a label.
        labels: of it; of a classifier images.
    """

    name: str
    arm: str
    contrast: Contrast | None
    images: int
    labels: int

    def to_dict(self, level: float) -> dict[str, Any]:
        """Plain values for JSON."""
        own = {"name": self.name, "arm": self.arm, "images": self.images, "labels": self.labels}
        return own | contrast_values(self.contrast, level)


class ImagePart(NamedTuple):
    """What one image does to a difference.

    Attributes:
        image: its file.
        arm: minus the base.
        contribution: the difference minus that without the image, mean over seeds.
        agree: seeds in which it has the same sign.
        labels: in the image.
        found: of these, mean over seeds: by the base, by the arm, at IoU 0.5 and confidence 0.25.
        false: other detections of that confidence, by both.
    """

    image: str
    arm: str
    contribution: float
    agree: int
    labels: int
    found: tuple[float, float]
    false: tuple[float, float]


class Curve(NamedTuple):
    """A column of ``results.csv`` over epochs: mean, lowest and highest of the runs that reached each epoch."""

    arm: str
    what: str
    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    runs: int


class Scored(NamedTuple):
    """A run with its metric; NaN where there is none."""

    run: Run
    value: float


@dataclass(frozen=True)
class OnDataset:
    """All that is known of one dataset.

    Attributes:
        name: in the plan.
        digest: hash of its content.
        split: of the verdict.
        images: of every split by name.
        units: images, or groups of them, in the split of the verdict.
        runs: in the order of the plan.
        differences: the planned contrasts and those that only describe.
        classes: differences per class.
        sizes: the same per size of objects.
        bins: what the sizes mean.
        largest: images where arms differ most.
        curves: of the training.
        few: classes with fewer than ten labelled images, with their number.
        remarks: what a reader has to know.
    """

    name: str
    digest: str
    split: str
    images: Mapping[str, int]
    units: int
    runs: tuple[Scored, ...]
    differences: tuple[Difference, ...]
    classes: tuple[Part, ...] = ()
    sizes: tuple[Part, ...] = ()
    bins: str = ""
    largest: tuple[ImagePart, ...] = ()
    curves: tuple[Curve, ...] = ()
    few: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def scores(self, arm: str) -> list[float]:
        """The metric of every run of an arm that has one."""
        return [one.value for one in self.runs if one.run.spec.arm == arm and not math.isnan(one.value)]

    def of(self, arm: str, family: str) -> Difference | None:
        """The difference of an arm in a family."""
        found = [one for one in self.differences if (one.planned.arm, one.planned.family) == (arm, family)]
        return found[0] if found else None


class Summary(NamedTuple):
    """A contrast over several datasets."""

    planned: Planned
    combined: Combined | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        numbers = {} if self.combined is None else self.combined._asdict()
        return {**self.planned._asdict(), **numbers, "text": self.text}
