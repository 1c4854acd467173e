"""Tables for people."""

from __future__ import annotations

from yolomix.surgery.table import table


def test_figures_to_the_right_and_words_to_the_left() -> None:
    lines = table([("layer", "", "gain"), ("Conv", "new", "+1,234"), ("C3k2", "", "-5"), ("x", "", "")]).splitlines()
    assert lines == [
        "layer         gain",
        "Conv   new  +1,234",
        "C3k2            -5",
        "x",
    ]


def test_no_line_ends_in_blanks() -> None:
    assert all(line == line.rstrip() for line in table([("a", "long head"), ("b", "x")]).splitlines())
