"""Datasets as Ultralytics reads them: classes and splits, the files of a split, the optimiser that ``auto`` chooses."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn
from ultralytics.data.base import BaseDataset
from ultralytics.data.utils import IMG_FORMATS, img2label_paths
from ultralytics.engine import trainer
from ultralytics.utils import LOGGER

from yolomix.host.entry import ARGUMENTS


def described(data: str, task: str) -> dict[str, Any]:
    """What a dataset YAML says, or a classifier's folder: ``names``, ``nc``, ``channels``, the place of every split.

    Args:
        data: what Ultralytics takes as ``data=``.
        task: what the model does.

    Raises:
        Exception: whatever Ultralytics says of what is none, or not there.
    """
    read = trainer.check_cls_dataset if task == "classify" else trainer.check_det_dataset
    with _without_log():
        found: dict[str, Any] = read(data)
    return found


def images(place: Any) -> list[Path]:
    """The images of a split, in the order of Ultralytics.

    Args:
        place: a folder; or what :func:`described` says of the split: a folder, a text with a path in each line, or
            several.

    Raises:
        FileNotFoundError: it is not there, or without an image.
    """
    if isinstance(place, Path):
        found = sorted(file for file in place.rglob("*.*") if file.suffix[1:].lower() in IMG_FORMATS)
        if not found:
            raise FileNotFoundError(f"no images in {place}, whose names end with {', '.join(sorted(IMG_FORMATS))}")
        return found
    reader: Any = SimpleNamespace(prefix="", fraction=1.0)
    with _without_log():
        return [Path(file) for file in BaseDataset.get_img_files(reader, place)]


def label_files(files: list[Path]) -> list[Path]:
    """Where Ultralytics looks for the labels of images; not all of them have to be there.

    >>> label_files([Path("data/images/train/1.jpg")])[0].as_posix()
    'data/labels/train/1.txt'
    """
    return [Path(label) for label in img2label_paths([str(file) for file in files])]


def automatic_optimizer(model: nn.Module, classes: int, images: int, train: dict[str, Any]) -> dict[str, Any]:
    """What ``optimizer=auto`` comes out as for a model: arguments that say it.

    Args:
        model: a model of Ultralytics.
        classes: of the dataset.
        images: to train on.
        train: arguments of the training.
    """
    said = {**ARGUMENTS, **train}
    steps = math.ceil(images / max(said["batch"], said["nbs"])) * said["epochs"]
    asked: Any = SimpleNamespace(args=SimpleNamespace(**said), data={"nc": classes})
    model.nc = classes  # type: ignore[assignment]  # where Ultralytics 8.3 looks for it
    with _without_log():
        optimizer = trainer.BaseTrainer.build_optimizer(asked, model, "auto", iterations=steps)
    first = optimizer.param_groups[0]
    momentum = first["betas"][0] if "betas" in first else first["momentum"]
    return {
        "optimizer": type(optimizer).__name__,
        "lr0": min(group["lr"] for group in optimizer.param_groups),  # MuSGD gives some a multiple of it
        "momentum": momentum,
        "warmup_bias_lr": asked.args.warmup_bias_lr,
    }


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keep out of the log what Ultralytics says of the speed of a disk, and of choices that are only asked for."""
    before, LOGGER.disabled = LOGGER.disabled, True
    try:
        yield
    finally:
        LOGGER.disabled = before
