"""``report.html``: the whole answer in one file that asks the network for nothing."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from yolomix.studying import folder as folders
from yolomix.studying.arms import Role
from yolomix.studying.queue import duration
from yolomix.studying.reporting import drawn, tables, terminal, words
from yolomix.studying.reporting.markup import details, element, paragraph, section, table, text
from yolomix.studying.reporting.result import Analysis
from yolomix.studying.reporting.values import Difference, OnDataset

STYLE = Path(__file__).with_name("page.css")
HEAD = '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'


def html(analysis: Analysis) -> str:
    """The page."""
    parts = [_header(analysis), _warning(analysis), _summaries(analysis)]
    for data in analysis.datasets:
        parts += _of_dataset(analysis, data)
    parts += [_notes(analysis), _made(analysis), _reading()]
    head = [
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        element("title", text(f"{analysis.design.plan.name}: a study")),
        element("style", STYLE.read_text("utf-8")),
    ]
    body = element("body", element("main", "\n".join(part for part in parts if part)))
    return HEAD + "\n".join(head) + f"\n</head>\n{body}\n</html>\n"


def _header(analysis: Analysis) -> str:
    plan = analysis.design.plan
    arms = [arm.name for arm in analysis.design.arms if arm.role == Role.ARM]
    asked = f"What helps {plan.base}: {', '.join(arms)}?"
    if len(arms) < 2:
        asked = f"Does {arms[0]} help {plan.base}?" if arms else f"Is {plan.base} equal to itself?"
    lines = []
    for data in analysis.datasets:
        lines.append(
            element("p", *(element("span", text(fact)) for fact in terminal.facts(analysis, data)), class_="facts")
        )
    return element("header", element("h1", text(asked)), *lines)


def _warning(analysis: Analysis) -> str:
    if not analysis.not_whole:
        return ""
    rows = [("arm", "seed", "dataset", "status", "reason")]
    for run in analysis.not_whole:
        rows.append((run.spec.arm, str(run.spec.seed), run.dataset, run.status, run.reason))
    said = f"{words.wrong(analysis)}. Contrasts with these arms have no verdict."
    return element("div", element("p", element("strong", text(said))), table(rows, [1]), class_="warning")


def _of_dataset(analysis: Analysis, data: OnDataset) -> Iterator[str]:
    several = len(analysis.datasets) > 1
    where = f" on {data.name}" if several else ""
    anchor = f"-{analysis.datasets.index(data)}" if several else ""
    answers = [_answer(question, one, said) for question, one, said in words.questions(analysis, data)]
    yield section(f"verdicts{anchor}", f"Verdicts{where}", *answers, *_diagnoses(data))
    rows = _short(tables.arms(analysis, data))
    tabled = [table(rows, range(1, len(rows[0]) - 1))]
    mixers = _short(tables.mixers(analysis, data))
    if len(mixers) > 1:
        tabled.append(table(mixers, [1, 2, 3]))
    yield section(f"table{anchor}", f"All arms{where}", *tabled)
    yield section(f"runs{anchor}", f"Runs and differences{where}", *drawn.runs(analysis, data))
    yield drawn.where(analysis, data, f"where{anchor}", f"Where differences come from{where}")
    yield drawn.training(analysis, data, f"training{anchor}", f"Training{where}")
    yield _largest(data, f"images{anchor}", f"Images where arms differ most{where}")


def _short(rows: tables.Rows) -> tables.Rows:
    """The rows with the word of the verdict alone: the rest of it stands above."""
    return [(*row[:-1], row[-1].partition(": ")[0]) for row in rows]


def _answer(question: str, one: Difference, said: str) -> str:
    word = one.verdict.word if one.verdict else "no verdict"
    badge = element("span", text(word), class_=f"word {'none' if word == 'no verdict' else word}")
    return element(
        "div", badge, element("div", element("h3", text(question)), paragraph(_unbroken(said))), class_="answer"
    )


def _unbroken(said: str) -> str:
    """The same with intervals that stay in one line."""
    return re.sub(r"\[([^\[\], ]+), ", "[\\1,\N{NO-BREAK SPACE}", said)


def _diagnoses(data: OnDataset) -> Iterator[str]:
    """The base against itself."""
    for one in data.differences:
        again = any(
            run.spec.arm == one.planned.arm and run.spec.facts.get("role") == Role.AGAIN for run, _ in data.runs
        )
        if again:
            yield paragraph(
                f"The base against itself (A/A, {one.planned.arm} - {one.planned.other}): {one.text}.", "soft"
            )


def _largest(data: OnDataset, name: str, title: str) -> str:
    if not data.largest:
        return ""
    rows: tables.Rows = [
        ("arm", "image", "moves the difference by", "seeds agree", "labels", "found: base, arm", "false: base, arm")
    ]
    seeds = max((one.contrast.seeds for one in data.differences if one.contrast), default=0)
    for one in data.largest:
        counts = [f"{base:.1f}, {arm:.1f}" for base, arm in (one.found, one.false)]
        moved = f"{one.contribution:+.4f}"
        rows.append((one.arm, one.image, moved, f"{one.agree} of {seeds}", str(one.labels), *counts))
    said = (
        "How the difference changes when one image is left out. Found and false: detections at IoU 0.5 and confidence "
        "0.25, mean over seeds."
    )
    return section(name, title, paragraph(said, "soft"), table(rows, range(2, 7)))


def _summaries(analysis: Analysis) -> str:
    if not analysis.summaries:
        return ""
    rows = [("contrast", "mean of the differences")]
    rows += [(f"{one.planned.arm} - {one.planned.other}", one.text) for one in analysis.summaries]
    return section("datasets", "Over all datasets", table(rows))


def _notes(analysis: Analysis) -> str:
    found = words.notes(analysis)
    if not found:
        return ""
    return section("notes", "To be known", element("ul", *(element("li", text(note)) for note in found)))


def _made(analysis: Analysis) -> str:
    design, plan = analysis.design, analysis.design.plan
    record = next(run.record for run in design.runs if run.record)
    spent = sum(run.record.seconds for run in design.runs if run.record)
    facts = [("what", "value"), ("versions", words.versions(record.conditions))]
    for data in analysis.datasets:
        counted = ", ".join(f"{count} {split}" for split, count in data.images.items())
        facts.append((f"dataset {data.name}", f"{counted} images; content hash {data.digest}"))
    facts += [*_machine(record.conditions), ("time of all runs", duration(spent))]
    again = shlex.quote((folders.ROOT / plan.name).as_posix())
    commands = f"yolomix study {folders.PLAN}   # run, or go on\nyolomix study {again}   # report again"
    runs = [("arm", "dataset", "seed", "status", design.metric, "epochs", "time", "key")]
    for data in analysis.datasets:
        for run, value in data.runs:
            done = (str(len(run.record.epochs)), duration(run.record.seconds)) if run.record else ("", "")
            runs.append(
                (run.spec.arm, data.name, str(run.spec.seed), run.status, _plain(value), *done, run.spec.key[:12])
            )
    written = yaml.safe_dump(plan.to_dict(), sort_keys=False, allow_unicode=True, width=100)
    return section(
        "made", "How it was made",
        paragraph("For a paper:", "soft"), element("blockquote", paragraph(words.methods(analysis))),
        element("pre", text(commands)), table(facts),
        details("The plan", element("pre", text(written))), details("Every run", table(runs, [2, 4, 5, 6])),
    )  # fmt: skip


def _machine(conditions: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    processor = conditions.get("processor", {})
    for name, value in (
        ("device", conditions.get("device")),
        ("processor", processor.get("name")),
        ("threads", conditions.get("threads")),
        ("system", conditions.get("system")),
        ("date", conditions.get("date")),
    ):
        if value:
            yield name, str(value)


def _plain(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _reading() -> str:
    rows = []
    for term, meaning in words.HOW_TO_READ.items():
        rows += [element("dt", text(term)), element("dd", text(meaning))]
    return section("reading", "How to read this", element("dl", *rows))
