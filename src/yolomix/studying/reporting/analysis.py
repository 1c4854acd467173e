"""From the records of a study to its answer."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from yolomix.statistics import Contrast, Verdict, Weightings, combined, contrast, verdicts, weightings
from yolomix.studying.arms import Role
from yolomix.studying.plan import Plan
from yolomix.studying.record import ImageStatistics, Record, RunSpec
from yolomix.studying.reporting import parts, remarks
from yolomix.studying.reporting.design import APART, HELPS, MIXER, Design, Look, Planned, Run
from yolomix.studying.reporting.metrics import Measured, Sizes, has_ramp, measure, sizes
from yolomix.studying.reporting.numbers import interval, number, p_value
from yolomix.studying.reporting.result import Analysis
from yolomix.studying.reporting.values import Difference, OnDataset, Scored, Summary

WEIGHTINGS = 2000  # B
SUSPICIOUS, BROKEN = 0.05, 0.001  # p of the base against itself


def analyse(
    plan: Plan,
    specs: Sequence[RunSpec],
    records: Mapping[str, Record],
    reasons: Mapping[str, str] | None = None,
    costs: Mapping[str, Any] | None = None,
    said: Sequence[str] = (),
) -> Analysis:
    """Compare the arms of a study, with the runs that are there.

    Args:
        plan: what was to be compared.
        specs: of all its runs.
        records: those that are there, by the key of their run.
        reasons: why a run is missing, by its key.
        costs: of arms by name, as ``costs.json`` has them.
        said: remarks of whoever resolved the plan.

    Raises:
        ValueError: no record, or records that do not belong together; the text names two runs.
    """
    design = Design.of(plan, specs, records, reasons or {})
    look = design.look()
    computed = [_computed(design, name) for name in design.datasets]
    found = _differences(design, computed, look)
    datasets = []
    for data, differences in zip(computed, found, strict=True):
        datasets.append(_on_dataset(design, data, differences, look))
    summaries = _summaries(design, datasets, look) if len(datasets) > 1 else []
    more = remarks.of_study(design, look)
    return Analysis(design, look, tuple(datasets), tuple(summaries), costs or {}, (*said, *more), WEIGHTINGS)


class _Computed(NamedTuple):
    """A dataset with every run under all weightings."""

    name: str
    runs: list[Run]
    measured: dict[str, Measured]  # by the key of the run
    weights: Weightings | None  # None where no run was evaluated
    bins: Sizes | None
    ramp: bool

    @property
    def statistics(self) -> ImageStatistics:
        """Of any run: all have the same images and labels."""
        return next(run.record.statistics for run in self.runs if run.record and run.record.statistics)


def _computed(design: Design, name: str) -> _Computed:
    runs = design.of_dataset(name)
    evaluated = [run.record for run in runs if run.record is not None and run.record.statistics is not None]
    if not evaluated:
        return _Computed(name, runs, {}, None, None, False)
    first = evaluated[0].statistics
    assert first is not None, "it was evaluated"
    groups = [design.plan.group_of(image) for image in first.images]
    weights = weightings(groups, WEIGHTINGS)
    bins, ramp = sizes(first.target_area.astype(np.float64)), has_ramp(evaluated[0])
    score = partial(_scored, metric=design.metric, weights=weights, bins=bins, ramp=ramp)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the kernel leaves the interpreter's lock
        found = [*pool.map(score, evaluated)]
    keys = [record.spec.key for record in evaluated]
    return _Computed(name, runs, dict(zip(keys, found, strict=True)), weights, bins, ramp)


def _scored(record: Record, metric: str, weights: Weightings, bins: Sizes | None, ramp: bool) -> Measured:
    assert record.statistics is not None, "only evaluated runs are scored"
    return measure(record.statistics, metric, weights.weights, bins, ramp)


def _pairs(data: _Computed, planned: Planned, seeds: Sequence[int]) -> list[tuple[Measured, Measured]] | None:
    """The runs of both arms, seed by seed; None if one is not whole."""
    by_place = {(run.spec.arm, run.pair): run for run in data.runs if run.whole}
    try:
        keys = [[by_place[arm, seed].spec.key for arm in (planned.arm, planned.other)] for seed in seeds]
    except KeyError:
        return None
    return [(data.measured[arm], data.measured[other]) for arm, other in keys]


def _contrast(data: _Computed, planned: Planned, seeds: Sequence[int]) -> Contrast | None:
    pairs = _pairs(data, planned, seeds)
    if pairs is None or data.weights is None:
        return None
    differences = np.stack([arm.metric - other.metric for arm, other in pairs], axis=1)  # (1 + B, S)
    return contrast(differences[1:], differences[0], data.weights.units)


def _differences(design: Design, computed: Sequence[_Computed], look: Look) -> list[list[Difference]]:
    """For every dataset its contrasts, with verdicts of families that span all datasets."""
    decided = _decided(design, computed, look)
    at_first = _decided(design, computed, design.first_look()) if look.number == 2 else {}
    found = []
    for data in computed:
        rows = []
        for planned in design.contrasts():
            value, verdict = decided[data.name, planned]
            first = at_first.get((data.name, planned), (None, None))[1]
            rows.append(_difference(data, planned, look, value, verdict, first))
        found.append(rows)
    return found


Decided = dict[tuple[str, Planned], tuple[Contrast | None, Verdict | None]]


def _decided(design: Design, computed: Sequence[_Computed], look: Look) -> Decided:
    found: Decided = {}
    for family in (HELPS, MIXER, APART):
        keys = [(data, one) for data in computed for one in design.contrasts() if one.family == family]
        values = [_contrast(data, one, look.seeds) for data, one in keys]
        said: Sequence[Verdict | None] = [None] * len(keys)
        if keys and family != APART:
            said = verdicts(values, design.plan.margin, look.level, design.unit)
        for (data, one), value, verdict in zip(keys, values, said, strict=True):
            found[data.name, one] = (value, verdict)
    return found


def _difference(
    data: _Computed,
    planned: Planned,
    look: Look,
    value: Contrast | None,
    verdict: Verdict | None,
    first: Verdict | None,
) -> Difference:
    why = _not_whole(data, planned, look) or "a run is missing"
    if verdict is None:
        text = _diagnosis(planned, data, value) if value is not None else f"no verdict: {why}"
        return Difference(planned, look.level, value, None, text)
    if value is None:
        verdict = replace(verdict, text=f"no verdict: {why}")
    notes = verdict.notes
    if first is not None and first.word in ("better", "worse", "equivalent"):
        notes = (*notes, f"the first look had decided: {first.word} (Holm p {p_value(first.p)})")
    return Difference(planned, look.level, value, verdict, verdict.text, notes, first)


def _not_whole(data: _Computed, planned: Planned, look: Look) -> str:
    """Which runs of a contrast are not whole, in a few words."""
    wrong = []
    for run in data.runs:
        if run.spec.arm in (planned.arm, planned.other) and run.pair in look.seeds and not run.whole:
            wrong.append(f"{run.spec.arm} seed {run.spec.seed} {run.status}")
    more = f" and {len(wrong) - 2} more" if len(wrong) > 2 else ""
    return ", ".join(wrong[:2]) + more


def _diagnosis(planned: Planned, data: _Computed, value: Contrast) -> str:
    """What the base against itself says of the study; nothing of a control."""
    role = next(run.spec.facts.get("role") for run in data.runs if run.spec.arm == planned.arm)
    if role != Role.AGAIN:
        return ""
    if math.isnan(value.p):
        return "nothing varies: seeds do not reach the training, or there is one seed"
    if value.p < BROKEN:
        return f"broken (p {p_value(value.p)}): equal models differ by more than chance; trust nothing here"
    if value.p < SUSPICIOUS:
        return f"p {p_value(value.p)}, as in one healthy study in twenty"
    return "as it should be"


def _on_dataset(design: Design, data: _Computed, differences: Sequence[Difference], look: Look) -> OnDataset:
    facts = data.runs[0].spec.facts
    runs = tuple(Scored(run, _value(data, run)) for run in data.runs)
    whole = OnDataset(
        name=data.name,
        digest=str(facts.get("dataset_digest", "")),
        split=data.runs[0].spec.split,
        images=facts.get("images", {}),
        units=data.weights.units if data.weights else 0,
        runs=runs,
        differences=tuple(differences),
        curves=tuple(parts.curves(design, data.runs)),
        remarks=tuple(remarks.of_dataset(design, runs)),
    )
    helped = [one.planned for one in differences if one.planned.family == HELPS and one.contrast is not None]
    if data.weights is None or not helped:
        return whole
    compared = {one.arm: _pairs(data, one, look.seeds) or [] for one in helped}
    by_arm = parts.Compared(
        compared, data.statistics, data.weights, tuple(map(design.plan.group_of, data.statistics.images))
    )
    return replace(
        whole,
        classes=tuple(parts.of_classes(by_arm)),
        sizes=tuple(parts.of_sizes(by_arm, data.bins)),
        bins=parts.said_of(data.bins),
        largest=tuple(parts.largest(by_arm, design, data.runs, look, data.ramp)),
        few=parts.few(data.statistics),
    )


def _value(data: _Computed, run: Run) -> float:
    found = data.measured.get(run.spec.key)
    return math.nan if found is None else float(found.metric[0])


def _summaries(design: Design, datasets: Sequence[OnDataset], look: Look) -> list[Summary]:
    found = []
    for planned in design.contrasts():
        each = [one.contrast for data in datasets for one in data.differences if one.planned == planned]
        whole = [one for one in each if one is not None and one.seeds > 1]
        if len(whole) < len(datasets):
            found.append(Summary(planned, None, f"no summary: {len(whole)} of {len(datasets)} datasets are whole"))
            continue
        mean = combined(whole, look.level)
        ends = interval(mean.difference - mean.half_width, mean.difference + mean.half_width)
        text = f"{number(mean.difference, mean.half_width, sign=True)} {ends} over {mean.datasets} datasets"
        if not mean.in_general:
            text += "; from fewer than five nothing is said of others"
        found.append(Summary(planned, mean, text))
    return found
