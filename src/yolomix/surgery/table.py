"""Cells in columns, for people."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """Cells in columns below a head; columns of figures stand to the right.

    >>> print(table([("layer", "copied"), ("Conv", "6"), ("C3k2", "12")]))
    layer  copied
    Conv        6
    C3k2       12
    """
    columns = []
    for column in zip(*rows, strict=True):
        width = max(map(len, column))
        if all(cell[:1] in "0123456789+-" for cell in column[1:]):
            columns.append([cell.rjust(width) for cell in column])
        else:
            columns.append([cell.ljust(width) for cell in column])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))
