"""mAP of a file beside that of PyTorch on a labelled split, paired over images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from yolomix.host import evaluating
from yolomix.host.evaluating import Matched
from yolomix.statistics import Matches, accuracy, average_precision, contrast, has_ramp, mean_over_classes, weightings
from yolomix.statistics.weightings import Floats
from yolomix.verifying.comparing import CONF, MAP_LOSS
from yolomix.verifying.sides import Sides
from yolomix.verifying.values import Check

WEIGHTINGS = 1000
LETTERS = {"M": " of masks", "P": " of keypoints"}


def mean_ap(sides: Sides, data: str, folder: Path) -> Check:
    """Evaluate both sides on the validation images, and compare.

    Args:
        sides: both.
        data: the dataset.
        folder: where Ultralytics writes while it evaluates.
    """
    height, width = sides.contents.imgsz
    if height != width:
        told = f"not measured: Ultralytics validates square images, and these are {height}x{width}"
        return Check("mAP50-95", None, told, "-")
    arguments = {
        "data": data, "split": "val", "imgsz": height, "batch": sides.contents.batch, "rect": False, "plots": False,
        "workers": 0, "verbose": False, "device": "cpu", "project": str(folder), "exist_ok": True,
    }  # fmt: skip
    if sides.contents.nms:
        arguments["conf"] = CONF  # nothing below it is in the file
    family = "RTDETR" if sides.reference.kind.endswith("queries") else "YOLO"
    on_its_device = {**arguments, "device": sides.runtime.device}
    theirs = sides.runtime.evaluate(family, str(sides.file.resolve()), sides.contents.task, on_its_device)
    mine = evaluating.evaluate(evaluating.copied(sides.yolo), None, arguments)
    return judged(mine, theirs, sides.contents.precision, has_ramp(evaluating.compute_ap))


def judged(mine: Matched, theirs: Matched, precision: str, ramp: bool) -> Check:
    """The difference of the metrics of two evaluations of the same images, with its interval.

    Args:
        mine: of PyTorch.
        theirs: of the file.
        precision: of the file; it says what may be lost.
        ramp: see :func:`yolomix.statistics.average_precision`.
    """
    if mine.images != theirs.images:
        return Check("mAP50-95", False, "the file was evaluated on other images", "the same images")
    n, loss = len(mine.images), MAP_LOSS[precision]
    weights = weightings(n, WEIGHTINGS).weights if n > 1 else np.ones((2, n))
    ones = np.ones((1, n))
    name = "top-1 accuracy" if len(mine.correct) else "mAP50-95"
    told, numbers, passed, most = [], dict[str, Any](), True, 0.0
    for letter in ("", *mine.other_tp) if not len(mine.correct) else ("",):
        weighted = [_metric(one, letter, weights, ramp) for one in (theirs, mine)]
        plain = [float(_metric(one, letter, ones, ramp)[0]) for one in (theirs, mine)]
        change = plain[0] - plain[1]
        passed, most = passed and change >= -loss, max(most, *plain)
        text = f"{plain[0]:.4f} instead of {plain[1]:.4f}{LETTERS.get(letter, '')}"
        if n > 1:
            found = contrast((weighted[0] - weighted[1])[:, None], np.array([change]), n)
            half = found.half_width_images()
            text += f", {change:+.4f}, on other images {change - half:+.4f} to {change + half:+.4f} (95 %)"
            numbers |= {f"interval{letter}": [change - half, change + half]}
        numbers |= {f"file{letter}": plain[0], f"pytorch{letter}": plain[1], f"difference{letter}": change}
        told.append(text)
    wanted = f"at most {loss} lower"
    return Check(
        f"{name}, {n} images", passed if most else None, "; ".join(told), wanted, numbers
    )  # 0 for 0 is nothing


def _metric(found: Matched, letter: str, weights: Floats, ramp: bool) -> Floats:
    """Of a classifier its top-1 accuracy, else mAP50-95, under every weighting (B, images)."""
    if len(found.correct):
        return accuracy(found.correct[:, 0], weights)
    tp = found.other_tp[letter] if letter else found.tp
    matches = Matches(
        tp, found.conf, found.pred_cls.astype(int), found.image, found.target_cls.astype(int), found.target_image
    )
    return mean_over_classes(average_precision(matches, weights, len(found.classes), ramp=ramp))
