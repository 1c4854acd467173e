"""An evaluation by Ultralytics that keeps, image by image, what its metrics are computed from."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy, deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import ultralytics
from torch import Tensor
from torch.utils.data import DataLoader
from ultralytics.engine import validator as validators
from ultralytics.engine.model import Model
from ultralytics.utils.metrics import compute_ap as compute_ap

from yolomix.host import entry
from yolomix.host.yolo import YOLO

Array = npt.NDArray[Any]

THRESHOLDS = 10
COLUMNS = {"tp": (0, THRESHOLDS), "conf": (0,), "pred_cls": (0,), "target_cls": (0,)}
OTHER_TP = {"tp_m": "M", "tp_p": "P"}  # of masks and of keypoints: the letters of their metrics


class Matched(NamedTuple):
    """What the metrics of a split are computed from: n detections and m labels, matched within images.

    Of a classifier there are ``correct`` and ``images`` only.
    """

    metrics: dict[str, float]  # of Ultralytics
    images: list[str]  # paths, in the order of evaluation
    classes: list[str]
    tp: Array  # (n, 10) bool
    conf: Array  # (n,)
    pred_cls: Array  # (n,)
    image: Array  # (n,) index into images
    target_cls: Array  # (m,)
    target_image: Array  # (m,) index into images
    target_area: Array  # (m,) pixels of the image as given
    other_tp: dict[str, Array]  # (n, 10) bool, by letter
    correct: Array  # (images, 2) bool: top 1 and top 5


def evaluate(model: Path | Model, weights: Mapping[str, Tensor] | None, arguments: Mapping[str, Any]) -> Matched:
    """Evaluate a model on a split.

    Args:
        model: a checkpoint, or a ``YOLO``, also of an exported file.
        weights: for the model in it, in place of its own, which are in half precision.
        arguments: of Ultralytics: ``data``, ``split``, a folder to write into and others.
    """
    yolo: Any = model if isinstance(model, Model) else YOLO(model)
    if weights is not None:
        yolo.model.load_state_dict(weights)
    base = yolo._smart_load("validator")
    kept: list[_Keeping] = []
    kind = _Classified if yolo.task == "classify" else _Detected
    validator = type(f"Keeping{base.__name__}", (kind, base), {"kept": kept})
    result = yolo.val(validator=validator, **arguments)
    return kept[0].matched(entry.metrics(result))


def opened(family: str, file: str, task: str) -> Any:
    """An exported file as a model of Ultralytics.

    Args:
        family: the class of Ultralytics that it was made with, ``YOLO`` or ``RTDETR``.
        file: the file or folder.
        task: what it does.
    """
    return getattr(ultralytics, family)(file, task=task)


def copied(yolo: Any) -> Any:
    """A ``YOLO`` with a copy of the model, which an evaluation fuses in place."""
    found = copy(yolo)
    found.model = deepcopy(yolo.model).float()
    return found


class _Keeping(validators.BaseValidator):
    """What is put in front of a validator class of Ultralytics."""

    kept: list[_Keeping]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept.append(self)

    def eval_json(self, stats: dict[str, Any]) -> dict[str, Any]:
        """Leave out the second evaluation that Ultralytics adds for COCO."""
        return stats

    def _classes(self) -> list[str]:
        return [str(self.names[index]) for index in sorted(self.names)]

    def matched(self, metrics: dict[str, float]) -> Matched:
        """What was kept."""
        raise NotImplementedError


class _Detected(_Keeping):
    """Of a detector: the lists that Ultralytics fills, one entry for an image, and which image it is."""

    def init_metrics(self, model: Any) -> None:
        """Begin."""
        super().init_metrics(model)
        self.images: list[str] = []
        self.areas: list[Array] = []
        self.entries: list[int] = []  # how many there were when an image was begun
        self.columns: dict[str, list[Array]] = {}

    def update_metrics(self, preds: Any, batch: dict[str, Any]) -> None:
        """A batch."""
        super().update_metrics(preds, batch)
        self.images += batch["im_file"]

    def _prepare_batch(self, si: int, batch: dict[str, Any]) -> dict[str, Any]:
        """The labels of one image, which Ultralytics asks for once."""
        self.entries.append(len(self._lists()["tp"]))
        self.areas.append(_areas(si, batch))
        prepared: dict[str, Any] = super()._prepare_batch(si, batch)
        return prepared

    def get_stats(self) -> Any:
        """The metrics; newer Ultralytics empties its lists here."""
        self.columns = {name: [_array(part) for part in parts] for name, parts in self._lists().items()}
        return super().get_stats()

    def _lists(self) -> dict[str, list[Any]]:
        of_metrics = getattr(self.metrics, "stats", None)
        lists: dict[str, list[Any]] = self.stats if of_metrics is None else of_metrics
        return lists

    def matched(self, metrics: dict[str, float]) -> Matched:
        """What was kept."""
        ends = [*self.entries[1:], len(self.columns["tp"])]
        # Older Ultralytics makes no entry for an image without labels and detections.
        owners = [i for i, (start, end) in enumerate(zip(self.entries, ends, strict=True)) if end > start]
        detections = [len(part) for part in self.columns["tp"]]
        labels = [len(part) for part in self.areas]
        columns = {name: self._column(name, shape) for name, shape in COLUMNS.items()}
        letters = {OTHER_TP[name]: name for name in OTHER_TP if name in self.columns}
        return Matched(
            metrics=metrics,
            images=self.images,
            classes=self._classes(),
            image=np.repeat(owners, detections),
            target_image=np.repeat(np.arange(len(labels)), labels),
            target_area=np.concatenate([np.zeros(0), *self.areas]),
            other_tp={letter: self._column(name, COLUMNS["tp"]) for letter, name in letters.items()},
            correct=np.zeros((0, 2), bool),
            **columns,
        )

    def _column(self, name: str, empty: tuple[int, ...]) -> Array:
        kind = bool if len(empty) == 2 else float
        return np.concatenate([np.zeros(empty, kind), *self.columns[name]])


class _Classified(_Keeping):
    """Of a classifier: which images it got right."""

    def get_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """The images in order; older Ultralytics shuffles them."""
        loader = super().get_dataloader(*args, **kwargs)
        self.images = [str(sample[0]) for sample in loader.dataset.samples]
        return DataLoader(loader.dataset, batch_size=loader.batch_size, num_workers=loader.num_workers)

    def matched(self, metrics: dict[str, float]) -> Matched:
        """What was kept."""
        right = torch.cat(self.pred) == torch.cat(self.targets).view(-1, 1)  # (images, at most 5)
        correct = torch.stack([right[:, 0], right.any(dim=1)], dim=1).numpy()
        nothing = np.zeros(0)
        none = {name: np.zeros(shape) for name, shape in COLUMNS.items()}
        none |= dict.fromkeys(("image", "target_image", "target_area"), nothing)
        return Matched(
            metrics=metrics, images=self.images, classes=self._classes(), other_tp={}, correct=correct, **none
        )


def _areas(si: int, batch: dict[str, Any]) -> Array:
    """The areas of the labels of one image, in pixels of the image as given.

    Args:
        si: its index in the batch.
        batch: boxes as fractions of the padded image, (labels, 4), of rotated ones with the angle behind.
    """
    height, width = batch["img"].shape[2:]
    ratio = batch["ratio_pad"][si]
    by_height, by_width = ratio[0] if isinstance(ratio[0], (tuple, list)) else ratio
    boxes = _array(batch["bboxes"][batch["batch_idx"] == si]).astype(float)
    return boxes[:, 2] * width / by_width * boxes[:, 3] * height / by_height


def _array(values: Any) -> Array:
    array: Array = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array
