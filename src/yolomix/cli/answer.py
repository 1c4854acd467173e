"""What a verb answers, and the one place that writes it: JSON for programs, text and tables for people."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from yolomix.surgery.table import table


class Table(NamedTuple):
    """A table for people, as wide as their terminal at most.

    Attributes:
        heads: a title for each column; empty for none.
        rows: the cells.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


class Listing(NamedTuple):
    """A line for everything that there is.

    Attributes:
        table: what a terminal shows.
        hint: the line below it there: what to type next.
        records: what anybody else reads, ``cut`` and ``awk`` for example: a line each, with tabs and without a head.
    """

    table: Table
    hint: str
    records: Sequence[Sequence[str]]


def paragraph(text: str) -> Table:
    """A text of one line, to be wrapped to the width of the terminal."""
    return Table((), [(text,)])


@dataclass(frozen=True)
class Answer:
    """What a verb found out or did.

    >>> write(Answer({"yolomix": "0.1.0"}, ["0.1.0"]), as_json=True)
    {"yolomix": "0.1.0"}
    >>> write(Answer({"yolomix": "0.1.0"}, ["0.1.0"]), as_json=False)
    0.1.0

    Attributes:
        data: plain values for programs.
        shown: texts, tables and listings for people, from top to bottom.
        fault: why the command failed although it has an answer; empty where it did not.
    """

    data: dict[str, Any] | list[dict[str, Any]]
    shown: Sequence[str | Table | Listing]
    fault: str = ""


def write(answer: Answer, as_json: bool) -> None:
    """Write an answer to stdout, to which nothing else writes."""
    if as_json:
        text = json.dumps(answer.data)
    else:
        text = "\n".join(map(_drawn, answer.shown))
    # What the terminal's encoding lacks is written as an escape: an answer is no place to fail.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def _drawn(part: str | Table | Listing) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Table):
        rows = [part.heads, *part.rows] if part.heads else part.rows
        return table(rows, shutil.get_terminal_size().columns)
    if sys.stdout.isatty():
        return f"{_drawn(part.table)}\n\n{_drawn(paragraph(part.hint))}"
    return "\n".join("\t".join(record) for record in part.records)
