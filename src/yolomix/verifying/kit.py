"""The checks of a kit: its settings against the file, and its script against predict of Ultralytics on that file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from yolomix import files
from yolomix.host import predicting
from yolomix.host.predicting import Candidates, Detections
from yolomix.kit import folder as kits
from yolomix.verifying import comparing
from yolomix.verifying.comparing import CONF, IOU, Agreement, Found
from yolomix.verifying.runtime import PATIENCE
from yolomix.verifying.sides import Sides
from yolomix.verifying.values import Check

LIMITS = {"least_iou": 0.99, "score": 1e-3, "place": 0.1}  # place: pixels, for boxes of a few of them
MANY = 100_000  # detections: all of them
REMEDY = f"Export it again with kit=True, which writes {kits.SCRIPT} and {kits.SETTINGS} anew, and do not ship this one"


class _ScriptError(RuntimeError):
    """The script of a kit failed; the text is its last words."""


class Trial(NamedTuple):
    """A kit, and what is shown to it."""

    folder: Path
    sides: Sides  # its file and the model
    images: Sequence[Path]
    spare: Path  # a folder for temporary files


def checks(trial: Trial) -> list[Check]:
    """All checks of a kit."""
    made = [_settings(trial), _script(trial)]
    if (trial.folder / "index.html").exists():
        made.append(Check("index.html", None, f"not run here, it counts as {kits.SCRIPT} does", "-"))
    return made


def _settings(trial: Trial) -> Check:
    """What ``kit.json`` says about the file."""
    sides = trial.sides
    wrong, said = [], kits.read(trial.folder)
    for key, value in kits.settings(sides.file, sides.contents, sides.reference.kind).items():
        if key in kits.MAY_CHANGE or said.get(key) == value:
            continue
        if key == "names" and len(said.get(key, ())) == len(value):
            index = next(i for i, (mine, its) in enumerate(zip(said[key], value, strict=True)) if mine != its)
            wrong.append(f"class {index} is {said[key][index]!r}, and {value[index]!r} in the file")
        elif key == "names":
            wrong.append(f"{len(said.get(key, ()))} classes, and {len(value)} in the file")
        else:
            wrong.append(f"{key} is {said.get(key)!r}, and {value!r} of the file")
    found = "; ".join(wrong) or f"{len(said['names'])} classes"
    return Check(kits.SETTINGS, not wrong, found, "labels, sizes and head of the file", remedy=REMEDY)


def _script(trial: Trial) -> Check:
    """What the script finds, in a process of its own, against what ``predict`` finds with the same file."""
    contents, kind = trial.sides.contents, trial.sides.reference.kind
    name = f"{kits.SCRIPT} in {len(trial.images)} images, conf {CONF}"
    wanted = f"as predict: 0 lost, 0 added, IoU >= {LIMITS['least_iou']}, scores {LIMITS['score']:.1e}"
    try:
        iou = IOU if kits.needs_suppression(contents, kind) else kits.NONE
        kept = tried(trial, iou, kits.MAX_DET)
        limits = _limits(trial)
        total = agreement(kept, kept, len(contents.names), limits)
        if total.lost + total.added:  # perhaps it was only suppressed, by a neighbour of nearly the same score
            every = tried(trial, kits.NONE, MANY)
            total = agreement(kept, every, len(contents.names), limits)
    except _ScriptError as error:
        return Check(name, False, str(error), wanted, remedy=REMEDY)
    numbers = {**total._asdict(), **limits}
    if not total.compared:
        return Check(name, None, "neither side finds anything", wanted, numbers)
    found = (
        f"{total.lost} lost, {total.added} added of {total.compared}, IoU >= {total.iou:.4f}, scores {total.score:.1e}"
    )
    return Check(name, total.lost + total.added == 0, found, wanted, numbers, REMEDY)


def _limits(trial: Trial) -> Mapping[str, float]:
    """What may differ: where predict itself puts boxes back to a pixel that is shown, so much of the image."""
    if predicting.scales_by_side():
        return LIMITS
    longest = 0
    for file in trial.images:
        with Image.open(file) as image:
            longest = max(longest, *image.size)
    return {**LIMITS, "place": longest / min(trial.sides.contents.imgsz)}


class Both(NamedTuple):
    """What is found in every image."""

    predict: list[Detections]
    script: list[Detections]


def tried(trial: Trial, iou: float, most: int) -> Both:
    """What both find, ``most`` objects in an image, without boxes that overlap a better one more than ``iou``."""
    file, contents = trial.sides.file, trial.sides.contents
    asked = {"imgsz": [*contents.imgsz], "conf": CONF, "iou": min(iou, 1.0), "max_det": most}
    predicted = trial.sides.runtime.predict("YOLO", str(file.resolve()), contents.task, trial.images, asked)
    run = _run(trial, {"conf": CONF, "iou": iou, "max_det": most})
    return Both([*map(inside, predicted)], [*map(inside, run)])


def inside(found: Detections) -> Detections:
    """Without boxes of which nothing is in the image: cut at its edge they have no area, and so no IoU."""
    there = (found.boxes[:, 2:] - found.boxes[:, :2]).min(axis=1, initial=np.inf) > LIMITS["place"]
    return Detections(*(part[there] for part in found))


def _run(trial: Trial, thresholds: Mapping[str, float]) -> list[Detections]:
    """What the script finds with thresholds of ours.

    Raises:
        _ScriptError: it fails, or does not end.
    """
    said = kits.read(trial.folder)
    copy = trial.spare / "kit"  # of the script and its settings, which name the file where it lies
    copy.mkdir(exist_ok=True)
    files.write(copy / kits.SCRIPT, (trial.folder / kits.SCRIPT).read_bytes(), flush=False)
    changed = {**said, **thresholds, "file": str(trial.sides.file.resolve())}
    files.write_text(copy / kits.SETTINGS, json.dumps(changed), flush=False)
    command = [sys.executable, str(copy / kits.SCRIPT), *map(str, trial.images)]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise _ScriptError(f"it did not end within {PATIENCE:.0f} s and was ended") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise _ScriptError(f"it ended with {done.returncode}: {lines[-1] if lines else 'it said nothing'}")
    rows: dict[str, list[list[float]]] = {str(image): [] for image in trial.images}
    for line in done.stdout.splitlines():
        found = json.loads(line)
        rows[found["image"]].append([found["class"], found["score"], *found["box"]])
    tables = [np.array(part, float).reshape(-1, 6) for part in rows.values()]
    return [Detections(table[:, 0], table[:, 1], table[:, 2:]) for table in tables]


def agreement(kept: Both, every: Both, classes: int, limits: Mapping[str, float] = LIMITS) -> Agreement:
    """Of all images.

    Args:
        kept: after suppression.
        every: without it.
        classes: how many the model has.
        limits: what may differ.
    """
    total = Agreement()
    for mine, its, all_mine, all_its in zip(*kept, *every, strict=True):
        one, other = Found(mine, _spread(all_mine, classes)), Found(its, _spread(all_its, classes))
        total = total.with_(comparing.agreement(one, other, predicting.overlaps, **limits))
    return total


def _spread(found: Detections, classes: int) -> Candidates:
    """Detections as candidates, which have a score for every class."""
    scores = np.full((len(found.scores), classes), -np.inf)
    scores[np.arange(len(scores)), found.classes.astype(int)] = found.scores
    return Candidates(scores, found.boxes)
