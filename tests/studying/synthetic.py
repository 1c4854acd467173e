"""Studies whose truth is known: plans, specs and records from random numbers, without any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from yolomix.records import Conditions
from yolomix.statistics import Matches, average_precision, mean_over_classes
from yolomix.studying import folder as folders
from yolomix.studying.plan import Plan
from yolomix.studying.record import RECORD, ImageStatistics, Record, RunSpec

CLASSES = ("RBC", "WBC", "Platelets")
SHARE = (0.80, 0.08, 0.12)  # of the labels
AREA = (9000.0, 40000.0, 900.0)
VERSIONS = {"yolomix": "0.9", "ultralytics": "8.4.190", "torch": "2.9.0"}
TRAINED = {"epochs": 60, "batch": 16, "imgsz": 160, "optimizer": "AdamW", "lr0": 0.001}
IOU = np.linspace(0.5, 0.95, 10)
Roles = Mapping[str, tuple[str, str, str, int]]

ROLES: Roles = {
    "yolo11n": ("base", "yolo11n.yaml", "", 2_590_000),
    "mlla": ("arm", "yolo11n+MLLABlock@p4,p5.yaml", "mlla control", 2_770_000),
    "halo": ("arm", "yolo11n+HaloAttention(2,1)@p5.yaml", "halo control", 2_700_000),
    "vss": ("arm", "yolo11n+VSSBlock@p5.yaml", "", 2_810_000),
    "mlla control": ("control", "yolo11n+GatedConv(64)@p4,p5.yaml", "", 2_771_000),
    "halo control": ("control", "yolo11n+GatedConv(32)@p5.yaml", "", 2_699_000),
    "yolo11n again": ("again", "yolo11n.yaml", "", 2_590_000),
}
"""Role, model, control and parameters of each arm."""
EFFECTS = {"mlla": 0.12, "halo": 0.0, "vss": -0.15, "mlla control": 0.02}
"""How much better than the base, in standard deviations of IoU."""


def labels(images: int, seed: int = 0) -> ImageStatistics:
    """A split without detections."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(4, 20, images)
    target = rng.choice(len(CLASSES), counts.sum(), p=SHARE)
    area = np.array(AREA)[target] * rng.lognormal(0, 0.4, counts.sum())
    return ImageStatistics(
        tuple(f"BloodImage_{i:05}.jpg" for i in range(images)),
        CLASSES,
        target=target,
        target_image=np.repeat(np.arange(images), counts).astype(np.int32),
        target_area=area.astype(np.float32),
    )


def detected(truth: ImageStatistics, effect: float, run: int, spread: float = 0.03) -> ImageStatistics:
    """What a run finds: the better the arm, the higher the IoU of what it finds.

    Args:
        truth: the labels.
        effect: of the arm.
        run: a number for the noise of this run; difficulty of labels is the same in all of them.
        spread: of runs around the effect of their arm.
    """
    hard, rng = np.random.default_rng(1), np.random.default_rng(run + 3000)
    m = len(truth.target)
    skill = effect + spread * rng.normal() - hard.normal(0, 1, m) + 0.5 * rng.normal(0, 1, m)
    iou = 0.95 / (1 + np.exp(-1.2 - 0.9 * skill))
    tp = iou[:, None] >= IOU
    confidence = np.clip(0.2 + 0.6 * iou + 0.1 * rng.normal(size=m), 0.01, 0.99)
    false = rng.integers(0, 8, len(truth.images))
    image = np.concatenate([truth.target_image, np.repeat(np.arange(len(false)), false)])
    extra = false.sum()
    return replace(
        truth,
        tp=np.concatenate([tp, np.zeros((extra, 10), bool)]),
        confidence=np.concatenate([confidence, rng.beta(1.5, 4, extra)]).astype(np.float32),
        predicted=np.concatenate([truth.target, rng.integers(0, len(CLASSES), extra)]),
        image=image.astype(np.int32),
    )


def classified(images: int, effect: float, run: int) -> ImageStatistics:
    """What a classifier gets right, of three classes in folders."""
    hard, rng = np.random.default_rng(2).normal(size=images), np.random.default_rng(run)
    first = effect + 0.8 - hard + rng.normal(0, 0.5, images) > 0
    names = tuple(f"{CLASSES[i % 3]}/{i}.jpg" for i in range(images))
    return ImageStatistics(names, CLASSES, correct=np.stack([first, first | (hard < 1)], axis=1))


def epochs(quality: float, run: int, count: int = 60) -> list[dict[str, float]]:
    """A training that saturates."""
    rng = np.random.default_rng(run)
    found = []
    for epoch in range(1, count + 1):
        value = quality * (1 - np.exp(-epoch / 15)) + 0.01 * rng.normal()
        loss = 1 + 2 * np.exp(-epoch / 12) + 0.03 * rng.normal()
        found.append({"epoch": epoch, "train/box_loss": loss, "train/cls_loss": 0.7 * loss,
                      "metrics/mAP50(B)": 1.5 * value, "metrics/mAP50-95(B)": value})  # fmt: skip
    return found


def spec(
    arm: str, seed: int, dataset: str = "bccd", roles: Roles = ROLES, task: str = "detect", **facts: Any
) -> RunSpec:
    """One run of a study."""
    role, model, control, parameters = roles[arm]
    own = seed + 1000 if role == "again" else seed
    said = {"role": role, "model": model, "control": control, "parameters": parameters, "pair": seed, "task": task}
    said |= {"dataset": dataset, "dataset_digest": f"{dataset}0a1b2c3d4e5f", "classes": [*CLASSES], "threads": 2}
    said |= {"images": {"train": 205, "val": 87, "test": 72}, "versions": VERSIONS, "trained": TRAINED} | facts
    key = f"{arm} {seed} {dataset}".encode().hex()
    folder = f"runs/{arm.replace(' ', '-')}-{dataset}-s{own}"
    return RunSpec(arm, "inits/a.pt", own, f"{dataset}/data.yaml", "test", "last", TRAINED, folder, key, said)


def record(of: RunSpec, statistics: ImageStatistics, run: int, **changes: Any) -> Record:
    """The record of a run that finished, with the metrics that Ultralytics would report."""
    metrics = {}
    if len(statistics.correct):
        top1, top5 = statistics.correct.mean(axis=0)
        metrics = {"metrics/accuracy_top1": top1, "metrics/accuracy_top5": top5}
    else:
        found = Matches(statistics.tp, statistics.confidence, statistics.predicted, statistics.image,
                        statistics.target, statistics.target_image)  # fmt: skip
        ap = average_precision(found, np.ones((1, len(statistics.images))), len(statistics.classes))
        metrics = {"metrics/mAP50(B)": float(mean_over_classes(ap[..., :1])[0]),
                   "metrics/mAP50-95(B)": float(mean_over_classes(ap)[0])}  # fmt: skip
    conditions = Conditions.here().to_dict()
    conditions["versions"] = conditions["versions"] | VERSIONS
    history = epochs(metrics.get("metrics/mAP50-95(B)", 0.5), run)
    given = {"epochs": history, "arguments": {**of.arguments, "seed": of.seed}, "conditions": conditions}
    given |= {"seconds": 700.0 + run, "cpu_seconds": 800.0, "metrics": metrics, "statistics": statistics}
    return Record(of, "finished", **given | changes)


def study(
    arms: Sequence[str] = tuple(ROLES),
    seeds: int = 5,
    images: int = 72,
    datasets: Sequence[str] = ("bccd",),
    effects: Mapping[str, float] = EFFECTS,
    roles: Roles = ROLES,
    **plan: Any,
) -> tuple[Plan, list[RunSpec], dict[str, Record]]:
    """A plan, its runs and their records."""
    own = {name: roles[name][1] for name in arms if roles[name][0] in ("base", "arm")}
    there = {name: (role, model, control if control in arms else "", count)
             for name, (role, model, control, count) in roles.items()}  # fmt: skip
    given = {"name": "blood-cells", "split": "test", "controls": ["matched", "aa"], "train": TRAINED} | plan
    made = Plan.of(data=[*datasets], arms=own, base=arms[0], seeds=[*range(seeds)], **given)
    specs, records = [], {}
    for d, dataset in enumerate(datasets):
        truth = labels(images, d)
        for seed in range(seeds):
            for a, arm in enumerate(arms):
                one = spec(arm, seed, dataset, there)
                run = 100 * d + 10 * a + seed
                found = detected(truth, effects.get(arm, 0.0), run)
                specs.append(one)
                records[one.key] = record(one, found, run)
    return made, specs, records


def written(folder: Path, plan: Plan, specs: Sequence[RunSpec], records: Mapping[str, Record]) -> Path:
    """A study's folder with these records in it."""
    folder.mkdir(parents=True)
    folders.claim(plan, folder, {}, specs)
    for one in specs:
        if one.key in records:
            (folder / one.folder).mkdir(parents=True)
            records[one.key].save(folder / one.folder / RECORD)
    return folder
