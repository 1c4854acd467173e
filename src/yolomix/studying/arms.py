"""The arms of a study: what each model is, which are grafts of the base, and the initial weights of a seed."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from yolomix import editing, files
from yolomix.host import initial, names, survey, weights
from yolomix.host.names import Kind
from yolomix.nn.registry import BLOCKS
from yolomix.planning import EditedModel
from yolomix.records import slug
from yolomix.studying.datasets import Dataset
from yolomix.studying.plan import METRICS, Plan
from yolomix.surgery import writing
from yolomix.surgery.grammar import Part
from yolomix.transferring import copy_weights

INITS = "inits"  # the folder of initial weights in that of the study
REFUSED = (OSError, ValueError, TypeError, KeyError, ImportError, RuntimeError)
# Of a model dictionary: what a dataset or a file decides, and scales, of which one is used.
NOT_CONTENT = ("nc", "names", "yaml_file", "scale", "scales", "channels", "ch", "kpt_shape")


class Role(StrEnum):
    """What an arm is there for."""

    BASE = "base"
    ARM = "arm"
    CONTROL = "control"  # as many parameters as an arm at its insertion points, without its mixer
    AGAIN = "again"  # the base under other seeds


@dataclass(frozen=True)
class Arm:
    """A model that is trained once per seed.

    Attributes:
        name: in the plan; of a control one that we made.
        role: what it is there for.
        model: the model's name, grafts included.
        root: the same without grafts.
        parts: its grafts, in order.
        task: what the model does.
        content: hash of its rows and of the weights that it comes with.
        rows: its model dictionary.
        extends: whether it is the base with further grafts.
        control: the name of its control; empty without one.
        remark: why it has no control, or how near its control is.
    """

    name: str
    role: Role
    model: str
    root: str
    parts: tuple[Part, ...]
    task: str
    content: str
    rows: Mapping[str, Any]
    extends: bool = False
    control: str = ""
    remark: str = ""

    def parameters(self, classes: int) -> int:
        """How many it has, with so many classes."""
        return sum(layer.parameters for layer in survey.survey({**self.rows, "nc": classes}))

    def facts(self) -> dict[str, Any]:
        """What a report needs of it."""
        return {"role": str(self.role), "model": self.model, "control": self.control, "content": self.content}


def resolve(plan: Plan) -> list[Arm]:
    """The arms of a plan, the base first.

    Raises:
        PlanError: a model cannot be opened, two are one, or tasks differ; the text names file and line.
    """
    ordered = [plan.base, *(name for name in plan.arms if name != plan.base)]
    base = _arm(plan, plan.base, None)
    found = [base, *(_arm(plan, name, base) for name in ordered[1:])]
    if base.task not in METRICS:
        raise plan.error(f"arms.{base.name}", f"a study takes models for {', '.join(METRICS)}, got one for {base.task}")
    for i, arm in enumerate(found):
        where = f"arms.{arm.name}"
        if arm.task != base.task:
            raise plan.error(
                where, f"{arm.name} is for {arm.task} and the base for {base.task}; arms need one task. Take it out"
            )
        for other in found[:i]:
            if other.content == arm.content:
                raise plan.error(
                    where,
                    f"{arm.name} ({arm.model}) and {other.name} ({other.model}) are one model: equal rows, equal "
                    "weights. Leave one of them out",
                )
    return found


def made(base: Arm, name: str, role: Role, parts: Sequence[Part], remark: str = "") -> Arm:
    """An arm that we add: the base's root with other grafts.

    Raises:
        ValueError: a graft does not fit.
    """
    suffix = Path(base.root).suffix
    model = f"{base.root.removesuffix(suffix)}{writing.written(parts)}{suffix}" if parts else base.root
    rows = editing.edit(model).graph.model
    extends = tuple(parts[: len(base.parts)]) == base.parts and len(parts) > len(base.parts)
    content = content_of(rows, base.root)
    return Arm(name, role, model, base.root, tuple(parts), base.task, content, rows, extends, remark=remark)


def _arm(plan: Plan, name: str, base: Arm | None) -> Arm:
    model = plan.arms[name]
    try:
        found = names.resolve(model)
        root, parts = found.base, found.grafts
        if found.kind is Kind.CHECKPOINT and found.file is not None:
            root = str(found.file)
        task = initial.opened(root).task
        change = editing.edit(model)
        if parts:
            change.plan()  # which says what does not fit
        rows = change.graph.model
        content = content_of(rows, root)
    except REFUSED as error:
        raise plan.error(
            f"arms.{name}", f"{name} is no model to train: {error.args[0] if error.args else error}"
        ) from error
    _check_importable(plan, name, rows)
    if base is None:
        return Arm(name, Role.BASE, model, root, parts, task, content, rows)
    extends = root == base.root and parts[: len(base.parts)] == base.parts and len(parts) > len(base.parts)
    return Arm(name, Role.ARM, model, root, parts, task, content, rows, extends)


def content_of(rows: Mapping[str, Any], root: str = "") -> str:
    """The hash of a model: its rows at its scale, and the file of the weights that it comes with.

    Args:
        rows: its model dictionary.
        root: its name without grafts; empty of a model that starts from new values.
    """
    plain = {key: value for key, value in rows.items() if key not in NOT_CONTENT}
    if scales := rows.get("scales"):
        plain["scale"] = scales[rows.get("scale") or next(iter(scales))]
    found = names.resolve(root) if root else None
    if found is not None and found.has_weights:
        plain["weights"] = files.digest(found.file or weights.read(root).pt_path)
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def _check_importable(plan: Plan, name: str, rows: Mapping[str, Any]) -> None:
    """Raise PlanError if a block of a model is known only in the script that is running."""
    words = set(re.findall(r"[\w.]+", json.dumps([rows.get("backbone"), rows.get("head")], default=str)))
    for block in BLOCKS.values():
        if block.name in words and "__main__" in (block.home, block.cls.__module__):
            raise plan.error(
                f"arms.{name}",
                f"each run is a process of its own that needs to import the block {block.name}, and the script that is "
                "running registers it. Move it into a module, such as myblocks.py in the working folder, and "
                f"write myblocks.{block.cls.__name__} in the arm",
            )


class Initials:
    """The checkpoints that runs start from: one model per root and seed, into which grafts go.

    Two arms of one root have equal values in every tensor that they share, for every seed. Behind their gates grafts
    change no output. Grafts without a gate do.

    Args:
        folder: of the study.
        base: the arm that others are compared with.
    """

    def __init__(self, folder: Path, base: Arm) -> None:
        self.study, self.folder, self.base = folder, folder / INITS, base
        self._sources: dict[str, Any] = {}

    def prepare(self, arm: Arm, dataset: Dataset, seed: int) -> Path:
        """The checkpoint of an arm for a seed; made unless it is there.

        Raises:
            OSError: it cannot be written.
            ValueError: a tensor of the base did not arrive in a graft of it.
        """
        root = self._root(arm.root, dataset, seed)
        target = self.path(arm, dataset, seed)
        if not target.exists():
            change = editing.edit(str(root))
            for part in arm.parts:
                change = editing.graft(change, part.block, list(part.at), part.mode, part.args, part.n, part.gate)
            # In a folder of its own, since a killed process may leave a file without the base's values.
            with tempfile.TemporaryDirectory(dir=self.folder) as aside:
                done = change.apply(Path(aside) / target.name, seed)
                self._complete(arm, done, dataset, seed)
                done.file.replace(target)
        return target

    def path(self, arm: Arm, dataset: Dataset, seed: int) -> Path:
        """Where that checkpoint is or will be."""
        if not arm.parts:
            return self._root_file(arm.root, dataset, seed)
        what = arm.model if arm.content == self.base.content else arm.name
        return self._file(f"{what} {arm.content[:8]}", dataset, seed)

    def remove(self, arm: Arm, dataset: Dataset, seed: int) -> None:
        """Remove the checkpoint of a run that is done; that of the root stays for the others."""
        if arm.parts and arm.content != self.base.content:
            self.path(arm, dataset, seed).unlink(missing_ok=True)

    def _root(self, root: str, dataset: Dataset, seed: int) -> Path:
        target = self._root_file(root, dataset, seed)
        if not target.exists():
            if root not in self._sources:
                self._sources[root] = initial.opened(root)
            source = self._sources[root]
            model = initial.seeded(source, dataset.classes, dataset.channels, dataset.points, seed)
            if names.resolve(root).has_weights:
                copy_weights(source, model)
            self.folder.mkdir(parents=True, exist_ok=True)
            weights.write(model, target)
        return target

    def _complete(self, arm: Arm, done: EditedModel, dataset: Dataset, seed: int) -> None:
        """Give a graft of a base that has grafts of its own their values too; check that all values arrived."""
        report = done.report
        if arm.extends and self.base.parts:
            target = weights.read(done.file)
            report = copy_weights(weights.read(self.prepare(self.base, dataset, seed)), target)
            weights.write(target, done.file)
        replaces = any(part.mode == "replace" for part in arm.parts)
        if report is not None and report.missing and not replaces:
            raise ValueError(
                f"arm {arm.name} needs every tensor of its base, and {len(report.missing)} did not arrive:\n"
                f"{report.explain_missing()}"
            )

    def _root_file(self, root: str, dataset: Dataset, seed: int) -> Path:
        return self._file(f"{Path(root).stem} {hashlib.sha256(root.encode()).hexdigest()[:8]}", dataset, seed)

    def _file(self, what: str, dataset: Dataset, seed: int) -> Path:
        return self.folder / f"{slug(what)}-{dataset.digest[:8]}-s{seed}.pt"


def pinned(plan: Plan, base: Arm, dataset: Dataset) -> tuple[dict[str, Any], str]:
    """The arguments of every training, equal for all arms, and a sentence about what was pinned.

    ``optimizer=auto`` depends on the number of steps, and on nothing that differs between arms only as long as
    Ultralytics says so. What it gives for the base is written out for everybody.
    """
    from yolomix.host import datasets

    # Written out, since a checkpoint brings its own image size, and a later version may have other defaults.
    arguments: dict[str, Any] = {"epochs": 100, "batch": 16, "imgsz": 640, "optimizer": "auto", "single_cls": False}
    arguments |= plan.train
    if str(arguments["optimizer"]).lower() != "auto":
        return arguments, ""
    source = initial.opened(base.root)
    model = initial.seeded(source, dataset.classes, dataset.channels, dataset.points, 0)
    found = datasets.automatic_optimizer(model, len(dataset.classes), len(dataset.splits["train"].images), arguments)
    said = ", ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in found.items()
    )
    return arguments | found, f"optimizer=auto gives {said} for the base, and every arm gets that ({dataset.name})"
