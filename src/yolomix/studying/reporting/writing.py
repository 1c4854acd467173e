"""A report as files in the study's folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from yolomix import files
from yolomix.showing import Shown
from yolomix.studying import folder as folders
from yolomix.studying.record import RunSpec
from yolomix.studying.reporting import costs, page, tables, terminal, words
from yolomix.studying.reporting.analysis import analyse
from yolomix.studying.reporting.result import Analysis


class Studied(Protocol):
    """What a report needs of a :class:`yolomix.Study`."""

    folder: Path

    def runs(self) -> Sequence[Any]:
        """All runs, each with ``spec`` and ``reason``."""


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """What a study says, and where it is written. ``print`` it for the tables.

    Attributes:
        analysis: the answer.
        files: that were written, the page first.
    """

    analysis: Analysis
    files: tuple[Path, ...]

    def in_short(self) -> str:
        """Size of the study, and where the page is."""
        return f"{self.analysis.in_short()}: {self.files[0]}"

    def to_dict(self) -> dict[str, Any]:
        """The content of ``study.json``."""
        return self.analysis.to_dict()

    def shown(self, width: int | None = None) -> str:
        """The tables, with lines of so many characters."""
        return f"{terminal.shown(self.analysis, width)}\n\n{self.files[0]}"

    def __str__(self) -> str:
        return self.shown()


def report(study: Studied | str | Path, measure: bool = True) -> Report:
    """Analyse the records in a study's folder and write its report there.

    Files: ``report.html``, ``study.json``, ``runs.csv``, ``table.md``, ``table.tex``, ``methods.md``; and
    ``costs.json`` where it was missing and models can be built.

    Args:
        study: a :class:`yolomix.Study`, or its folder.
        measure: whether to measure what arms cost, if that was not done before.

    Raises:
        PlanError: it is no folder of a study.
        ValueError: no record, one that is not whole, or records that do not belong together.
        OSError: a file cannot be written.
    """
    folder = Path(study) if isinstance(study, str | Path) else study.folder
    plan, resolved, specs = folders.opened(folder)
    records = folders.records(folder, specs)
    known, said = _costs(folder, specs, measure and bool(records))
    reasons = _reasons(study, folder, specs)
    analysis = analyse(plan, specs, records, reasons, known, [*resolved.get("remarks", ()), *said])
    return Report(analysis, tuple(write(analysis, folder)))


def _reasons(study: Studied | str | Path, folder: Path, specs: Sequence[RunSpec]) -> dict[str, str]:
    """Why runs have no record: what the study knows of this moment, or what their folders say."""
    if isinstance(study, str | Path):
        return {spec.key: folders.stopped(folder, spec) for spec in specs}
    return {run.spec.key: run.reason for run in study.runs()}


def _costs(folder: Path, specs: Sequence[RunSpec], measure: bool) -> tuple[dict[str, Any], list[str]]:
    """Costs of arms by name, and what has to be said of them."""
    if not measure and not (folder / costs.FILE).is_file():
        return {}, []
    found = costs.of_study(folder, specs)
    return found["arms"], [*costs.remarks(found)]


def write(analysis: Analysis, folder: Path) -> list[Path]:
    """Write every file of a report; returns them, the page first.

    Raises:
        OSError: one cannot be written.
    """
    texts = {
        "report.html": page.html(analysis),
        "study.json": json.dumps(analysis.to_dict(), indent=1, allow_nan=False) + "\n",
        "runs.csv": tables.runs(analysis),
        "table.md": _joined(analysis, tables.markdown, "**{}**\n\n"),
        "table.tex": f"% needs \\usepackage{{booktabs}}\n{_joined(analysis, tables.latex, '% {}' + chr(10))}",
        "methods.md": words.methods(analysis) + "\n",
    }
    return [files.write_text(folder / name, text) for name, text in texts.items()]


def _joined(analysis: Analysis, drawn: Any, head: str) -> str:
    """The tables of all datasets."""
    parts = []
    for data in analysis.datasets:
        line = f"{analysis.design.plan.name}, {data.name}, {data.split}, {analysis.design.metric}"
        parts.append(head.format(line) + drawn(tables.arms(analysis, data)))
        mixers = tables.mixers(analysis, data)
        if len(mixers) > 1:
            parts.append(drawn(mixers))
    return "\n\n".join(parts) + "\n"
