"""The tables of README and docs/models.md are what the measured rows say."""

from __future__ import annotations

import pytest

from benchmarks import readme, zoo


@pytest.mark.parametrize("part", readme.PARTS)
def test_the_table_is_the_measured_one(part: str) -> None:
    text = readme.PARTS[part][0].read_text(encoding="utf-8")
    assert readme.written(text, part) == text, "run python -m benchmarks.readme"


def test_a_changed_number_is_written_over() -> None:
    text = readme.README.read_text(encoding="utf-8")
    number = readme._ms(readme.table.read(readme.file("ops"))["scan", "S1", "float32", "1", "forward", "numba"])
    spoilt = text.replace(f"| {number} |", "| 1.0 |", 1)
    assert spoilt != text
    assert readme.written(spoilt, "speed") == text


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no <!-- models: python -m benchmarks\.readme -->"):
        readme.written("# Nothing", "models")


def test_every_model_is_measured_at_its_smallest_scale_and_counted_at_all() -> None:
    rows = zoo.read(readme.ZOO)
    for model in zoo.zoo().values():
        for scale, parameters in model.parameters.items():
            row = rows[model.typed(scale)]
            assert int(row["parameters"]) == parameters
            assert int(row["flops"]) >= int(row["scan_flops"])
        assert rows[model.typed(next(iter(model.parameters)))]["ratio"]
