"""What a study is to do: ``study.yaml`` or keyword arguments, read strictly, with errors that name file and line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePath
from typing import Any

from yolomix.nearest import near
from yolomix.showing import Shown
from yolomix.studying.planfile import PlanError as PlanError  # who needs a plan needs its error
from yolomix.studying.planfile import opened, shown
from yolomix.studying.plankeys import KEYS

NEEDED = ("data", "arms", "base", "seeds")
RESOLVED = "resolved"  # the part of the study.yaml in a study's folder that we wrote
BOXES = ("mAP50-95", "mAP50", "mAP75")
METRICS = {
    **dict.fromkeys(("detect", "obb"), BOXES),
    "segment": (*BOXES, *(f"{name}(M)" for name in BOXES)),
    "pose": (*BOXES, *(f"{name}(P)" for name in BOXES)),
    "classify": ("top1", "top5"),
}
# Arguments of a training that the study itself decides, and what to do instead.
DECIDED = {
    **dict.fromkeys(("model", "task", "pretrained", "cfg"), "every arm says its model: arms: {name: MODEL}"),
    "data": "the plan says it: data: FILE",
    "seed": "the plan says them: seeds: [0, 1, 2]",
    "split": "the plan says it: split: test",
    **dict.fromkeys(("mode", "project", "name", "exist_ok", "resume", "save", "save_dir"), "each run has its folder"),
    "time": "arms of other speed would train for other numbers of epochs; give epochs",
    "single_cls": "classes are those of the dataset; give a dataset with one class",
}


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """A plan, understood. Only ``data``, ``arms``, ``base`` and ``seeds`` have to be given.

    >>> plan = Plan.of(data="sample", arms={"a": "yolo11n.yaml", "b": "yolo11n-mlla.yaml"}, base="a", seeds=[0, 1, 2])
    >>> plan
    <Plan study: 2 arms x 3 seeds on sample>
    >>> plan.margin, plan.controls, plan.weights
    (0.005, ('matched',), 'last')

    Attributes:
        data: one dataset or several: a dataset YAML, a folder of a classifier, or ``sample``.
        arms: name to model: whatever ``YOLO()`` takes, grafts included.
        base: the arm that the others are compared with.
        seeds: of the runs; every arm has a run for each.
        name: of the study and its folder; by default that of the file.
        split: of the verdict, ``test`` or ``val``; empty for ``test`` if the dataset has one, else ``val``.
        weights: which are compared, ``last`` or ``best``, which the validation images have chosen.
        train: arguments of Ultralytics for every training.
        metric: one of those of the task; empty for ``mAP50-95``, of a classifier ``top1``.
        margin: differences up to this are as good as none.
        budget: hours after which no further run begins; None for no end.
        groups: a regular expression on file names; images with one match (its group, if it has one) belong together.
        looks: after how many seeds the results are looked at, twice; None for one look, at the end.
        controls: ``matched``, ``aa``, or none.
        earlier: results folders of earlier trainings whose runs count.
        source: the file, or what to call it.
        lines: the line of every key in the file, keys inside with dots: ``arms.base``.
    """

    data: tuple[str, ...]
    arms: Mapping[str, str]
    base: str
    seeds: tuple[int, ...]
    name: str = "study"
    split: str = ""
    weights: str = "last"
    train: Mapping[str, Any] = field(default_factory=dict)
    metric: str = ""
    margin: float = 0.005
    budget: float | None = None
    groups: str | None = None
    looks: tuple[int, int] | None = None
    controls: tuple[str, ...] = ("matched",)
    earlier: tuple[str, ...] = ()
    source: str = "yolomix.Study"
    lines: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, **given: Any) -> Plan:
        """The plan of keyword arguments.

        Raises:
            PlanError: all that is wrong with it.
        """
        return cls._checked(given, "yolomix.Study", {})

    @classmethod
    def read(cls, file: str | Path) -> Plan:
        """The plan in a YAML file.

        Raises:
            PlanError: it cannot be read, or is wrong; the text names the file and the line of every fault.
        """
        given, lines = opened(str(file), NEEDED)
        given.pop(RESOLVED, None)
        given.setdefault("name", Path(file).stem)
        return cls._checked(given, str(file), lines)

    @classmethod
    def _checked(cls, given: Mapping[str, Any], source: str, lines: Mapping[str, int]) -> Plan:
        known = [each.name for each in fields(cls) if each.name not in ("source", "lines")]
        draft = cls((), {}, "", (), source=source, lines=lines)
        faults = [
            f"{draft.where(str(key))}: no key {key!r}; {near(str(key), known)}" for key in given if key not in known
        ]
        for key in NEEDED:
            if given.get(key) in (None, "", [], {}):
                faults.append(f"{source} needs {key}:, as in {KEYS[key].example}")
        values = dict[str, Any]()
        for key in known:
            if key in given and (given[key] is not None or key in ("budget", "groups", "looks")):
                _read(key, given[key], draft, values, faults)
        if faults:
            raise PlanError("\n".join(faults))
        plan = cls(**values, source=source, lines=lines)
        faults = [*_agreements(plan)]
        if faults:
            raise PlanError("\n".join(faults))
        return plan

    def where(self, key: str = "") -> str:
        """Where a key stands: file and line, or the keyword argument.

        >>> Plan((), {}, "", (), source="study.yaml", lines={"seeds": 7}).where("seeds")
        'study.yaml, line 7'
        """
        found = key
        while found and found not in self.lines:
            found = found.rpartition(".")[0]
        if found:
            return f"{self.source}, line {self.lines[found]}"
        return f"{self.source}({key.partition('.')[0]}=...)" if key and not self.lines else self.source

    def error(self, key: str, text: str) -> PlanError:
        """The error that says where a key stands and what is wrong with it."""
        return PlanError(f"{self.where(key)}: {text}")

    def group_of(self, image: str) -> str:
        """Which images belong together: the match of the expression, of its group if it has one, else the image itself.

        >>> plan = Plan((), {}, "", (), groups="^(.*)_frame")
        >>> plan.group_of("test/v1_frame3.jpg"), plan.group_of("test/other.jpg")
        ('v1', 'test/other.jpg')
        """
        found = re.search(self.groups, PurePath(image).name) if self.groups else None
        if found is None:
            return image
        return found[1] if found.re.groups and found[1] is not None else found[0]

    def to_dict(self) -> dict[str, Any]:
        """Every key with its value, as a plan in YAML has them."""
        plain: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name not in ("source", "lines"):
                plain[each.name] = [*value] if isinstance(value, tuple) else value if value != "" else None
        return plain | {"arms": dict(self.arms), "train": dict(self.train)}

    def in_short(self) -> str:
        """Its name and size."""
        return f"{self.name}: {len(self.arms)} arms x {len(self.seeds)} seeds on {', '.join(self.data)}"


def _read(key: str, value: Any, draft: Plan, values: dict[str, Any], faults: list[str]) -> None:
    """Put the value of one key among those of the plan, or what is wrong with it among the faults."""
    if key in ("data", "earlier") and isinstance(value, str | Path):
        value = [value]
    try:
        values[key] = KEYS[key].read(value)
    except (ValueError, TypeError, re.error) as error:
        why = f": {error}" if isinstance(error, re.error) else ""
        faults.append(
            f"{draft.where(key)}: {key} needs {KEYS[key].wanted}, got {shown(value)}{why}. Write {KEYS[key].example}"
        )


def _agreements(plan: Plan) -> Iterable[str]:
    """What does not go together in a plan whose values are each right."""
    if plan.base not in plan.arms:
        yield f"{plan.where('base')}: base is {plan.base!r}, which is no arm; {near(plan.base, plan.arms)}"
    if len(plan.arms) < 2 and "aa" not in plan.controls:
        yield f"{plan.where('arms')}: a study needs an arm beside its base, got {', '.join(plan.arms)}"
    known = {metric for metrics in METRICS.values() for metric in metrics}
    if plan.metric and plan.metric not in known:
        yield f"{plan.where('metric')}: no metric {plan.metric!r}; {near(plan.metric, sorted(known))}"
    if plan.looks and plan.looks[1] != len(plan.seeds):
        yield (
            f"{plan.where('looks')}: the last look needs all {len(plan.seeds)} seeds of the plan, got "
            f"{plan.looks[1]}. Give as many seeds, or another look"
        )
    for key, instead in DECIDED.items():
        if key in plan.train:
            yield f"{plan.where(f'train.{key}')}: a study takes no {key} among the arguments of a training; {instead}"
    batch = plan.train.get("batch", 16)
    if type(batch) is not int or batch < 1:
        yield (
            f"{plan.where('train.batch')}: batch needs a whole number from 1 on, got {batch!r}: what fits into memory "
            "differs between arms"
        )
