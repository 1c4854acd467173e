"""Every file of a report: what stands in it, and what is escaped."""

from __future__ import annotations

import csv
import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.studying import synthetic
from yolomix.studying.plan import PlanError
from yolomix.studying.record import RECORD
from yolomix.studying.reporting import Report, analyse, analysis, costs, report, tables, words
from yolomix.studying.reporting.writing import write

NAMES = ["report.html", "study.json", "runs.csv", "table.md", "table.tex", "methods.md"]
THREE = ("yolo11n", "mlla", "halo", "mlla control", "halo control", "yolo11n again")
COST = {"flops": 6_440_000_000, "ms": {"median": 41.26, "p20": 40.1, "p95": 44.0}, "memory_mb": 31.25, "remarks": []}


@pytest.fixture(autouse=True)
def _few_weightings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the weightings, for speed."""
    monkeypatch.setattr(analysis, "WEIGHTINGS", 200)


made = functools.partial(synthetic.study, images=30, arms=THREE, seeds=3)
cached = functools.cache(made)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with costs."""
    folder = synthetic.written(tmp_path_factory.mktemp("studies") / "blood-cells", *cached())
    (folder / costs.FILE).write_text(json.dumps({"arms": dict.fromkeys(THREE, COST)}))
    return folder


@pytest.fixture
def reported(folder: Path) -> Report:
    return report(folder)


def test_a_report_is_six_files_and_a_table(reported: Report, folder: Path) -> None:
    assert [file.name for file in reported.files] == NAMES
    assert all(file.parent == folder and file.stat().st_size for file in reported.files)
    assert repr(reported).startswith("<Report blood-cells: 6 arms, 18 runs, complete: ")
    assert json.loads((folder / "study.json").read_text("utf-8")) == reported.to_dict()


def test_the_terminal_has_the_table_of_the_design(reported: Report, folder: Path) -> None:
    lines = str(reported).splitlines()
    assert lines[0] == (
        "study blood-cells   base yolo11n   3 seeds   test 30 images   ultralytics 8.4.190   mAP50-95, last.pt"
    )
    assert lines[1].split() == [
        *(
            "arm",
            "params",
            "GFLOPs",
            "ms",
            "MB",
            "mean±sd",
            "difference",
            "[95",
            "%]",
            "P(better)",
            "Holm",
            "p",
            "verdict",
        )
    ]
    assert lines[2].startswith("yolo11n (base)       2.59M     6.44  41  31.2  0.")
    assert [line.split("  ")[0] for line in lines[2:8]] == [
        *("yolo11n (base)", "mlla", "halo", "mlla control", "halo control", "yolo11n again (A/A)")
    ]
    assert lines[7].endswith("-  as it should be")
    assert lines[9].startswith("arm - its control")
    assert lines[-1] == str(folder / "report.html")
    assert max(map(len, reported.shown(80).splitlines())) <= 110, "the last column is wrapped or moved below"


def test_study_json_says_what_is_needed(reported: Report) -> None:
    plain = reported.to_dict()
    assert [*plain] == [
        *("format", "name", "plan", "metric", "task", "weights", "margin", "complete", "look", "weightings", "arms"),
        *("datasets", "summaries", "remarks", "conditions"),
    ]
    assert (plain["format"], plain["complete"], plain["margin"]) == (1, True, 0.005)
    assert plain["arms"][1] == {
        "name": "mlla",
        "role": "arm",
        "model": "yolo11n+MLLABlock@p4,p5.yaml",
        "control": "mlla control",
        "parameters": 2_770_000,
        "cost": COST,
    }


def test_runs_csv_has_a_row_for_every_run(folder: Path, reported: Report) -> None:
    with (folder / "runs.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    _, specs, records = cached()
    assert [(row["arm"], int(row["seed"])) for row in rows] == [(spec.arm, spec.seed) for spec in specs]
    for row, spec in zip(rows, specs, strict=True):
        metrics = records[spec.key].metrics
        assert float(row["mAP50-95"]) == pytest.approx(metrics["metrics/mAP50-95(B)"], abs=1e-12)
        assert float(row["metrics/mAP50(B)"]) == metrics["metrics/mAP50(B)"]
        assert (row["status"], row["epochs"], row["ultralytics"], row["key"]) == ("finished", "60", "8.4.190", spec.key)


def test_tables_for_papers(folder: Path, reported: Report) -> None:
    found = reported.analysis.datasets[0].of("mlla", "base")
    assert found is not None
    difference = tables.compared(found)[0]
    markdown, latex = ((folder / name).read_text("utf-8") for name in ("table.md", "table.tex"))
    lines = markdown.splitlines()
    assert lines[0] == "**blood-cells, bccd, test, mAP50-95**"
    assert {line.count("|") for line in lines[2:10]} == {11}
    assert difference.replace("[", r"\[").replace("]", r"\]") in markdown
    assert r"\usepackage{booktabs}" in latex.splitlines()[0]
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    assert f"& {difference} &" in latex
    assert r"$\pm$" in latex
    assert "±" not in latex


def test_what_latex_and_markdown_read_as_commands_is_escaped() -> None:
    assert tables.for_latex("100%_{a}&$x^2$~#\\") == (
        r"100\%\_\{a\}\&\$x\textasciicircum{}2\$\textasciitilde{}\#\textbackslash{}"
    )
    assert tables.markdown([("a",), ("<b>|*c*_[d]`",)]).splitlines()[-1] == r"| \<b\>\|\*c\*\_\[d\]\` |"


def test_the_methods_paragraph_is_true(reported: Report) -> None:
    text = words.methods(reported.analysis)
    for part in (
        "We compared mlla (yolo11n+MLLABlock@p4,p5.yaml), halo (yolo11n+HaloAttention(2,1)@p5.yaml)",
        "with the base yolo11n (yolo11n.yaml).",
        "mlla control (yolo11n+GatedConv(64)@p4,p5.yaml)",
        "(images: 205 train, 87 val, 72 test; content hash bccd0a1b2c3d)",
        "epochs=60, batch=16, imgsz=160, optimizer=AdamW, lr0=0.001",
        "3 seeds (0, 1, 2), paired across models by seed",
        "ultralytics 8.4.190",
        "the weights of the last epoch on the test split by mAP50-95",
        "95 % intervals are for new seeds and new images alike",
        "200 exponential weightings",
        "two families (2 of arms with the base; 2 of arms with their controls)",
        "within ±0.005",
        "No run was excluded.",
    ):
        assert part in text, part
    for other in ("looks", "datasets", "best.pt", "earlier", "No parameter-matched"):
        assert other not in text


def test_the_methods_paragraph_follows_the_plan() -> None:
    plan, specs, records = made(
        arms=("yolo11n", "mlla"),
        datasets=("a", "b"),
        seeds=4,
        weights="best",
        looks=(3, 4),
        groups=r"_000(\d)",
        controls=[],
    )
    broken = {**records, specs[2].key: replace(records[specs[2].key], status="failed", statistics=None, metrics={})}
    text = words.methods(analyse(plan, specs, broken))
    for part in (
        "No parameter-matched control was trained for mlla.",
        "the weights that the val split chose (best.pt) on the test split",
        r"new groups of images (file names, _000(\d)) alike",
        "96 % intervals",
        "Two looks were planned, at 3 and 4 seeds, at levels 0.01 and 0.04; this is the last.",
        "Over 2 datasets we report the mean of the differences, with equal weights.",
        "form one family (2 of arms with the base)",
        "1 of 16 runs is not whole (yolo11n seed 1 on a: failed); contrasts with these arms have no verdict.",
    ):
        assert part in text, part
    assert "A/A" not in text


def test_a_record_cut_in_half_is_named(tmp_path: Path, folder: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    file = next(copied.glob(f"runs/*/{RECORD}"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match="has to be the record of a run") as raised:
        report(copied)
    assert str(file) in str(raised.value)


def test_a_folder_without_records_is_an_error_and_gets_no_report(tmp_path: Path) -> None:
    plan, specs, _ = cached()
    folder = synthetic.written(tmp_path / "empty", plan, specs, {})
    with pytest.raises(ValueError, match="at least one finished run, and blood-cells has none of 18"):
        report(folder)
    assert not (folder / "report.html").exists()


def test_a_folder_that_is_no_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="needs to be a plan"):
        report(tmp_path)


def test_missing_runs_are_listed_with_their_reasons(tmp_path: Path) -> None:
    plan, specs, records = cached()
    some = {key: record for key, record in records.items() if key != specs[1].key}
    folder = synthetic.written(tmp_path / "some", plan, specs, some)
    (folder / specs[1].folder).mkdir(exist_ok=True)
    (folder / specs[1].folder / "stopped.txt").write_text("killed by signal 9\n")
    found = report(folder, measure=False)
    assert "1 of 18 runs is not whole: mlla seed 0 on bccd: missing" in str(found)
    page = (folder / "report.html").read_text("utf-8")
    assert "killed by signal 9" in page
    assert "1 of 18 runs is not whole. Contrasts with these arms have no verdict." in page
    assert found.analysis.costs == {}
    assert not (folder / costs.FILE).exists()


def test_missing_runs_of_an_arm_are_listed_together() -> None:
    plan, specs, records = cached()
    there = {key: record for key, record in records.items() if record.spec.arm != "mlla"}
    analysis = analyse(plan, specs, there)
    assert words.listed(analysis.not_whole) == ["mlla seeds 0, 1, 2 on bccd: missing"]
    assert "3 of 18 runs are not whole (mlla seeds 0, 1, 2 on bccd: missing)" in words.methods(analysis)


class Studied:
    """What a report needs of a study."""

    def __init__(self, folder: Path, runs: Callable[[], Any]) -> None:
        self.folder, self.runs = folder, runs


def test_a_study_itself_can_be_reported(tmp_path: Path) -> None:
    plan, specs, records = cached()
    some = {key: record for key, record in records.items() if key != specs[1].key}
    folder = synthetic.written(tmp_path / "some", plan, specs, some)
    run = type("Run", (), {"spec": specs[1], "reason": "the budget is spent"})()
    found = report(Studied(folder, lambda: [run]), measure=False)
    assert found.analysis.not_whole[0].reason == "the budget is spent"


def test_a_folder_that_moved_gives_the_same_report(tmp_path: Path, folder: Path, reported: Report) -> None:
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    for file in moved.glob("*.*"):
        if file.name in NAMES:
            file.unlink()
    report(moved)
    for name in NAMES:
        assert (moved / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reported: Report) -> None:
    with pytest.raises(OSError, match=r"cannot write .*report\.html"):
        write(reported.analysis, tmp_path / "no such folder")


def test_costs_of_a_broken_file_are_an_error(tmp_path: Path, folder: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    (copied / costs.FILE).write_text('{"arms": ')
    with pytest.raises(ValueError, match=r"costs\.json has to hold the costs of the arms .* delete it"):
        report(copied)


def test_models_that_cannot_be_built_any_more_have_no_costs(tmp_path: Path) -> None:
    gone = {
        "base": ("base", "gone-base.yaml", "", 1000),
        "other": ("arm", "gone-other.yaml", "", 1100),
    }
    plan, specs, records = made(arms=("base", "other"), roles=gone)
    folder = synthetic.written(tmp_path / "gone", plan, specs, records)
    found = report(folder)
    assert not (folder / costs.FILE).exists()
    assert "GFLOPs" not in str(found).splitlines()[1], "a column of dashes says nothing"
    assert any(text.startswith("cost of other not measured: ") for text in found.analysis.remarks)


@pytest.mark.slow
def test_costs_are_measured_once_and_in_turns(tmp_path: Path, tiny: Path) -> None:
    again = str(tiny)
    roles = {
        "base": ("base", again, "", None),
        "same": ("again", again, "", None),
        "mlla": ("arm", f"{tiny.parent}/{tiny.stem}+MLLABlock@p3.yaml", "", None),
        "gone": ("arm", "gone.yaml", "", None),
    }
    specs = [synthetic.spec(arm, 0, roles=roles) for arm in roles]
    found = costs.of_study(tmp_path, specs)
    assert [*found["arms"]] == ["gone", "mlla", "same", "base"]
    assert found["arms"]["base"] == found["arms"]["same"]
    assert found["arms"]["mlla"]["flops"] > found["arms"]["base"]["flops"] > 0
    assert found["arms"]["base"]["ms"]["median"] > 0
    assert found["arms"]["base"]["memory_mb"] > 0
    assert found["arms"]["gone"] is None
    assert [*found["refused"]] == ["gone"]
    assert found["imgsz"] == 160
    assert costs.of_study(tmp_path, specs) == found, "from the file"
    said = [*costs.remarks(found)]
    assert said[0].startswith("cost of gone not measured: ")
    assert said[1] == f"GFLOPs, ms and MB are of one image of 160x160 pixels on {found['device']}, in float32"
    assert {text.removeprefix("ms and MB: ") for text in said[2:]} >= {*found["arms"]["base"]["remarks"]}
