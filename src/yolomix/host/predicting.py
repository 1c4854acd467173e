"""From image files to what a model is shown, and from its outputs to detections, as Ultralytics' predict does it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.utils import metrics, ops

from yolomix.host.exported import Contents

Floats = npt.NDArray[np.floating]

RANKED = ("rows", "ranked queries")  # layouts whose detections have one class each


class Detections(NamedTuple):
    """What is found in one image; n of them."""

    classes: Floats  # (n,)
    scores: Floats  # (n,)
    boxes: Floats  # (n, 4) corners or (n, 5) centre, size, angle; (n, 0) of classes without a place


def shown(yolo: Any, files: Sequence[Path], contents: Contents) -> Iterator[Tensor]:
    """Every image as Ultralytics shows it to an exported file of that kind.

    Args:
        yolo: the model, whose task and family decide.
        files: the images.
        contents: what the file says.

    Returns: tensors (1, channels, H, W), float32.
    """
    predictor = _predictor(yolo._smart_load("predictor"), contents, is_dynamic=False)
    predictor.setup_source([str(file) for file in files])
    for _, pixels, *_ in predictor.dataset:
        for one in pixels:
            yield predictor.preprocess([one])


@functools.cache
def pads_to_stride() -> bool:
    """Whether predict pads images for a file of open sizes to the stride alone; older versions pad them to the size."""
    contents = Contents("detect", {0: "object"}, (64, 64), stride=32)
    predictor = _predictor(DetectionPredictor, contents, is_dynamic=True)
    predictor.imgsz = [64, 64]
    (padded,) = predictor.pre_transform([np.zeros((64, 32, 3), np.uint8)])
    return bool(padded.shape == (64, 32, 3))


@functools.cache
def scales_by_side() -> bool:
    """Whether predict puts boxes back by the scale of each side; older versions take one for both, not rounded."""
    boxes = torch.tensor([[5.0, 0.0, 90.0, 64.0]])  # 640 x 480 pixels that were shown as 85 x 64
    return bool(ops.scale_boxes((64, 96), boxes, (480, 640))[0, 2] == 640)


def predicted(yolo: Any, files: Sequence[Path], arguments: Mapping[str, Any]) -> list[Detections]:
    """What ``predict`` of a detector finds in image files; boxes in pixels of each.

    Args:
        yolo: the model, also of an exported file.
        files: the images.
        arguments: of Ultralytics.
    """
    found = []
    for file in files:  # a list would be one batch, and padded as such
        (result,) = yolo.predict(str(file), save=False, verbose=False, device="cpu", **arguments)
        boxes = result.boxes
        found.append(Detections(boxes.cls.numpy(), boxes.conf.numpy(), boxes.xyxy.numpy()))
    return found


def _predictor(cls: Any, contents: Contents, is_dynamic: bool) -> Any:
    """A predictor of Ultralytics for an exported file, which is not opened."""
    settings = {"task": contents.task, "imgsz": [*contents.imgsz], "mode": "predict", "save": False, "device": "cpu"}
    predictor = cls(overrides={**settings, "verbose": False, "batch": 1, "rect": True})
    # What a predictor asks of the file that is open, in the words of Ultralytics 8.3.0 and of newer ones.
    predictor.model = SimpleNamespace(
        format="onnx", pt=False, dynamic=is_dynamic, fp16=False, imgsz=[*contents.imgsz], stride=contents.stride,
        names=dict(contents.names), channels=contents.channels, device=torch.device("cpu"), model=None,
    )  # fmt: skip
    predictor.device = predictor.model.device
    return predictor


class Candidates(NamedTuple):
    """What an image has before suppression: N places, each with a score for every class."""

    scores: Floats  # (N, classes)
    boxes: Floats  # as those of Detections


def detected(outputs: Sequence[Floats], kind: str, contents: Contents, conf: float, iou: float) -> list[Detections]:
    """The detections of every image, after suppression where the model needs it.

    Args:
        outputs: of a model.
        kind: how they are laid out (:func:`yolomix.host.exported.layout`).
        contents: what the file says.
        conf: the least score.
        iou: from which on a box suppresses another.
    """
    if kind == "grid":
        found = _nms()(
            torch.from_numpy(outputs[0]).float().clone(),  # it writes into them
            conf,
            iou,
            nc=len(contents.names),
            max_time_img=10.0,
            rotated=contents.task == "obb",
        )
        # Behind box, score and class stands what else there is; of a rotated box the angle.
        columns = [0, 1, 2, 3, 6][: 5 if contents.task == "obb" else 4]
        return [Detections(row[:, 5].numpy(), row[:, 4].numpy(), row[:, columns].numpy()) for row in found]
    found = []
    for scores, boxes in candidates(outputs, kind, contents):
        best, classes = scores.max(axis=1), scores.argmax(axis=1)
        if kind == "classes":  # a class has no place, so an image may have several
            best, classes, boxes = scores[0], np.arange(scores.shape[1]), np.zeros((scores.shape[1], 0))
        kept = best > conf
        found.append(Detections(classes[kept], best[kept], boxes[kept]))
    return found


def candidates(outputs: Sequence[Floats], kind: str, contents: Contents) -> list[Candidates]:
    """What every image has before suppression; boxes in pixels, or in fractions where the outputs are."""
    first, classes = outputs[0], len(contents.names)
    if kind == "classes":
        return [Candidates(row[None], np.zeros((1, 0))) for row in first]
    found = []
    for row in first.swapaxes(1, 2) if kind == "grid" else first:  # (N, numbers)
        is_ranked = kind in RANKED  # box, score, class and more; else box, scores and more
        scores = _spread(row, classes) if is_ranked else row[:, 4 : 4 + classes]
        if contents.task == "obb":
            boxes = row[:, [0, 1, 2, 3, 6 if is_ranked else 4 + classes]]
        elif kind == "rows":
            boxes = row[:, :4]
        else:  # centre and size
            boxes = np.concatenate([row[:, :2] - row[:, 2:4] / 2, row[:, :2] + row[:, 2:4] / 2], axis=1)
        found.append(Candidates(scores, boxes))
    return found


def overlaps(one: Floats, other: Floats) -> Floats:
    """IoU of every box with every other, (n, m): of rotated ones as Ultralytics approximates it, 1 without a place."""
    if not one.size or not other.size:
        return np.ones((len(one), len(other)))
    between = metrics.batch_probiou if one.shape[1] == 5 else metrics.box_iou
    return np.asarray(between(torch.from_numpy(one).double(), torch.from_numpy(other).double()))


def _spread(rows: Floats, classes: int) -> Floats:
    """The score of every class, (N, classes), from rows that have one of them."""
    scores = np.zeros((len(rows), classes))
    scores[np.arange(len(rows)), rows[:, 5].astype(int).clip(0, classes - 1)] = rows[:, 4]
    return scores


@functools.cache
def _nms() -> Any:
    import torchvision  # noqa: F401, with which that of Ultralytics is not a loop in Python

    try:
        from ultralytics.utils.nms import non_max_suppression
    except ImportError:  # Ultralytics 8.3
        return ops.non_max_suppression
    return non_max_suppression
