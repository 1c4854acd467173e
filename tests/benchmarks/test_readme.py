"""The README's speed table is what the measured rows say."""

from __future__ import annotations

from benchmarks import readme


def test_the_table_is_the_measured_one() -> None:
    text = readme.README.read_text(encoding="utf-8")
    assert readme.BEGIN in text
    assert readme.written(text) == text, "run python -m benchmarks.readme"


def test_a_changed_number_is_written_over() -> None:
    text = readme.README.read_text(encoding="utf-8")
    number = readme._ms(readme.table.read(readme.file("ops"))["scan", "S1", "float32", "1", "forward", "numba"])
    spoilt = text.replace(f"| {number} |", "| 1.0 |", 1)
    assert spoilt != text
    assert readme.written(spoilt) == text
