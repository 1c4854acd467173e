"""Weights into a model with other layer indices, around ``BaseModel.load``, and their report beside a run's weights."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import nn
from ultralytics.nn import tasks
from ultralytics.utils import RANK

from yolomix import files, transferring
from yolomix.host.weights import Model, is_layered
from yolomix.surgery.report import Report

REPORT = "transfer.txt"  # beside the weights of a training run

# Ultralytics stands between who loads and who reports: `YOLO.load` and `YOLO.train` are two calls of the user's, the
# model is all that both see, and an attribute of it would be pickled into every checkpoint.
_reports: weakref.WeakKeyDictionary[nn.Module, Report] = weakref.WeakKeyDictionary()


def load(native: Callable[..., None], model: Model, weights: Any, verbose: bool = True) -> None:
    """``BaseModel.load``, which first puts the source's layers where the target has layers that they fit.

    Class counts, class names and the first convolution stay Ultralytics' business.

    Raises:
        ValueError: not one tensor was copied.
    """
    source = (weights.get("ema") or weights["model"]) if isinstance(weights, dict) else weights
    if not (is_layered(source) and is_layered(model)):
        native(model, weights, verbose)
        return
    report = transferring.copy_weights(source, model, load=lambda to, given: native(to, given, verbose))
    if report.moved:
        _reports[model] = report
        _tell(report, verbose)
    elif source in _reports:  # a copy of a model that was loaded with layers moved
        _reports[model] = _reports[source]


def setup_model(native: Callable[..., Any], trainer: Any) -> Any:
    """``BaseTrainer.setup_model``, which then saves the report of a transfer beside the run's weights."""
    result = native(trainer)
    report = report_of(trainer.model) if isinstance(trainer.model, nn.Module) else None
    if report is not None and RANK in (-1, 0):
        trainer.wdir.mkdir(parents=True, exist_ok=True)
        try:
            files.check_ours(trainer.wdir / REPORT)
            report.save(trainer.wdir / REPORT)
        except OSError as error:  # no reason to give up a training
            tasks.LOGGER.warning(f"yolomix: the report of the transfer is not kept: {error}")
    return result


def report_of(model: Model) -> Report | None:
    """The report of the last load into a model that moved layers; None where nothing had to move.

    >>> import yolomix
    >>> model = yolomix.YOLO("yolov8n-cls+MLLABlock@p5.yaml").load(yolomix.YOLO("yolov8n-cls.yaml").model)
    >>> report_of(model.model).complete
    True
    """
    return _reports.get(model)


def _tell(report: Report, verbose: bool) -> None:
    """A line in the log; a warning where something did not arrive for another reason than the class count."""
    if len(report.missing) > len(report.new_for_classes):
        tasks.LOGGER.warning(f"yolomix: {report.summary}; not:\n{report.explain_missing()}")
    elif verbose:
        tasks.LOGGER.info(f"yolomix: {report.summary}")
