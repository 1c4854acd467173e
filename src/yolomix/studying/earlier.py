"""Results folders of earlier trainings as runs of a study, where their arguments agree with the plan."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from yolomix.host import entry, evaluating, weights
from yolomix.records import Conditions
from yolomix.studying import running, runs
from yolomix.studying.arms import REFUSED, Arm, content_of
from yolomix.studying.datasets import Dataset
from yolomix.studying.plan import Plan
from yolomix.studying.record import RECORD, Record, RunSpec

# Arguments of Ultralytics that decide nothing about a training, or are compared by themselves.
ASIDE = frozenset(
    {"task", "mode", "model", "data", "seed", "project", "name", "exist_ok", "save", "save_period", "save_dir"}
    | {"resume", "pretrained", "cfg", "device", "workers", "verbose", "plots", "cache", "val", "split", "profile"}
    | {"tracker", "time", "compile"}
)
AUTOMATIC = ("optimizer", "lr0", "momentum", "warmup_bias_lr")  # what optimizer=auto decides


@dataclass(frozen=True)
class Found:
    """A training that counts as a run.

    Attributes:
        folder: of its results.
        spec: the run.
        data: the path of its dataset.
        saved: its arguments.
        epochs: metrics of every epoch.
    """

    folder: Path
    spec: RunSpec
    data: str
    saved: Mapping[str, Any]
    epochs: Sequence[Mapping[str, float]]

    @property
    def remark(self) -> str:
        """What has to be known of it."""
        return (
            f"{self.spec.arm}, seed {self.spec.seed}, was trained before ({self.folder}): its seed is not paired "
            "with those of runs that the study trains"
        )


def find(plan: Plan, arms: Sequence[Arm], datasets: Sequence[Dataset], specs: Sequence[RunSpec]) -> list[Found]:
    """The runs that the folders of a plan stand for; nothing is evaluated yet.

    Raises:
        PlanError: a folder holds no training of the plan; the text names what differs.
    """
    found: dict[str, Found] = {}
    for name in plan.earlier:
        one = _found(plan, Path(name), arms, datasets, specs)
        if one.spec.key in found:
            raise plan.error("earlier", f"{name} and {found[one.spec.key].folder} are one run; leave one of them out")
        found[one.spec.key] = one
    return [*found.values()]


def add(found: Found, study: Path, device: str) -> Record:
    """Evaluate a training's weights, and put its record where the run's would be.

    Raises:
        OSError: the record cannot be written.
    """
    spec, target = found.spec, study / found.spec.folder
    target.mkdir(parents=True, exist_ok=True)
    said = {key: value for key, value in found.saved.items() if value is not None}
    arguments = {key: value for key, value in said.items() if key in running.EVALUATED_WITH}
    arguments |= {"data": found.data, "split": spec.split, "plots": False, "device": device}
    arguments |= {"project": str(target.resolve()), "name": "evaluation", "exist_ok": True}
    matched = evaluating.evaluate(_weights(found.folder, spec), None, arguments)
    wanted = int(spec.arguments["epochs"])
    early = "" if len(found.epochs) >= wanted else f"ended after epoch {len(found.epochs)} of {wanted}"
    record = Record(
        replace(running.portable(spec), facts={**spec.facts, "earlier": str(found.folder)}),
        "finished",
        early,
        epochs=found.epochs,
        arguments={name: value for name, value in found.saved.items() if name not in running.PLACES},
        conditions=Conditions.here("cpu" if device == "cpu" else "cuda").to_dict(),
        seconds=float(found.epochs[-1].get("time", 0.0)),
        metrics=matched.metrics,
        statistics=running.statistics(matched),
    )
    spec.write(target)
    record.save(target / RECORD)
    return record


def _found(
    plan: Plan, folder: Path, arms: Sequence[Arm], datasets: Sequence[Dataset], specs: Sequence[RunSpec]
) -> Found:
    try:
        saved = yaml.safe_load((folder / "args.yaml").read_text("utf-8"))
        with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
            rows = [{key.strip(): float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise plan.error(
            "earlier", f"{folder} needs args.yaml and results.csv, as a training of Ultralytics leaves them: {error}"
        ) from error
    if not isinstance(saved, dict) or not rows:
        raise plan.error("earlier", f"{folder} holds a training without arguments, or without an epoch")
    arm = _arm(plan, folder, arms)
    data = _dataset(plan, folder, str(saved.get("data")), datasets)
    seed = saved.get("seed")
    spec = next((one for one in specs if _is(one, arm, data, seed)), None)
    if spec is None:
        raise plan.error("earlier", f"{folder} has seed {seed}, and the seeds of the plan are {[*plan.seeds]}")
    wrong = _differing(plan, spec, saved)
    if wrong:
        raise plan.error("earlier", f"{folder} was trained with other arguments: {'; '.join(wrong)}. Take it out")
    version = weights.version_of(_weights(folder, spec))
    now = runs.versions()["ultralytics"]
    if version != now:
        raise plan.error(
            "earlier", f"{folder} was trained by Ultralytics {version}, and this is {now}. Take it out, or install that"
        )
    return Found(folder, spec, data.data, saved, rows)


def _is(spec: RunSpec, arm: Arm, data: Dataset, seed: object) -> bool:
    return (spec.arm, spec.facts["dataset"], spec.seed) == (arm.name, data.name, seed)


def _arm(plan: Plan, folder: Path, arms: Sequence[Arm]) -> Arm:
    """The arm whose rows the trained model has."""
    file = folder / "weights" / f"{plan.weights}.pt"
    try:
        content = content_of(weights.read(file).yaml)
    except REFUSED as error:
        raise plan.error("earlier", f"{folder} needs its weights/{plan.weights}.pt: {error}") from error
    for arm in arms:
        if arm.content == content and arm.name in plan.arms:
            return arm
    raise plan.error(
        "earlier",
        f"{folder} has a model that is none of the arms {', '.join(plan.arms)}. An arm that starts from a checkpoint "
        "takes no earlier trainings",
    )


def _dataset(plan: Plan, folder: Path, data: str, datasets: Sequence[Dataset]) -> Dataset:
    for one in datasets:
        if data in (one.name, one.data) or Path(data).resolve() == Path(one.data).resolve():
            return one
    raise plan.error("earlier", f"{folder} was trained on {data}, and the plan has {', '.join(plan.data)}")


def _weights(folder: Path, spec: RunSpec) -> Path:
    return folder / "weights" / f"{spec.weights}.pt"


def _differing(plan: Plan, spec: RunSpec, saved: Mapping[str, Any]) -> list[str]:
    """Arguments that are not those of the plan, or of Ultralytics where the plan says none."""
    wanted = {key: value for key, value in entry.ARGUMENTS.items() if key not in ASIDE} | dict(spec.arguments)
    if str(plan.train.get("optimizer", "auto")).lower() == "auto" and saved.get("optimizer") == "auto":
        wanted = {key: value for key, value in wanted.items() if key not in AUTOMATIC}
    wanted = {key: value for key, value in wanted.items() if key not in ASIDE}
    return runs.disagreements(replace(spec, arguments=wanted), saved)
