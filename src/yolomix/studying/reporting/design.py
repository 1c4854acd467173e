"""What a study compares, and with which runs: its plan and specs, and the records that are there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from yolomix.nearest import near
from yolomix.statistics import LEVEL, LOOKS
from yolomix.studying.arms import Role
from yolomix.studying.plan import METRICS, Plan
from yolomix.studying.record import Record, RunSpec
from yolomix.studying.runs import VERSIONS

HELPS, MIXER = "base", "control"  # the families: arm minus base, arm minus its control
APART = "none"  # of contrasts in no family: controls and the base again, each minus base
MISSING, EARLY = "missing", "ended early"  # beside the statuses of a record


class Planned(NamedTuple):
    """A contrast: an arm minus another."""

    family: str
    arm: str
    other: str


class ArmDesign(NamedTuple):
    """An arm as the plan came out."""

    name: str
    role: str
    model: str
    control: str
    parameters: int | None


@dataclass(frozen=True)
class Run:
    """A run that the plan asks for, whether or not it is there.

    Attributes:
        spec: what it is.
        record: what is left of it; None if it is missing.
        status: ``finished``, ``ended early``, ``failed``, ``diverged`` or ``missing``.
        reason: why it is not whole; empty where nobody knows.
    """

    spec: RunSpec
    record: Record | None
    status: str
    reason: str

    @classmethod
    def of(cls, spec: RunSpec, record: Record | None, why_missing: str = "") -> Run:
        """The run of a spec."""
        if record is None:
            return cls(spec, None, MISSING, why_missing)
        if record.status != "finished":
            return cls(spec, record, record.status, record.reason)
        if record.statistics is None:
            return cls(spec, record, "failed", "its record has no statistics")
        return cls(spec, record, EARLY if record.reason else "finished", record.reason)

    @property
    def whole(self) -> bool:
        """Whether a verdict may rest on it."""
        return self.status == "finished"

    @property
    def pair(self) -> int:
        """The seed of the plan that it belongs to; the base again has seeds of its own."""
        return int(self.spec.facts.get("pair", self.spec.seed))

    @property
    def dataset(self) -> str:
        """The name of its dataset."""
        return str(self.spec.facts.get("dataset", self.spec.data))


class Look(NamedTuple):
    """Which seeds are looked at, at which level."""

    seeds: tuple[int, ...]
    level: float
    number: int  # 1 or 2 of two planned looks; 0 where one is planned


@dataclass(frozen=True)
class Design:
    """What a study compares.

    Attributes:
        plan: as given.
        arms: the base first, controls and the base again behind the others.
        datasets: names, in the plan's order.
        metric: the plan's, or that of the task.
        task: of the models.
        runs: all that the plan asks for.
    """

    plan: Plan
    arms: tuple[ArmDesign, ...]
    datasets: tuple[str, ...]
    metric: str
    task: str
    runs: tuple[Run, ...]

    @classmethod
    def of(
        cls,
        plan: Plan,
        specs: Sequence[RunSpec],
        records: Mapping[str, Record],
        reasons: Mapping[str, str],
    ) -> Design:
        """The design of a study.

        Args:
            plan: as given.
            specs: of all runs.
            records: those that are there, by the key of their run.
            reasons: why a run is missing, by its key.

        Raises:
            ValueError: no run, no record, an unknown metric, or records that do not belong together.
        """
        if not specs:
            raise ValueError(f"a report of {plan.name} needs the runs of its plan, got none; start the study again")
        runs = tuple(Run.of(spec, records.get(spec.key), reasons.get(spec.key, "")) for spec in specs)
        if not any(run.record for run in runs):
            raise ValueError(
                f"a report needs at least one finished run, and {plan.name} has none of {len(runs)}; "
                f"run it first: yolomix study {plan.source}"
            )
        check_together(runs)
        task = str(specs[0].facts.get("task", "detect"))
        metric = plan.metric or METRICS[task][0]
        if metric not in METRICS[task]:
            raise ValueError(f"no metric {metric!r} for {task}; {near(metric, METRICS[task])}")
        datasets = tuple(dict.fromkeys(run.dataset for run in runs))
        return cls(plan, tuple(_arms(plan, specs)), datasets, metric, task, runs)

    def arm(self, name: str) -> ArmDesign:
        """The arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)

    def of_dataset(self, dataset: str) -> list[Run]:
        """The runs on a dataset."""
        return [run for run in self.runs if run.dataset == dataset]

    def contrasts(self) -> Iterator[Planned]:
        """All that the report compares: the two families, and what is in none."""
        for arm in self.arms:
            if arm.role == Role.ARM:
                yield Planned(HELPS, arm.name, self.plan.base)
                if arm.control:
                    yield Planned(MIXER, arm.name, arm.control)
            elif arm.role != Role.BASE:
                yield Planned(APART, arm.name, self.plan.base)

    def look(self) -> Look:
        """The look that the records allow: the last as soon as each of its runs has a record, however it ended."""
        seeds = tuple(self.plan.seeds)
        if self.plan.looks is None:
            return Look(seeds, LEVEL, 0)
        if all(run.record for run in self.runs):
            return Look(seeds, LOOKS[1], 2)
        return self.first_look()

    def first_look(self) -> Look:
        """The first of two planned looks."""
        assert self.plan.looks is not None, "there is a first look only where two are planned"
        return Look(tuple(self.plan.seeds[: self.plan.looks[0]]), LOOKS[0], 1)

    @property
    def unit(self) -> str:
        """What is weighted independently."""
        return "groups" if self.plan.groups else "images"


def _arms(plan: Plan, specs: Sequence[RunSpec]) -> Iterator[ArmDesign]:
    seen: dict[str, ArmDesign] = {}
    for spec in specs:
        facts = spec.facts
        role = str(facts.get("role", Role.BASE if spec.arm == plan.base else Role.ARM))
        model, control = str(facts.get("model", spec.model)), str(facts.get("control", ""))
        seen.setdefault(spec.arm, ArmDesign(spec.arm, role, model, control, facts.get("parameters")))
    if plan.base not in seen:
        raise ValueError(f"a report needs runs of the base {plan.base!r}, got those of {', '.join(seen)}")
    order = [Role.BASE, Role.ARM, Role.CONTROL, Role.AGAIN]
    yield from sorted(seen.values(), key=lambda arm: order.index(Role(arm.role)))


def check_together(runs: Sequence[Run]) -> None:
    """Raise unless all records are of one plan: versions, dataset, split, images.

    Raises:
        ValueError: the text names two runs that differ, and in what.
    """
    there = [run for run in runs if run.record is not None]
    by_dataset: dict[str, list[Run]] = defaultdict(list)
    for run in there:
        by_dataset[run.dataset].append(run)
        _compare(there[0], run, "versions", _versions)
        _compare(there[0], run, "task", lambda one: one.spec.facts.get("task"))
    for group in by_dataset.values():
        for run in group:
            _compare(group[0], run, "dataset", lambda one: _record(one).spec.facts.get("dataset_digest"))
            _compare(group[0], run, "split", lambda one: _record(one).spec.split)
            _compare(group[0], run, "weights", lambda one: _record(one).spec.weights)
        evaluated = [run for run in group if _record(run).statistics is not None]
        for run in evaluated:
            _compare(evaluated[0], run, "images of the split", _images)


def _record(run: Run) -> Record:
    assert run.record is not None, "only runs with a record are compared"
    return run.record


def _images(run: Run) -> Any:
    statistics = _record(run).statistics
    assert statistics is not None, "only runs with statistics are compared"
    return statistics.images, statistics.classes


def _versions(run: Run) -> dict[str, str]:
    """What computed a run; of its conditions, since its plan may have been made anew elsewhere."""
    found: Mapping[str, str] = _record(run).conditions.get("versions") or run.spec.facts.get("versions") or {}
    return {name: str(found[name]).partition("+")[0] for name in VERSIONS if name in found}


def _compare(first: Run, run: Run, what: str, of: Any) -> None:
    one, other = of(first), of(run)
    if one == other:
        return
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        differing = [name for name in {**one, **other} if one.get(name) != other.get(name)]
        one, other = ({name: each.get(name) for name in differing} for each in (one, other))
    raise ValueError(
        f"all runs of a study need equal {what}: {first.spec.folder} has {_short(one)}, {run.spec.folder} has "
        f"{_short(other)}. Take one of them out, or run it again"
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
