"""Tables for people."""

from __future__ import annotations

import pytest

from yolomix.surgery.table import NARROW, table


def test_figures_to_the_right_and_words_to_the_left() -> None:
    lines = table([("layer", "", "gain"), ("Conv", "new", "+1,234"), ("C3k2", "", "-5"), ("x", "", "")]).splitlines()
    assert lines == [
        "layer         gain",
        "Conv   new  +1,234",
        "C3k2            -5",
        "x",
    ]


def test_what_begins_with_a_figure_and_goes_on_in_words_is_no_figure() -> None:
    assert table([("a", "version"), ("b", "2.15.0+cpu"), ("c", "8")]).splitlines()[2] == "c  8"


def test_no_line_ends_in_blanks() -> None:
    assert all(line == line.rstrip() for line in table([("a", "long head"), ("b", "x")]).splitlines())


ROWS = [("op", "here"), ("ss2d", "no CUDA device here; the kernels need 8.0 or newer"), ("scan", "runs")]


def test_the_last_column_is_wrapped_under_itself() -> None:
    assert table(ROWS, 30).splitlines() == [
        "op    here",
        "ss2d  no CUDA device here; the",
        "      kernels need 8.0 or",
        "      newer",
        "scan  runs",
    ]


def test_a_last_column_without_room_stands_below_its_row() -> None:
    assert table(ROWS, 6 + NARROW - 1).splitlines() == [
        "op    here",
        "ss2d",
        "    no CUDA device here;",
        "    the kernels need 8.0",
        "    or newer",
        "scan  runs",
    ]


@pytest.mark.parametrize("width", [1, 5, 17, 40, 80, 200])
def test_nothing_is_lost_at_any_width(width: int) -> None:
    rows = [
        ("name", "file"),
        ("a", "/a/path/that/is/longer/than/many/lines/are/wide-enough-for.yaml and a word"),
        ("b", ""),
    ]
    drawn = table(rows, width)
    assert drawn.split() == [word for row in rows for cell in row for word in cell.split()]
    for line in drawn.splitlines():
        assert len(line) <= width or len(line.split()) <= 2, line
