"""A report: values for programs, a table for people, and a line per layer about what did not arrive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yolomix.surgery.report import SHOWN, Fate, Outcome, Report

COPIED = Outcome("model.1.conv.weight", 1, "Conv", Fate.COPIED, 1728, source="model.0.conv.weight")
BIAS = Outcome("model.1.conv.bias", 1, "Conv", Fate.COPIED, 16, source="model.0.conv.bias")
GATE = Outcome("model.2.gate", 2, "ZeroGate", Fate.LEFT_AT_INIT, 16)
OTHER = Outcome("model.3.cv.weight", 3, "Detect", Fate.SHAPE_DIFFERS, 6400, "(80, 80) -> (3, 80)", "model.2.cv.weight")
LOST = Outcome("model.3.cv.bias", 3, "Detect", Fate.LEFT_AT_INIT, 3, "it fits and did not arrive", "model.2.cv.bias")
UNUSED = Outcome("model.1.m.weight", 1, "C2f", Fate.UNUSED, 64, source="model.1.m.weight")
REPORT = Report("a.pt", "b.yaml", (COPIED, BIAS, GATE, OTHER, LOST, UNUSED), source_tensors=5, moved=True)


def test_every_tensor_of_the_source_is_copied_or_missing() -> None:
    assert REPORT.copied == ["model.1.conv.weight", "model.1.conv.bias"]
    assert REPORT.missing == ["model.2.cv.weight", "model.2.cv.bias", "model.1.m.weight"]
    assert len(REPORT.copied) + len(REPORT.missing) == REPORT.source_tensors
    assert REPORT.left_at_init == ["model.2.gate"]
    assert REPORT.target_tensors == 5
    assert not REPORT.complete


def test_values_for_programs_are_json() -> None:
    found = REPORT.to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found == {
        "source": "a.pt",
        "target": "b.yaml",
        "source_tensors": 5,
        "target_tensors": 5,
        "moved": True,
        "copied": REPORT.copied,
        "missing": REPORT.missing,
        "left_at_init": REPORT.left_at_init,
        "reasons": {
            "model.2.cv.weight": "shape differs: (80, 80) -> (3, 80)",
            "model.2.cv.bias": "left at init: it fits and did not arrive",
            "model.1.m.weight": "unused",
        },
    }


def test_tensors_of_one_fate() -> None:
    assert REPORT.of(Fate.UNUSED) == REPORT.of("unused") == [UNUSED]
    assert REPORT.of("copied") == [COPIED, BIAS]


def test_the_table_has_a_row_per_layer_and_a_sum() -> None:
    lines = str(REPORT).splitlines()
    assert lines[0].split() == ["layer", "module", "copied", "shape", "differs", "left", "at", "init", "unused"]
    assert [line.split()[:2] for line in lines[1:4]] == [["1", "Conv"], ["2", "ZeroGate"], ["3", "Detect"]]
    assert lines[1].split() == ["1", "Conv", "2", "/", "1,744", "-", "-", "-"]
    assert lines[4].split() == ["source", "1", "C2f", "-", "-", "-", "1", "/", "64"]
    assert lines[5].split()[:4] == ["all", "2", "/", "1,744"]
    assert lines[6] == "tensors / elements each; 2 of 5 source tensors copied, into a model of 5 (b.yaml)"


def test_what_is_missing_is_explained_the_largest_first() -> None:
    assert REPORT.explain_missing().splitlines() == [
        "  3 Detect: 2 tensors shape differs: cv.weight (80, 80) -> (3, 80), cv.bias it fits and did not arrive",
        "  source 1 C2f: 1 tensors unused: m.weight",
    ]


def test_what_is_missing_is_not_too_long() -> None:
    three = [Outcome(f"model.0.{k}", 0, "Conv", Fate.UNUSED, k) for k in range(3)]
    layers = [Outcome(f"model.{k}.w", k, "Conv", Fate.UNUSED, 1) for k in range(1, 12)]
    lines = Report("a", "b", (*three, *layers), 14).explain_missing().splitlines()
    assert lines[0] == "  source 0 Conv: 3 tensors unused: 2, 1 and 1 more"
    assert len(lines) == SHOWN + 1
    assert lines[-1] == "  and 4 more layers"


def test_nothing_to_explain() -> None:
    report = Report("a", "b", (COPIED, GATE), 1)
    assert (report.complete, report.missing, report.explain_missing(), report.reasons) == (True, [], "", {})


def test_a_shortfall_is_counted_against_the_prediction() -> None:
    tensors = (
        Outcome("model.0.w", 0, "Conv", Fate.COPIED, 4),
        Outcome("model.1.w", 1, "Conv", Fate.LEFT_AT_INIT, 9, "it fits and did not arrive"),
    )
    report = Report("a", "b", tensors, 2)
    assert (len(report.copied), report.complete) == (1, False)
    assert "1 Conv: 1 tensors left at init: w it fits and did not arrive" in report.explain_missing()


def test_the_saved_text_names_what_was_not_copied(tmp_path: Path) -> None:
    lines = REPORT.save(tmp_path / "a-transfer.txt").read_text("utf-8").splitlines()
    assert lines[1] == "a.pt -> b.yaml"
    assert lines[-4:] == [
        "shape differs: model.3.cv.weight (80, 80) -> (3, 80)",
        "left at init: model.2.gate",
        "left at init: model.3.cv.bias it fits and did not arrive",
        "unused: model.1.m.weight",
    ]
    assert str(REPORT) in "\n".join(lines)


@pytest.mark.parametrize(("outcome", "missing"), [(COPIED, False), (GATE, False), (OTHER, True), (LOST, True)])
def test_a_new_tensor_is_not_missing(outcome: Outcome, missing: bool) -> None:
    assert outcome.is_missing is missing
