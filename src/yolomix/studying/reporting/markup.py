"""HTML and SVG as text: what comes from outside is escaped here and nowhere else."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

EMPTY = ("circle", "line", "meta", "polygon", "polyline", "rect")  # elements without an end tag or content


def text(value: object) -> str:
    """A text from outside, as content.

    >>> text("<b> & c")
    '&lt;b&gt; &amp; c'
    """
    return html.escape(str(value))


def element(name: str, *children: str, **attributes: object) -> str:
    """An element around markup; an attribute's underscores are dashes, and one behind its name is dropped.

    >>> element("p", text("1 < 2"), class_="note")
    '<p class="note">1 &lt; 2</p>'
    >>> element("line", x1="5%", stroke_width=2)
    '<line x1="5%" stroke-width="2"/>'
    """
    words = [name]
    for key, value in attributes.items():
        words.append(f'{key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"')
    start = " ".join(words)
    if name in EMPTY:
        return f"<{start}/>"
    return f"<{start}>{''.join(children)}</{name}>"


def table(rows: Sequence[Sequence[str]], figures: Iterable[int] = ()) -> str:
    """Cells from outside in a table that scrolls sideways where it is too wide.

    Args:
        rows: of the head first.
        figures: columns of numbers, which stand to the right.
    """
    right = set(figures)
    lines = []
    for i, row in enumerate(rows):
        cells = []
        for j, cell in enumerate(row):
            kind = "th" if i == 0 else "td"
            attributes = {"class_": "figure"} if j in right else {}
            cells.append(element(kind, text(cell), **attributes))
        lines.append(element("tr", *cells))
    body = element("table", element("thead", lines[0]), element("tbody", *lines[1:]))
    return element("div", body, class_="scroll", tabindex=0)


def paragraph(value: object, class_: str = "") -> str:
    """A text from outside as a paragraph."""
    return element("p", text(value), **({"class_": class_} if class_ else {}))


def section(name: str, title: str, *children: str) -> str:
    """A part of the page with a heading."""
    return element("section", element("h2", text(title)), *children, id=name)


def details(summary: str, *children: str) -> str:
    """What is there for those who open it."""
    return element("details", element("summary", text(summary)), *children)
