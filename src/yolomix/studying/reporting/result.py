"""The whole answer of a study, and its plain values for JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yolomix.showing import Shown
from yolomix.studying.reporting.design import Design, Look, Run
from yolomix.studying.reporting.values import OnDataset, Scored, Summary

FORMAT = 1  # of study.json


@dataclass(frozen=True, repr=False)
class Analysis(Shown):
    """The whole answer of a study.

    ``to_dict()`` is the content of ``study.json``, format 1; what has no value is null:

    - ``format``, ``name``, ``plan``, ``metric``, ``task``, ``weights``, ``margin``, ``complete``, ``weightings``;
    - ``look``: ``number`` (0 where one is planned, else 1 or 2), ``level``, ``seeds``;
    - ``arms``: ``name``, ``role``, ``model``, ``control``, ``parameters``, ``cost`` (``flops``, ``ms``, ``memory_mb``);
    - ``datasets``, each with ``name``, ``digest``, ``split``, ``images``, ``units``, ``unit``, ``runs`` (``arm``,
      ``seed``, ``pair``, ``status``, ``reason``, ``value``, ``folder``, ``key``), ``arms`` by name (``mean``, ``sd``,
      ``values``), ``contrasts``, ``classes``, ``sizes``, ``bins``, ``largest``, ``few``, ``remarks``;
    - a contrast: ``family`` (``base``, ``control`` or ``none``), ``arm``, ``other``, ``level``, ``verdict``,
      ``holm_p``, ``holm_p_equivalent``, ``text``, ``notes``, ``first_look``; and unless a run is not whole
      ``difference``, ``interval``, ``half_width``, ``sd``, ``p``, ``better``, ``better_interval``, ``shares``,
      ``variances``, ``seeds``, ``units``;
    - ``summaries``: the same contrasts over all datasets, where there are several;
    - ``remarks``, ``conditions``.

    Attributes:
        design: what was compared.
        look: which seeds, at which level.
        datasets: in the plan's order.
        summaries: over datasets; empty of one.
        costs: of arms by name, as :func:`yolomix.studying.reporting.costs.measured` gives them.
        remarks: what a reader has to know.
        weightings: B.
    """

    design: Design
    look: Look
    datasets: tuple[OnDataset, ...]
    summaries: tuple[Summary, ...]
    costs: Mapping[str, Any]
    remarks: tuple[str, ...]
    weightings: int

    @property
    def not_whole(self) -> list[Run]:
        """Runs that a verdict of this look would need, and that are not whole."""
        return [run for run in self._wrong if run.pair in self.look.seeds]

    @property
    def to_come(self) -> list[Run]:
        """Runs of the second look, where this is the first."""
        return [run for run in self._wrong if run.pair not in self.look.seeds]

    @property
    def _wrong(self) -> list[Run]:
        return [run for run in self.design.runs if not run.whole]

    @property
    def complete(self) -> bool:
        """Whether every run of the plan is whole."""
        return not self._wrong

    def in_short(self) -> str:
        """Its size and whether it is complete."""
        runs = len(self.design.runs)
        state = "complete" if self.complete else f"{sum(run.whole for run in self.design.runs)} whole"
        return f"{self.design.plan.name}: {len(self.design.arms)} arms, {runs} runs, {state}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        design = self.design
        record = next(run.record for run in design.runs if run.record)
        found = {
            "format": FORMAT,
            "name": design.plan.name,
            "plan": design.plan.to_dict(),
            "metric": design.metric,
            "task": design.task,
            "weights": design.plan.weights,
            "margin": design.plan.margin,
            "complete": self.complete,
            "look": self.look._asdict(),
            "weightings": self.weightings,
            "arms": [arm._asdict() | {"cost": self.costs.get(arm.name)} for arm in design.arms],
            "datasets": [_dataset(self, data) for data in self.datasets],
            "summaries": [one.to_dict() for one in self.summaries],
            "remarks": [*self.remarks],
            "conditions": dict(record.conditions),
        }
        plain: dict[str, Any] = finite(found)
        return plain


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; NaN where there are too few values.

    >>> mean_sd([1.0, 2.0, 3.0])
    (2.0, 1.0)
    """
    mean = statistics.fmean(values) if values else math.nan
    return mean, statistics.stdev(values) if len(values) > 1 else math.nan


def finite(value: Any) -> Any:
    """Plain values of JSON: numbers that are not finite become None, mappings and sequences dict and list.

    >>> finite({"a": (1.0, math.nan)})
    {'a': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _dataset(analysis: Analysis, data: OnDataset) -> dict[str, Any]:
    level = analysis.look.level
    arms = {}
    for arm in analysis.design.arms:
        values = data.scores(arm.name)
        mean, sd = mean_sd(values)
        arms[arm.name] = {"mean": mean, "sd": sd, "values": values}
    return {
        "name": data.name,
        "digest": data.digest,
        "split": data.split,
        "images": data.images,
        "units": data.units,
        "unit": analysis.design.unit,
        "runs": [_run(one) for one in data.runs],
        "arms": arms,
        "contrasts": [one.to_dict() for one in data.differences],
        "classes": [part.to_dict(level) for part in data.classes],
        "sizes": [part.to_dict(level) for part in data.sizes],
        "bins": data.bins,
        "largest": [one._asdict() for one in data.largest],
        "few": data.few,
        "remarks": [*data.remarks],
    }


def _run(scored: Scored) -> dict[str, Any]:
    run = scored.run
    return {
        "arm": run.spec.arm,
        "seed": run.spec.seed,
        "pair": run.pair,
        "status": run.status,
        "reason": run.reason,
        "value": scored.value,
        "folder": run.spec.folder,
        "key": run.spec.key,
    }
