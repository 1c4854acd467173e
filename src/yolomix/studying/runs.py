"""The runs of a plan: each named by the hash of all that it depends on, and told apart from those of other days."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yolomix import records as conditions
from yolomix.records import slug
from yolomix.studying.arms import Arm, Initials, Role
from yolomix.studying.controls import shift
from yolomix.studying.datasets import Dataset
from yolomix.studying.plan import Plan
from yolomix.studying.record import RECORD, SPEC, Record, RunSpec

RUNS = "runs"
VERSIONS = ("yolomix", "ultralytics", "torch")
PLACED = ("device",)  # arguments that say where a run computes; they are decided when it begins
NOT_SAVED = (*PLACED, "workers")  # those that Ultralytics changes by itself: no workers on a CPU
# What has to be equal in all runs of a study: the fact, where a plan says it, and what it is called.
EQUAL = (
    ("dataset_digest", "data", "content of the dataset"),
    ("versions", "data", "versions"),
    ("content", "arms", "model"),
    ("trained", "train", "arguments"),
)
LENGTH = 8  # digits of a key in the name of a folder


def specs(
    plan: Plan,
    arms: Sequence[Arm],
    datasets: Sequence[Dataset],
    arguments: Mapping[str, Mapping[str, Any]],
    initials: Initials,
    threads: int,
) -> list[RunSpec]:
    """All runs, those of a seed together: pairs are complete first.

    Args:
        plan: says seeds and weights.
        arms: controls included.
        datasets: all of them.
        arguments: of every training, by the name of the dataset.
        initials: knows where a run's initial weights are.
        threads: for each run.
    """
    facts = {(arm.name, data.name): _facts(arm, data, threads) for data in datasets for arm in arms}
    found = []
    for seed in plan.seeds:
        for data in datasets:
            for arm in arms:
                own = seed + shift(plan) if arm.role is Role.AGAIN else seed
                said = facts[arm.name, data.name] | {"pair": seed, "trained": dict(arguments[data.name])}
                found.append(_spec(plan, arm, data, own, said, initials))
    return found


def _spec(plan: Plan, arm: Arm, data: Dataset, seed: int, facts: dict[str, Any], initials: Initials) -> RunSpec:
    arguments = facts["trained"]
    depends = {
        "content": arm.content,
        "seed": seed,
        "arguments": {name: value for name, value in arguments.items() if name not in PLACED},
        "dataset": data.digest,
        "split": data.split,
        "weights": plan.weights,
        "versions": facts["versions"],
    }
    key = hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()
    folder = f"{RUNS}/{slug(arm.name) or 'arm'}-s{seed}-{key[:LENGTH]}"
    # No path of this machine: Setup.prepare puts them in before the run.
    model = initials.path(arm, data, seed).relative_to(initials.study).as_posix()
    return RunSpec(arm.name, model, seed, data.name, data.split, plan.weights, arguments, folder, key, facts)


def _facts(arm: Arm, data: Dataset, threads: int) -> dict[str, Any]:
    facts = arm.facts() | data.facts() | {"versions": versions(), "threads": threads, "task": arm.task}
    return facts | {"parameters": arm.parameters(len(data.classes))}


def versions() -> dict[str, str]:
    """What a run depends on, with its version.

    >>> sorted(versions())
    ['torch', 'ultralytics', 'yolomix']
    """
    found = {name: str(version) for name, version in conditions.versions(VERSIONS).items()}
    return {name: version.partition("+")[0] for name, version in found.items()}  # not for which CUDA it was built


def check_equal(plan: Plan, folder: Path, wanted: Sequence[RunSpec]) -> None:
    """Raise if the folder has a run of the same arm, seed and dataset from other data, versions, models or arguments.

    Raises:
        PlanError: the text names both.
    """
    known = {spec.key for spec in wanted}
    by_place = {_place(spec): spec for spec in wanted}
    for file, spec in _there(folder):
        now = by_place.get(_place(spec))
        if spec.key in known or now is None:
            continue
        for name, key, what in EQUAL:
            before, after = spec.facts.get(name), now.facts.get(name)
            if before != after:
                raise plan.error(
                    key,
                    f"{what} changed for {spec.arm}, seed {spec.seed}: now {_differing(after, before)}, and "
                    f"{_differing(before, after)} in {file}. Runs of a study need equal ones. Put back what there was, "
                    "or give this study another name: name: ...",
                )


def _there(folder: Path) -> Iterator[tuple[Path, RunSpec]]:
    for file in sorted((folder / RUNS).glob(f"*/{SPEC}")):
        yield file, RunSpec.read(file)
    for file in sorted((folder / RUNS).glob(f"*/{RECORD}")):
        if not file.with_name(SPEC).exists():
            yield file, Record.load(file).spec


def _place(spec: RunSpec) -> tuple[str, int, str]:
    return spec.arm, spec.seed, str(spec.facts.get("dataset"))


def _differing(value: Any, other: Any) -> str:
    """A value, and of mappings what differs."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return str({key: one for key, one in value.items() if other.get(key, "none") != one}) or "as before"
    return str(value)[:12]  # of a hash


def disagreements(spec: RunSpec, saved: Mapping[str, Any]) -> list[str]:
    """Arguments that Ultralytics saved otherwise than the plan has them.

    >>> spec = RunSpec("a", "a.yaml", 3, "d.yaml", "test", "last", {"lr0": 0.01, "imgsz": 64}, "a-s3", "k", {})
    >>> disagreements(spec, {"lr0": 0.02, "imgsz": 64, "seed": 3})
    ['lr0 is 0.02 and the plan has 0.01']
    """
    found = []
    for name, wanted in {**spec.arguments, "seed": spec.seed}.items():
        if name not in NOT_SAVED and name in saved and saved[name] != wanted:
            found.append(f"{name} is {saved[name]!r} and the plan has {wanted!r}")
    return found


def check_saved(records: Iterable[Record]) -> None:
    """Raise if a run trained with other arguments than the plan has.

    Raises:
        ValueError: the text names run and argument.
    """
    for record in records:
        wrong = disagreements(record.spec, record.arguments)
        if wrong:
            raise ValueError(
                f"{record.spec.folder} trained with other arguments than its plan: {'; '.join(wrong)}. Delete the "
                "folder and start the study again"
            )
