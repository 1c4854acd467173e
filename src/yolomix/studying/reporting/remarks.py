"""What a reader has to know beside the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from yolomix.studying.arms import Role
from yolomix.studying.reporting.design import Design, Look, Run
from yolomix.studying.reporting.metrics import column
from yolomix.studying.reporting.values import Scored

AGREES = 1e-3  # equal confidences may be sorted otherwise on another processor


def of_study(design: Design, look: Look) -> Iterator[str]:
    """Of the whole study."""
    plan = design.plan
    if look.number:
        which = "first" if look.number == 1 else "last"
        yield f"the {which} of two planned looks: {len(look.seeds)} seeds, level {look.level:g}"
    if not any(arm.role == Role.AGAIN for arm in design.arms):
        yield "the base was not compared with itself (controls: [matched, aa])"
    yield from _conditions(design.runs)
    if plan.earlier:
        yield f"runs of earlier trainings count: {', '.join(plan.earlier)}"


def _conditions(runs: Sequence[Run]) -> Iterator[str]:
    """Whether runs computed on different machines."""
    seen: dict[str, Run] = {}
    for run in runs:
        if run.record is not None and run.record.conditions:
            seen.setdefault(machine(run.record.conditions), run)
    if len(seen) > 1:
        text = "; ".join(f"{name} ({run.spec.folder}, ...)" for name, run in seen.items())
        yield f"runs computed on {len(seen)} kinds of machines, which adds to the noise: {text}"


def machine(conditions: Any) -> str:
    """Device and processor of a run."""
    device, processor = conditions.get("device", "unknown"), conditions.get("processor", {})
    return device if device != "cpu" else str(processor.get("name") or "cpu")


def of_dataset(design: Design, runs: Sequence[Scored]) -> Iterator[str]:
    """Of the runs on one dataset."""
    worst, where = 0.0, ""
    for run, value in runs:
        reported = run.record.metrics.get(column(design.metric)) if run.record else None
        if reported is not None and not math.isnan(value) and abs(reported - value) > max(worst, AGREES):
            worst, where = abs(reported - value), f"{run.spec.folder} has {value:.4f} here and {reported:.4f} there"
    if where:
        yield f"{design.metric} from the stored detections is not what Ultralytics reported: {where}"
