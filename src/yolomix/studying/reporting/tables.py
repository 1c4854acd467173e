"""The tables of a report: one set of rows for the terminal, the page, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from yolomix.profiling.units import giga
from yolomix.studying.arms import Role
from yolomix.studying.reporting.design import APART, HELPS, MIXER, ArmDesign
from yolomix.studying.reporting.numbers import NONE, interval, number, p_value
from yolomix.studying.reporting.result import Analysis, mean_sd
from yolomix.studying.reporting.values import Difference, OnDataset

Rows = list[tuple[str, ...]]

MARKS = {Role.BASE: " (base)", Role.AGAIN: " (A/A)", Role.CONTROL: " (control)"}
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"$<$", ">": r"$>$", "|": r"$|$",
}  # fmt: skip


def arms(analysis: Analysis, data: OnDataset) -> Rows:
    """A row for every arm, with its difference to the base."""
    rows: Rows = [
        (*("arm", "params", "GFLOPs", "ms", "MB", "mean±sd"), *_heads(analysis)),
    ]
    for arm in analysis.design.arms:
        found = data.of(arm.name, HELPS) or data.of(arm.name, APART)
        rows.append((*_costs(analysis, arm), mean(data.scores(arm.name)), *compared(found)))
    return _without_empty(rows)


def mixers(analysis: Analysis, data: OnDataset) -> Rows:
    """A row for every arm that has a control, with its difference to it; the head alone if none has."""
    rows: Rows = [("arm - its control", *_heads(analysis))]
    for found in data.differences:
        if found.planned.family == MIXER:
            rows.append((f"{found.planned.arm} - {found.planned.other}", *compared(found)))
    return rows


def _heads(analysis: Analysis) -> tuple[str, str, str, str]:
    return f"difference [{confidence(analysis)}]", "P(better)", "Holm p", "verdict"


def confidence(analysis: Analysis) -> str:
    """Of the intervals: 95 %, or what the look leaves."""
    return f"{100 * (1 - analysis.look.level):g} %"


def title(arm: ArmDesign) -> str:
    """The name of an arm, with what it is there for.

    >>> title(ArmDesign("yolo11n", "base", "yolo11n.yaml", "", None))
    'yolo11n (base)'
    >>> title(ArmDesign("mlla control", "control", "yolo11n+GatedConv@p5.yaml", "", None))
    'mlla control'
    """
    mark = MARKS.get(Role(arm.role), "")
    return arm.name if mark in ("", f" ({arm.name.rpartition(' ')[2]})") else arm.name + mark


def mean(values: Sequence[float]) -> str:
    """Mean and spread of runs, with the digits that the spread supports.

    >>> mean([0.481, 0.493, 0.502]), mean([0.5]), mean([])
    ('0.492±0.011', '0.500', '-')
    """
    average, sd = mean_sd(values)
    if math.isnan(sd):
        return number(average)
    return f"{number(average, sd)}±{number(sd, sd)}"


def compared(found: Difference | None) -> tuple[str, str, str, str]:
    """Difference with its interval, P(better), Holm's p and the verdict."""
    if found is None:
        return "", "", "", ""
    if found.contrast is None:
        return NONE, NONE, NONE, found.text
    value = number(found.contrast.difference, found.half_width, sign=True)
    if not found.contrast.varies:  # a half width of 0 would claim to know
        return value, NONE, NONE, found.text
    difference = f"{value} {interval(*found.interval)}".rstrip()
    p = NONE if found.verdict is None else p_value(found.verdict.p)
    return difference, _better(found), p, found.text


def _better(found: Difference) -> str:
    assert found.contrast is not None, "without a contrast nothing is compared"
    low, high = found.contrast.better_interval(found.level)
    return number(found.contrast.better, (high - low) / 2 if math.isfinite(high - low) else 0.1)


def _costs(analysis: Analysis, arm: ArmDesign) -> tuple[str, str, str, str, str]:
    cost: Mapping[str, Any] = analysis.costs.get(arm.name) or {}
    flops, time, memory = cost.get("flops"), cost.get("ms"), cost.get("memory_mb")
    half = 0.0
    if time:
        half = (time["p95"] - time["p20"]) / 2
    return (
        title(arm),
        NONE if arm.parameters is None else f"{arm.parameters / 1e6:.2f}M",
        NONE if flops is None else giga(flops),
        NONE if not time else _figure(time["median"], half),
        NONE if memory is None else f"{memory:.1f}",
    )


def _figure(value: float, half_width: float) -> str:
    """A time, to the first digit of its spread, and two decimals at most."""
    if not half_width > 0:
        return f"{value:.1f}"
    return f"{value:.{min(max(-math.floor(math.log10(half_width)), 0), 2)}f}"


def _without_empty(rows: Rows) -> Rows:
    """The same without columns in which nothing stands."""
    kept = [i for i in range(len(rows[0])) if i == 0 or any(row[i] not in (NONE, "") for row in rows[1:])]
    return [tuple(row[i] for i in kept) for row in rows]


def markdown(rows: Rows) -> str:
    r"""A table of Markdown.

    >>> print(markdown([("arm", "mean"), ("a|b", "0.5")]))
    | arm | mean |
    |---|---|
    | a\|b | 0.5 |
    """
    lines = ["| " + " | ".join(map(_for_markdown, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _for_markdown(text: str) -> str:
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", text) if text != NONE else text


def latex(rows: Rows) -> str:
    r"""A ``tabular`` with the rules of the booktabs package.

    >>> print(latex([("arm", "mean"), ("a_b", "0.5±0.1")]))
    \begin{tabular}{ll}
    \toprule
    arm & mean \\
    \midrule
    a\_b & 0.5$\pm$0.1 \\
    \bottomrule
    \end{tabular}
    """
    lines = [" & ".join(map(for_latex, row)) + r" \\" for row in rows]
    columns = "l" * len(rows[0])
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def for_latex(text: str) -> str:
    r"""A text as LaTeX prints it.

    >>> print(for_latex("50 % of a_b"))
    50 \% of a\_b
    """
    return "".join(LATEX.get(letter, letter) for letter in text)


def runs(analysis: Analysis) -> str:
    """``runs.csv``: a row for every run of the plan, with all metrics of Ultralytics."""
    rows = [_run(analysis, data, scored) for data in analysis.datasets for scored in data.runs]
    heads = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, heads, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _run(analysis: Analysis, data: OnDataset, scored: Any) -> dict[str, Any]:
    run, record = scored.run, scored.run.record
    arm = analysis.design.arm(run.spec.arm)
    row = {
        "study": analysis.design.plan.name,
        "dataset": data.name,
        "split": data.split,
        "arm": arm.name,
        "role": arm.role,
        "model": arm.model,
        "parameters": arm.parameters,
        "seed": run.spec.seed,
        "pair": run.pair,
        "status": run.status,
        "reason": run.reason,
        analysis.design.metric: "" if math.isnan(scored.value) else repr(scored.value),
    }
    if record is not None:
        row |= {
            "epochs": len(record.epochs),
            "seconds": f"{record.seconds:.0f}",
            "cpu_seconds": f"{record.cpu_seconds:.0f}",
        }
    row |= {"folder": run.spec.folder, "key": run.spec.key}
    if record is not None:
        row |= {name: repr(value) for name, value in record.metrics.items()}
        row |= dict(_flat(record.conditions))
    return row


def _flat(conditions: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from conditions.get("versions", {}).items()
    for name in ("device", "threads", "system", "date"):
        yield name, conditions.get(name, "")
    yield "processor", conditions.get("processor", {}).get("name", "")
