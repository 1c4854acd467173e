"""What a plan, a report or a result looks like in a prompt, one line, and in a notebook, a small table."""

from __future__ import annotations

import html
from collections.abc import Sequence

LENGTH = 100  # characters of a line at most


class Shown:
    """The base of such a value, a dataclass that leaves its ``repr`` to this class.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, repr=False)
    ... class Speed(Shown):
    ...     device: str
    ...     milliseconds: float
    ...     def in_short(self) -> str:
    ...         return f"{self.milliseconds} ms"
    >>> Speed("<cpu>", 12.5)
    <Speed 12.5 ms>
    >>> print(Speed("<cpu>", 12.5)._repr_html_())
    <table><caption>&lt;Speed 12.5 ms&gt;</caption>
    <tr><th>name</th><th>value</th></tr>
    <tr><td>device</td><td>&lt;cpu&gt;</td></tr>
    <tr><td>milliseconds</td><td>12.5</td></tr>
    </table>
    """

    def in_short(self) -> str:
        """What is in it, in a few words."""
        raise NotImplementedError(f"{type(self).__name__} does not say what is in it")

    def as_rows(self) -> Sequence[Sequence[str]]:
        """The same in full: the cells of a table, those of its head first; by default a row per attribute."""
        rows = [("name", "value")]
        for name, value in vars(self).items():
            rows.append((name, repr(value) if isinstance(value, Shown) else str(value)))
        return rows

    def __repr__(self) -> str:
        line = f"<{type(self).__name__} {' '.join(self.in_short().split())}>"
        return line if len(line) <= LENGTH else f"{line[: LENGTH - 4]}...>"

    def _repr_html_(self) -> str:
        """For notebooks, which ask for it by this name."""
        return markup(self.as_rows(), repr(self))


def markup(rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """The cells of a table in HTML, those of its head first.

    >>> print(markup([("name",), ("<b>",)]))
    <table>
    <tr><th>name</th></tr>
    <tr><td>&lt;b&gt;</td></tr>
    </table>
    """
    lines = [f"<table><caption>{html.escape(caption)}</caption>" if caption else "<table>"]
    tag = "th"
    for row in rows:
        cells = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
        tag = "td"
    return "\n".join([*lines, "</table>"])
