"""What is made sure of before the first run: seeds reach the loader, and arms are trained alike."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolomix import files
from yolomix.progress import Progress
from yolomix.studying.arms import Arm
from yolomix.studying.plan import Plan
from yolomix.studying.queue import Slot
from yolomix.studying.record import RunSpec

FILE = "guards.json"
Probe = dict[str, Any]


def check(
    folder: Path, specs: Sequence[RunSpec], prepare: Callable[[RunSpec], RunSpec], room: Sequence[Slot], said: Progress
) -> None:
    """Begin a training of every arm, and of one with another seed, as far as the first batches; compare.

    What has passed is remembered in the folder.

    Raises:
        RuntimeError: the text says which guard, what was found, and what to do.
    """
    first = [spec for spec in specs if spec.facts["pair"] == specs[0].facts["pair"] and spec.facts["role"] != "again"]
    others = [spec for spec in specs if spec.arm == specs[0].arm and spec.facts["pair"] != specs[0].facts["pair"]]
    looked = [*first, *others[:1]]
    passed = hashlib.sha256("".join(spec.key for spec in looked).encode()).hexdigest()
    file = folder / FILE
    if file.is_file() and json.loads(file.read_text("utf-8")).get("passed") == passed:
        return
    what = f"checking that arms are trained alike: {len(looked)} trainings begin"
    said(0, len(looked), what)
    ready = [prepare(spec) for spec in looked]
    with ThreadPoolExecutor(len(room)) as pool:
        probes = []
        for probe in pool.map(lambda i: probed(ready[i], room[i % len(room)]), range(len(ready))):
            probes.append(probe)
            said(len(probes), len(looked), what)
    found = dict(zip((spec.key for spec in looked), probes, strict=True))
    for dataset in dict.fromkeys(spec.facts["dataset"] for spec in first):
        alike([(spec, found[spec.key]) for spec in first if spec.facts["dataset"] == dataset])
    for spec in others[:1]:
        seeded(found[specs[0].key], found[spec.key], specs[0].arguments)
    files.write_text(file, json.dumps({"passed": passed}))


def frozen(plan: Plan, arms: Sequence[Arm]) -> list[str]:
    """What has to be known of ``freeze``, which names layers by index: arms of other models freeze other layers.

    Args:
        plan: with its arguments of a training.
        arms: the base first, controls included.

    Raises:
        PlanError: a graft has another layer than the base up to the last frozen one.
    """
    said, remarks = plan.train.get("freeze"), []
    last = _last_frozen(said)
    base = _layers(arms[0])
    for arm in arms[1:]:
        layers = _layers(arm)
        first = next((i for i in range(last + 1) if layers[i : i + 1] != base[i : i + 1]), None)
        if first is None:
            continue
        text = f"layer {first} of {arm.name} is {_shown(layers, first)}, that of the base {_shown(base, first)}"
        if arm.root == arms[0].root:
            before = f"Freeze layers before it, as in freeze: {first}" if first else "Graft behind the frozen layers"
            raise plan.error(
                "train.freeze",
                f"freeze={said} needs layers that the base and its grafts have at the same index, and {text}. "
                f"{before}, or leave freeze out",
            )
        remarks.append(f"freeze={said} freezes other layers than in the base: {text}")
    return remarks


def _last_frozen(said: object) -> int:
    """The last layer index that ``freeze`` of Ultralytics names: a count, or a list of indices or ``index.module``."""
    if isinstance(said, int):
        return said - 1
    found = [str(one).partition(".")[0] for one in said] if isinstance(said, list | tuple) else []
    return max((int(one) for one in found if one.isdecimal()), default=-1)


def _layers(arm: Arm) -> list[Any]:
    return [*arm.rows.get("backbone", ()), *arm.rows.get("head", ())]


def _shown(layers: Sequence[Any], index: int) -> str:
    return str([*layers[index]]).replace("'", "") if index < len(layers) else "not there"


def probed(spec: RunSpec, slot: Slot) -> Probe:
    """What the training of a run would begin with; see :func:`yolomix.host.training.probe`.

    Raises:
        RuntimeError: it cannot begin.
    """
    with tempfile.TemporaryDirectory() as folder:
        replace(spec, arguments={**spec.arguments, "device": slot.device}).write(folder)
        words = [sys.executable, "-m", "yolomix.studying.child", folder, "--probe"]
        done = subprocess.run(
            words, capture_output=True, text=True, env={**os.environ, **slot.environment}, check=False
        )
        if done.returncode:
            log = Path(folder) / "log.txt"
            text = (log.read_text("utf-8", "replace") if log.exists() else "") + done.stderr
            last = [line for line in text.splitlines() if line.strip()][-3:]
            raise RuntimeError(f"the training of {spec.arm}, seed {spec.seed}, cannot begin: {' '.join(last)}")
        found: Probe = json.loads(done.stdout.splitlines()[-1])
        return found


def alike(probes: Sequence[tuple[RunSpec, Probe]]) -> None:
    """Raise unless all arms begin with the same batches, optimizer and schedule.

    Raises:
        RuntimeError: the text names two arms and what differs.
    """
    base, reference = probes[0]
    for spec, probe in probes[1:]:
        for name, value in _trained(reference).items():
            got = _trained(probe)[name]
            if got != value:
                raise RuntimeError(
                    f"arms need the same {name}, and {spec.arm} has {_short(got)} where {base.arm} has "
                    f"{_short(value)}. "
                    "Say it in the plan, as in train: {optimizer: AdamW, lr0: 0.001, batch: 16}"
                )


def seeded(one: Probe, other: Probe, arguments: Mapping[str, Any]) -> None:
    """Raise unless trainings with two seeds begin with different batches.

    With workers, ``seed=`` of Ultralytics decided nothing about them before August 2026.

    Raises:
        RuntimeError: they are equal.
    """
    if one["batches"] == other["batches"]:
        raise RuntimeError(
            "seeds need to reach the loader, and two of them give the same batches with "
            f"workers={arguments.get('workers', 8)}: seeds would measure too little noise. Say train: {{workers: 0}} "
            "in the plan, or take a newer Ultralytics"
        )


def _trained(probe: Probe) -> dict[str, Any]:
    """What has to be equal between arms, by name.

    How many weights a group has differs. So does whether there is a last group with the settings of the norms, of what
    token mixers exempt from weight decay: see ``hooks/optimizer.py``.
    """
    groups = []
    for group in probe["groups"]:
        settings = {name: value for name, value in group.items() if name not in ("parameters", "param_group")}
        if settings not in groups:
            groups.append(settings)
    found = {"optimizer": probe["optimizer"], "groups of weights": groups, "learning rates": probe["rates"]}
    return found | {"batch": [probe["batch"], probe["accumulate"]], "first batches": probe["batches"]}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
