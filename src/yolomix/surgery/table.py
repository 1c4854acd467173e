"""Cells in columns, for people."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

FIGURE = re.compile(r"[-+]?[\d.,/ ]*")
GAP = "  "  # between two columns
NARROW = 20  # characters; a last column with fewer of them stands below its row
INDENT = "    "  # of a last column that does


def table(rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Cells in columns below a head; columns of figures stand to the right. Nothing is cut off.

    >>> print(table([("layer", "copied"), ("Conv", "6"), ("C3k2", "12")]))
    layer  copied
    Conv        6
    C3k2       12
    >>> print(table([("verb", "does"), ("graft", "put a block anywhere into a model")], 27))
    verb   does
    graft  put a block anywhere
           into a model

    Args:
        rows: the cells, of the head first.
        width: characters of a line. The last column is wrapped between words, or moved below its row, to keep to it.
    """
    *columns, last = map(_aligned, zip(*rows, strict=True))
    lines = []
    for *cells, text in zip(*columns, last, strict=True):
        row = "".join(cell + GAP for cell in cells)
        lines += _wrapped(row, text.rstrip(), width)
    return "\n".join(line.rstrip() for line in lines)


def _aligned(column: Sequence[str]) -> list[str]:
    """The cells of a column, all as wide as the widest."""
    width = max(map(len, column))
    if all(FIGURE.fullmatch(cell) for cell in column[1:]):
        return [cell.rjust(width) for cell in column]
    return [cell.ljust(width) for cell in column]


def _wrapped(row: str, text: str, width: int | None) -> list[str]:
    """The lines of a row whose last cell is ``text``."""
    if width is None or len(row) + len(text) <= width:
        return [row + text]
    below = width - len(row) < NARROW
    indent = INDENT if below else " " * len(row)
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=indent if below else row,
        subsequent_indent=indent,
        break_long_words=False,  # a path or a command is there to be copied
        break_on_hyphens=False,
    )
    return [row, *lines] if below else lines
