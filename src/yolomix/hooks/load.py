"""Weights into a model with other layer indices: around ``BaseModel.load``, and the report beside a training's weights."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from torch import nn
from ultralytics.nn import tasks
from ultralytics.utils import RANK

from yolomix.host import weights as host_weights
from yolomix.host.weights import Model
from yolomix.surgery.align import align
from yolomix.surgery.report import Report

REPORT = "transfer.txt"  # beside the weights of a training run

# Ultralytics stands between who loads and who reports: the model is all that both see, and an attribute of it would
# be pickled into every checkpoint.
_reports: weakref.WeakKeyDictionary[nn.Module, Report] = weakref.WeakKeyDictionary()


def load(native: Callable[..., None], model: Model, weights: Any, verbose: bool = True) -> None:
    """``BaseModel.load``, which first puts the source's layers where the target has layers that they fit.

    Class counts, class names and the first convolution stay Ultralytics' business.

    Raises:
        ValueError: not one tensor was copied.
    """
    source = (weights.get("ema") or weights["model"]) if isinstance(weights, dict) else weights
    if not (host_weights.is_layered(source) and host_weights.is_layered(model)):
        native(model, weights, verbose)
        return
    order = align(list(source.model), list(model.model))
    report, moved = host_weights.load_aligned(functools.partial(native, verbose=verbose), source, model, order)
    if moved:
        _reports[model] = report
        _show(report, verbose)
    elif source in _reports:  # a copy of a model that was loaded with layers moved
        _reports[model] = _reports[source]


def setup_model(native: Callable[..., Any], trainer: Any) -> Any:
    """``BaseTrainer.setup_model``, which then saves the report of a transfer beside the run's weights."""
    result = native(trainer)
    report = _reports.get(trainer.model) if isinstance(trainer.model, nn.Module) else None
    if report is not None and RANK in (-1, 0):
        trainer.wdir.mkdir(parents=True, exist_ok=True)
        report.save(trainer.wdir / REPORT)
    return result


def report_of(model: Model) -> Report | None:
    """The report of the last transfer into a model that moved layers or was asked for."""
    return _reports.get(model)


def _show(report: Report, verbose: bool) -> None:
    """A line in the log, and a warning for whatever did not arrive."""
    if verbose:
        tasks.LOGGER.info(f"yolomix: {report.summary}")
    if missing := report.missing():
        tasks.LOGGER.warning(f"yolomix: {report.predicted} tensors fit, {report.copied} arrived; not all:\n{missing}")


