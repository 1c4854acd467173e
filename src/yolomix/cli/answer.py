"""What a verb answers, and the one place that writes it: JSON for programs, text and tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

PIPED_WIDTH = 160  # columns of a table that no terminal shows


class Table(NamedTuple):
    """A table for people.

    Attributes:
        heads: a title for each column.
        rows: the cells.
        title: of the whole.
        numbers: whether cells are numbers, which stand to the right.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str | None = None
    numbers: bool = False


@dataclass(frozen=True)
class Answer:
    """What a verb found out or did.

    >>> write(Answer({"yolomix": "0.1.0"}, ["0.1.0"]), as_json=True)
    {"yolomix": "0.1.0"}
    >>> write(Answer({"yolomix": "0.1.0"}, ["0.1.0"]), as_json=False)
    0.1.0

    Attributes:
        data: plain values for programs.
        shown: texts and tables for people, from top to bottom.
        fault: why the command failed although it has an answer; empty where it did not.
    """

    data: dict[str, Any] | list[dict[str, Any]]
    shown: Sequence[str | Table]
    fault: str = ""


def write(answer: Answer, as_json: bool) -> None:
    """Write an answer to stdout, to which nothing else writes."""
    if as_json:
        sys.stdout.write(json.dumps(answer.data) + "\n")
    else:
        for part in answer.shown:
            if isinstance(part, Table):
                _draw(part)
            else:
                sys.stdout.write(f"{part}\n")
    sys.stdout.flush()


def _draw(table: Table) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    drawn = RichTable(title=table.title)
    for head in table.heads:
        drawn.add_column(head, justify="right" if table.numbers else "left")
    for row in table.rows:
        drawn.add_row(*map(escape, row))
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(drawn)
