"""The verb ``study``: carries out a plan and reports, shows what it comes to, or reports again."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolomix.cli.answer import Answer, Table
from yolomix.cli.request import UsageError
from yolomix.host import offline

if TYPE_CHECKING:
    from yolomix.studying.study import Run, Study

SHOWN = 5  # runs that are not there, in a message


def study(*, what: str, plan: bool, retry: bool, engine: str, address: str | None) -> Answer:
    """Carry out a plan, or report on the folder of a study; the arguments are those that help explains.

    Raises:
        UsageError: the plan is wrong; nothing has run.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded, which is next
    offline.prepare()
    from yolomix.studying.plan import PlanError
    from yolomix.studying.study import Study

    try:
        found = Study(what)
        if plan:
            planned = found.plan()
            return Answer({"verb": "study", "folder": str(found.folder), **planned.to_dict()}, [str(planned)])
        runs = found.runs() if Path(what).is_dir() else found.run(retry, engine, address)
    except PlanError as error:
        raise UsageError(str(error)) from error
    return _answer(found, runs)


def _answer(found: Study, runs: list[Run]) -> Answer:
    counts = Counter(run.status for run in runs)
    told = ", ".join(f"{counts[status]} {status}" for status in ("finished", "failed", "diverged", "missing"))
    data: dict[str, Any] = {"verb": "study", "folder": str(found.folder), "runs": [run.to_dict() for run in runs]}
    shown: list[str | Table] = [f"{found.folder}: {len(runs)} runs, {told}"]
    lacking = [run for run in runs if run.status != "finished"]
    shown += [f"  {run.in_short()}" for run in lacking[:SHOWN]]
    if any(run.record for run in runs):
        report = found.report()
        shown += ["", report.shown(shutil.get_terminal_size().columns)]
        data["report"] = report.to_dict()
    return Answer(data, shown, _fault(lacking, len(runs)))


def _fault(lacking: list[Run], count: int) -> str:
    """Why the command failed although there is a report; empty where every run is there."""
    if not lacking:
        return ""
    ended = [run for run in lacking if run.status != "missing"]
    how = "retry=true repeats those that failed" if ended else "the same command goes on with them"
    return f"{len(lacking)} of {count} runs are not finished, the first {lacking[0].in_short()}; {how}"
