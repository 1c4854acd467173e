"""What a plan comes to, before anything runs: runs, hours, and the difference that it can find."""

from __future__ import annotations

import statistics as standard
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yolomix import statistics
from yolomix.progress import Progress
from yolomix.showing import Shown
from yolomix.studying.arms import Arm, Initials, Role
from yolomix.studying.datasets import Dataset
from yolomix.studying.plan import Plan
from yolomix.studying.queue import Queue, Slot
from yolomix.studying.record import Record, RunSpec
from yolomix.surgery.table import table

# Where Ultralytics has a metric among its own numbers, by the letter in brackets or none.
SAVED = {"top1": "metrics/accuracy_top1", "top5": "metrics/accuracy_top5"}


@dataclass(frozen=True, repr=False)
class StudyPlan(Shown):
    """What a study would do. ``print`` it for a table.

    Attributes:
        name: of the study.
        rows: arms, a row each below a head: what is trained, how often.
        runs: number of all runs.
        finished: how many of them are there.
        hours: wall-clock hours that the others will take on this machine; None if nothing was timed.
        basis: what the hours were worked out from.
        detectable: the difference of the metric that is found with 80 % power, by dataset.
        spread: what that was worked out from.
        budget: hours that the plan gives; None for no end.
        remarks: what is not wrong and has to be known.
    """

    name: str
    rows: tuple[tuple[str, ...], ...]
    runs: int
    finished: int
    hours: float | None
    basis: str
    detectable: Mapping[str, float]
    spread: str
    budget: float | None
    remarks: tuple[str, ...]

    def in_short(self) -> str:
        """Runs and hours."""
        hours = "" if self.hours is None else f", {self.hours:.1f} h"
        return f"{self.name}: {self.runs - self.finished} of {self.runs} runs to do{hours}"

    def as_rows(self) -> Sequence[Sequence[str]]:
        """Arms below a head."""
        return self.rows

    def __str__(self) -> str:
        lines = [table([*self.rows]), "", self.in_short()]
        if self.hours is not None:
            lines[-1] += f" ({self.basis})"
            if self.budget is not None and self.hours > self.budget:
                lines.append(
                    f"the budget of {self.budget:g} h ends before that; the study goes on when it is called again"
                )
        for dataset, effect in self.detectable.items():
            lines.append(f"{dataset}: finds a difference of {effect:.3f} with 80 % power ({self.spread})")
        return "\n".join([*lines, *(f"- {remark}" for remark in self.remarks)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a program."""
        head, *rows = self.rows
        arms = [dict(zip(head, row, strict=True)) for row in rows]
        plain = {name: value for name, value in vars(self).items() if name not in ("rows", "remarks")}
        return plain | {"detectable": dict(self.detectable), "arms": arms, "remarks": [*self.remarks]}


HEAD = ("arm", "role", "model", "params", "control", "runs", "finished")


def rows(arms: Sequence[Arm], specs: Sequence[RunSpec], records: Mapping[str, Record]) -> tuple[tuple[str, ...], ...]:
    """The table of arms."""
    wanted = Counter(spec.arm for spec in specs)
    done = Counter(spec.arm for spec in specs if spec.key in records and records[spec.key].status == "finished")
    parameters = {spec.arm: int(spec.facts["parameters"]) for spec in reversed(specs)}
    found = [HEAD]
    for arm in arms:
        counts = str(wanted[arm.name]), str(done[arm.name])
        found.append((arm.name, str(arm.role), arm.model, f"{parameters[arm.name]:,}", arm.control or "-", *counts))
    return tuple(found)


def timed(specs: Sequence[RunSpec], records: Iterable[Record]) -> tuple[float, str] | None:
    """Seconds of a run, from those that finished; None if none did."""
    seconds = [record.seconds for record in records if record.status == "finished"]
    return (standard.mean(seconds), f"from {len(seconds)} finished runs") if seconds else None


def epoch(
    specs: Sequence[RunSpec], datasets: Sequence[Dataset], base: Arm, room: Slot, said: Progress
) -> tuple[float, str]:
    """Seconds of a run, from one epoch of the base on every dataset.

    Raises:
        RuntimeError: the base does not train; the text says why.
    """
    found = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        initials = Initials(folder, base)
        for dataset in datasets:
            spec = next(one for one in specs if one.arm == base.name and one.facts["dataset"] == dataset.name)
            model = str(initials.prepare(base, dataset, spec.seed))
            short = replace(spec, model=model, data=dataset.data, arguments={**spec.arguments, "epochs": 1})
            queue = Queue(folder, lambda given: given, [room])
            records: list[Record | None] = []
            queue.run([short], said=said, done=lambda _, record, into=records: into.append(record))  # type: ignore[misc]
            (record,) = records
            if record is None or record.status != "finished":
                reason = record.reason if record else queue.reasons.get(short.key, "")
                raise RuntimeError(f"the base does not train on {dataset.name}: {reason}")
            of_epoch = queue.seconds[0]
            found.append(record.seconds + of_epoch * (int(spec.arguments["epochs"]) - 1))
    return standard.mean(found), "from one epoch of the base, alone on this machine; every arm taken as fast"


def detectable(plan: Plan, arms: Sequence[Arm], datasets: Sequence[Dataset], records: Mapping[str, Record], metric: str
) -> tuple[dict[str, float], str]:  # fmt: skip
    """The difference that the study finds with 80 % power, by dataset; and what spread of runs was taken.

    The level is that of the hardest comparison: 0.05 over the number of arms, as Holm's correction begins.
    """
    if len(plan.seeds) < 2:
        return {}, ""
    spread = _spread(records.values(), metric)
    components = statistics.Components.guessed() if spread is None else statistics.Components.guessed(spread[0])
    sd, words = spread or ((components.seed / 2) ** 0.5, "a guess until runs have finished")
    compared = max(1, sum(arm.role is Role.ARM for arm in arms))
    found = {}
    for dataset in datasets:
        units = _units(plan, dataset)
        found[dataset.name] = statistics.detectable(components, len(plan.seeds), units, statistics.LEVEL / compared)
    said = f"{len(plan.seeds)} seeds, runs that spread by {sd:.3f}, {words}; noise of images comes on top"
    return found, said


def _units(plan: Plan, dataset: Dataset) -> int:
    """Images, or groups of them, in the split of the verdict."""
    return len({plan.group_of(str(image)) for image in dataset.judged.images})


def _spread(records: Iterable[Record], metric: str) -> tuple[float, str] | None:
    """The standard deviation of runs around the mean of their arm, and of how many; None of too few."""
    name, _, letter = metric.partition("(")
    key = SAVED.get(metric, f"metrics/{name.replace('mAP75', 'mAP50-95')}({letter or 'B)'}")
    by_arm: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if record.status == "finished" and key in record.metrics:
            place = record.spec.arm, str(record.spec.facts.get("dataset"))
            by_arm.setdefault(place, []).append(record.metrics[key])
    several = [values for values in by_arm.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    if not freedom:
        return None
    total = sum(standard.variance(values) * (len(values) - 1) for values in several)
    count = sum(len(values) for values in several)
    return (total / freedom) ** 0.5, f"as the {count} that have finished"
