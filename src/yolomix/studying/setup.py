"""A plan with everything that it names opened and checked: what a study works with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yolomix.nearest import near
from yolomix.progress import Progress
from yolomix.studying import arms, controls, datasets, earlier, folder, guards, runs
from yolomix.studying.arms import Arm, Initials
from yolomix.studying.contents import Contents
from yolomix.studying.datasets import Dataset
from yolomix.studying.earlier import Found
from yolomix.studying.plan import METRICS, Plan
from yolomix.studying.queue import Slot, slots
from yolomix.studying.record import RunSpec


@dataclass(frozen=True)
class Setup:
    """A plan with everything that it names opened and checked.

    Attributes:
        arms: the base first, controls last.
        datasets: of the plan.
        specs: all runs, in the order in which they begin.
        metric: that of the plan, or of the task.
        initials: the initial weights.
        room: where runs go.
        threads: of each run.
        remarks: what is not wrong and has to be known.
        contents: what is remembered of the files of the datasets.
        earlier: trainings of other days that count as runs.
        reported: see :func:`yolomix.studying.folder.reported`.
    """

    arms: Sequence[Arm]
    datasets: Sequence[Dataset]
    specs: Sequence[RunSpec]
    metric: str
    initials: Initials
    room: Sequence[Slot]
    threads: int
    remarks: Sequence[str]
    contents: Contents
    earlier: Sequence[Found]
    reported: Sequence[int]

    def prepare(self, spec: RunSpec) -> RunSpec:
        """Make the initial weights of a run; returns the spec with the paths of this machine."""
        arm, dataset = self._of(spec)
        model = self.initials.prepare(arm, dataset, spec.seed)
        return replace(spec, model=str(model.resolve()), data=dataset.data)

    def remove(self, spec: RunSpec) -> None:
        """Remove the initial weights of a run that has finished, except those that others grow from."""
        self.initials.remove(*self._of(spec), spec.seed)

    def _of(self, spec: RunSpec) -> tuple[Arm, Dataset]:
        arm = next(arm for arm in self.arms if arm.name == spec.arm)
        return arm, next(data for data in self.datasets if data.name == spec.facts["dataset"])

    def resolved(self) -> dict[str, Any]:
        """What the study's own ``study.yaml`` says beside the plan."""
        named = {arm.name: arm.facts() for arm in self.arms}
        return {
            "metric": self.metric,
            "threads": self.threads,
            folder.REPORTED: [*self.reported],
            "versions": runs.versions(),
            "arms": {name: {key: facts[key] for key in ("role", "model", "control")} for name, facts in named.items()},
            "datasets": [data.facts() | {"split": data.split} for data in self.datasets],
            "remarks": [*self.remarks],
        }


def opened(design: Plan, place: Path, said: Progress) -> Setup:
    """Open and check everything that a plan names.

    Args:
        design: the plan.
        place: the study's folder, which need not be there.
        said: is told what is done.

    Raises:
        PlanError: a model, a dataset or what they have in common is wrong.
    """
    found = arms.resolve(design)
    metric = _metric(design, found[0].task)
    said(0, 1, "reading the datasets")
    contents = Contents(place)
    data = datasets.resolve(design, found[0].task, contents)
    said(0, 1, "fitting controls")
    everybody = controls.with_controls(design, found)
    arguments, remarks = _arguments(design, everybody[0], data)
    initials = Initials(place, everybody[0])
    count = len(design.seeds) * len(data) * len(everybody)
    kept = folder.opened(place)[1].get("threads", 0) if folder.is_study(place) else 0
    room, threads = slots(count, design.train.get("device"), int(kept))
    specs = runs.specs(design, everybody, data, arguments, initials, threads)
    before = earlier.find(design, everybody, data, specs)
    reported = folder.reported(design, place)
    remarks = [*_remarks(design, metric, everybody, data), *remarks, *(one.remark for one in before)]
    if reported:
        remarks.append(folder.added(reported))
    return Setup(everybody, data, specs, metric, initials, room, threads, remarks, contents, before, reported)


def _metric(design: Plan, task: str) -> str:
    """That of the plan, or the first of the task."""
    metric = design.metric or METRICS[task][0]
    if metric not in METRICS[task]:
        raise design.error("metric", f"{task} models have no metric {metric!r}; {near(metric, METRICS[task])}")
    return metric


def _arguments(design: Plan, base: Arm, data: Sequence[Dataset]) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Arguments of the training on every dataset, and what has to be known of them."""
    arguments: dict[str, Mapping[str, Any]] = {}
    remarks = []
    for dataset in data:
        arguments[dataset.name], sentence = arms.pinned(design, base, dataset)
        if sentence:
            remarks.append(sentence)
    return arguments, remarks


def _remarks(design: Plan, metric: str, everybody: Sequence[Arm], data: Sequence[Dataset]) -> Iterator[str]:
    """What is not wrong with models and data and has to be known."""
    if not design.metric:
        yield f"metric: {metric}, as the plan does not say one"
    for dataset in data:
        yield from dataset.remarks
    for arm in everybody:
        if arm.remark:
            yield arm.remark
    yield from guards.frozen(design, everybody)
    if "matched" not in design.controls:
        yield "no matched controls, as the plan has it: a gain may come from the parameters alone"
