"""What a study says in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from yolomix.studying.reporting import tables, words
from yolomix.studying.reporting.result import Analysis
from yolomix.studying.reporting.values import OnDataset
from yolomix.surgery.table import table

LISTED = 10  # arms with runs that are not whole


def shown(analysis: Analysis, width: int | None = None) -> str:
    """Tables and remarks.

    Args:
        analysis: what to say.
        width: characters of a line; None for as many as it takes.
    """
    parts = []
    for data in analysis.datasets:
        parts.append("\n".join(_dataset(analysis, data, width)))
    if analysis.summaries:
        rows = [("over all datasets", "mean difference")]
        rows += [(f"{one.planned.arm} - {one.planned.other}", one.text) for one in analysis.summaries]
        parts.append(table(rows, width))
    parts.append("\n".join(_remarks(analysis, width)))
    return "\n\n".join(part for part in parts if part)


def facts(analysis: Analysis, data: OnDataset) -> list[str]:
    """The study in a line: name, base, seeds, images, version, metric."""
    plan, look = analysis.design.plan, analysis.look
    record = next(run.record for run in analysis.design.runs if run.record)
    version = record.conditions.get("versions", {}).get("ultralytics", "unknown")
    counted = f"{data.units} {analysis.design.unit}" if data.units else "no run evaluated"
    found = [f"study {plan.name}", f"base {plan.base}", f"{len(look.seeds)} seeds", f"{data.split} {counted}"]
    if len(analysis.datasets) > 1:
        found.insert(1, data.name)
    return [*found, f"ultralytics {version}", f"{analysis.design.metric}, {plan.weights}.pt"]


def _dataset(analysis: Analysis, data: OnDataset, width: int | None) -> Iterator[str]:
    yield "   ".join(facts(analysis, data))
    yield table(tables.arms(analysis, data), width)
    mixers = tables.mixers(analysis, data)
    if len(mixers) > 1:
        yield ""
        yield table(mixers, width)


def _remarks(analysis: Analysis, width: int | None) -> Iterator[str]:
    notes = words.notes(analysis)
    runs = words.listed(analysis.not_whole)
    if runs:
        more = f"; and {len(runs) - LISTED} arms more" if len(runs) > LISTED else ""
        notes.append(f"{words.wrong(analysis)}: {'; '.join(runs[:LISTED])}{more}")
    for note in notes:
        yield textwrap.fill(f"- {note}", width or 10_000, subsequent_indent="  ", break_long_words=False)
