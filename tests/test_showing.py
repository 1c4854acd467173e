"""What plans, reports and results look like in a prompt and in a notebook: one line, and a table without markup."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import yolomix
from tests.cli.test_demo import OUTCOME
from tests.studying import synthetic
from tests.test_records import CONDITIONS
from tests.tiny import description
from yolomix import ops
from yolomix.figures.values import Figure
from yolomix.matrix.values import Cell, Key, Matrix
from yolomix.planning import EditedModel
from yolomix.profiling.latency import Latency
from yolomix.profiling.layer import Layer
from yolomix.profiling.operations import Operations
from yolomix.profiling.values import ModelProfile, Profile
from yolomix.showing import LENGTH, Shown
from yolomix.studying import plan as studies
from yolomix.studying.planning import StudyPlan
from yolomix.studying.record import ImageStatistics
from yolomix.studying.record import Record as RunRecord
from yolomix.studying.reporting.analysis import analyse
from yolomix.studying.reporting.result import Analysis
from yolomix.studying.reporting.writing import Report as StudyReport
from yolomix.studying.study import Run
from yolomix.surgery.report import Fate, Outcome, Report
from yolomix.verifying.values import Check, Verification

TENSOR = Outcome("model.1.cv2.weight", 1, "Detect", Fate.SHAPE_DIFFERS, 80, "(80, 1) -> (3, 1)")
REPORT = Report(
    "a.pt", "<b>.yaml", (Outcome("model.0.weight", 0, "Conv", Fate.COPIED, 432), TENSOR), 2, classes=(80, 3)
)
CHANGE = yolomix.edit(description()).insert("MLLABlock", "p3", [4])

LAYER = Layer("0", "Conv", "head", ((1, 8, 4, 4),), 464, Operations(7_000_000), None, 1.0, 0.5, {})
PROFILED = ModelProfile(
    "a.yaml", (64, 96), 1, Latency(2.0, 1.9, 2.1, 2.0), CONDITIONS, parameters=464, operations=Operations(7_000_000),
    fused_flops=7_000_000, layers=(LAYER,),
)  # fmt: skip

VERIFIED = Verification(
    Path("best.onnx"), "best.pt", CONDITIONS, checks=(Check("raw outputs", False, "scores 1.0e-03", "scores 1.0e-05"),)
)

KEYS = {"data": "sample", "arms": {"a": "yolo11n.yaml", "b": "yolo11n-mlla.yaml"}, "base": "a", "seeds": [0, 1, 2]}
RUN = synthetic.spec("yolo11n", 0)


@functools.cache
def analysis() -> Analysis:
    return analyse(*synthetic.study(arms=("yolo11n", "mlla"), seeds=2, images=5))


VALUES: dict[str, Callable[[], Shown]] = {
    "<ModelEdit model-mllablock: .plan() shows what changes, .apply() writes it>": lambda: CHANGE,
    "<Plan model: 1 of 9 layers change, +4,208 parameters>": lambda: CHANGE.plan(),
    "<Step - -> 5 new ZeroGate MLLABlock>": lambda: CHANGE.plan().steps[5],
    "<EditedModel a.pt: 1 of 2 source tensors copied, 1 new for 3 classes instead of 80>": lambda: EditedModel(
        Path("a.pt"), Path("a.yaml"), REPORT
    ),
    "<EditedModel a.yaml>": lambda: EditedModel(Path("a.yaml"), Path("a.yaml")),
    "<Report 1 of 2 source tensors copied, 1 new for 3 classes instead of 80, into a model of 2 (<b>....>": lambda: (
        REPORT
    ),
    "<Outcome model.1.cv2.weight shape differs: (80, 1) -> (3, 1)>": lambda: TENSOR,
    "<Status halo_attention eager on any: runs>": lambda: ops.backends()[0],
    "<Record metrics/mAP50(B) 0.6123, metrics/mAP50-95(B) 0.4>": lambda: OUTCOME.record,
    "<Conditions cpu, 1 thread, AMD EPYC (znver4, x86_64), 2026-11-20>": lambda: CONDITIONS,
    "<ModelProfile a.yaml, 64x96, 464, 0.01 GFLOPs, 2.0 ms>": lambda: PROFILED,
    "<Profile a.yaml, 64x96, 464, 0.01 GFLOPs, 2.0 ms>": lambda: Profile((PROFILED,)),
    "<Plan study: 2 arms x 3 seeds on sample>": lambda: studies.Plan.of(**KEYS),
    "<Study study: 2 arms x 3 seeds on sample>": lambda: yolomix.Study(**KEYS),
    "<StudyPlan s: 4 of 6 runs to do, 1.5 h>": lambda: StudyPlan(
        "s", (("arm", "runs"), ("a", "6")), 6, 2, 1.5, "", {}, "", None, ()
    ),
    "<Run yolo11n s0 on bccd: missing>": lambda: Run(RUN),
    "<Record yolo11n seed 0: failed (no memory), 0 epochs>": lambda: RunRecord(RUN, "failed", "no memory"),
    "<ImageStatistics 1 images, 1 classes, 0 detections, 0 labels>": lambda: ImageStatistics(("a.jpg",), ("cat",)),
    "<Analysis blood-cells: 2 arms, 4 runs, complete>": analysis,
    "<Report blood-cells: 2 arms, 4 runs, complete: report.html>": lambda: StudyReport(
        analysis(), (Path("report.html"),)
    ),
    "<Verification best.onnx: DIFFERS, raw outputs: scores 1.0e-03>": lambda: VERIFIED,
    "<Matrix 0 of 1 cells measured, 0 agree>": lambda: Matrix((Cell(Key("a.yaml", "", "onnx", "FP32", "64")),)),
    "<Figure erf of a.pt, <b>.yaml: .save() writes it>": lambda: Figure(
        "erf", {}, {"models": ["a.pt", "<b>.yaml"]}, [("model",), ("<b>.yaml",)], lambda: None
    ),
    "<Processor AMD EPYC (znver4, x86_64), AVX-512>": lambda: CONDITIONS.processor,
}


class Page(HTMLParser):
    """The text of every cell, a list per row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        assert tag in ("table", "caption", "tr", "th", "td")
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data


@pytest.mark.parametrize("line", VALUES)
def test_one_line_and_a_table_of_the_same(line: str) -> None:
    value = VALUES[line]()
    assert repr(value) == line
    assert len(line) <= LENGTH
    page = Page(value._repr_html_())
    assert page.open == []
    assert page.rows == [[*row] for row in value.as_rows()]


def kinds(cls: type) -> Iterator[type]:
    for found in cls.__subclasses__():
        if found.__module__.startswith("yolomix."):
            yield found
        yield from kinds(found)


def test_every_kind_is_tried() -> None:
    tried = {type(value()) for value in VALUES.values()} | {type(OUTCOME)}
    assert {cls for cls in kinds(Shown) if cls.__module__ != "yolomix.showing"} == tried


def test_the_demo_shows_its_metrics_and_its_folder() -> None:
    assert repr(OUTCOME) == f"<Outcome {Path('runs/demo')}: metrics/mAP50(B) 0.6123, metrics/mAP50-95(B) 0.4>"


def test_a_long_line_is_cut_and_a_name_of_several_lines_is_one() -> None:
    long = EditedModel(Path(f"a\nb{'c' * 200}.yaml"), Path("a.yaml"))
    assert repr(long).startswith("<EditedModel a bccc")
    assert len(repr(long)) == LENGTH


def test_a_kind_says_what_is_in_it() -> None:
    with pytest.raises(NotImplementedError, match="Shown does not say what is in it"):
        repr(Shown())
