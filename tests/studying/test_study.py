"""A study from a plan to its records, with real trainings; and what stands in its way before the first of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import yolomix
from yolomix import statistics
from yolomix.studying import folder, guards, planning, study
from yolomix.studying.folder import PLAN, locked, opened
from yolomix.studying.plan import PlanError
from yolomix.studying.planning import StudyPlan, detectable
from yolomix.studying.record import Record, RunSpec


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_two_arms_two_seeds_one_epoch(keys, monkeypatch):
    given = keys(controls=[], name="tiny")
    made = yolomix.Study(**given)
    planned = made.plan(time=False)
    assert (planned.runs, planned.finished, planned.hours) == (4, 0, None)
    assert not made.folder.exists()  # a plan leaves nothing

    runs = made.run()
    assert [run.status for run in runs] == ["finished"] * 4, [run.reason for run in runs]
    assert [(run.spec.arm, run.spec.seed) for run in runs] == [("base", 0), ("mlla", 0), ("base", 1), ("mlla", 1)]
    assert made.folder == Path("runs/study/tiny")
    records = made.records()
    for run in runs:
        record = records[run.spec.key]
        assert len(record.epochs) == 1
        assert len(record.statistics.images) == 6  # the test split
        assert record.arguments["optimizer"] == "AdamW"
        assert {"role", "content", "dataset_digest", "versions", "parameters", "pair"} <= {*run.spec.facts}
    inits = sorted(file.name for file in (made.folder / "inits").iterdir())
    assert len(inits) == 2, inits  # of the base, one per seed

    # Nothing runs twice, from Python or from the folder; what is there is enough to plan with.
    monkeypatch.setattr(study.Queue, "_begin", lambda *_: pytest.fail("a finished run is repeated"))
    monkeypatch.setattr(guards, "probed", lambda *_: pytest.fail("what has passed is looked at again"))
    again = yolomix.Study(**given)
    assert [run.status for run in again.run()] == ["finished"] * 4
    assert [run.record.metrics for run in yolomix.Study("runs/study/tiny").runs()] == [
        run.record.metrics for run in runs
    ]
    planned = again.plan()
    assert (planned.finished, planned.basis, planned.hours) == (4, "from 4 finished runs", 0.0)
    assert "as the 4 that have finished" in planned.spread
    kept = yaml.safe_load((made.folder / PLAN).read_text())
    assert kept["resolved"]["metric"] == "mAP50-95"

    # Data that changed in between is an error that names both.
    label = next((Path(given["data"]).parent / "labels" / "train").iterdir())
    text = label.read_text()
    label.write_text(text + "0 0.5 0.5 0.1 0.1\n")
    try:
        with pytest.raises(
            PlanError, match=r"content of the dataset changed for base, seed 0: now \w{12}, and \w{12} in "
        ):
            yolomix.Study(**given).run()
    finally:
        label.write_text(text)


@pytest.mark.usefixtures("in_this_process")
def test_hours_come_from_a_real_epoch(keys):
    planned = yolomix.Study(**keys(controls=[], train=keys()["train"] | {"epochs": 1000})).plan()
    assert planned.basis == "from one epoch of the base, alone on this machine; every arm taken as fast"
    assert planned.hours is not None
    assert 0.05 < planned.hours < 50
    assert "4 of 4 runs to do, " in str(planned)
    assert not Path("runs").exists()


def test_a_plan_shows_arms_controls_and_what_they_can_find(keys):
    planned = yolomix.Study(**keys(controls=["matched", "aa"], seeds=[0, 1, 2])).plan(time=False)
    head, *rows = planned.as_rows()
    assert head == ("arm", "role", "model", "params", "control", "runs", "finished")
    assert [(row[0], row[1], row[4], row[5]) for row in rows] == [
        ("base", "base", "-", "3"),
        ("mlla", "arm", "mlla control", "3"),
        ("mlla control", "control", "-", "3"),
        ("base again", "again", "-", "3"),
    ]
    text = str(planned)
    effect = statistics.detectable(statistics.Components.guessed(), seeds=3, units=6)  # images of the test split
    assert f"finds a difference of {effect:.3f} with 80 % power (3 seeds, runs that spread by 0.006, a guess" in text
    assert "- metric: mAP50-95, as the plan does not say one" in text
    assert planned.to_dict()["arms"][0]["arm"] == "base"


def test_a_budget_that_is_too_small_is_said():
    planned = StudyPlan("s", planning.rows([], [], {}), 4, 0, 9.0, "timed", {}, "", 5.0, ())
    assert "the budget of 5 h ends before that" in str(planned)


def test_more_arms_find_less(plan):
    from types import SimpleNamespace

    from yolomix.studying.arms import Role

    data: Any = SimpleNamespace(name="d", judged=SimpleNamespace(images=[Path(f"{i}_a.jpg") for i in range(40)]))
    arm: Any = SimpleNamespace(role=Role.ARM)
    design = plan(seeds=[0, 1, 2, 3, 4])
    few, _ = detectable(design, [arm], [data], {}, "mAP50-95")
    many, _ = detectable(design, [arm] * 4, [data], {}, "mAP50-95")
    assert many["d"] > few["d"]


def finished(arm: str, seed: int, value: float) -> Record:
    spec = RunSpec(arm, "m.pt", seed, "d.yaml", "test", "last", {}, arm, f"{arm}{seed}", {"dataset": "d"})
    return Record(spec, "finished", metrics={"metrics/mAP50-95(B)": value})


def test_the_spread_of_finished_runs_is_within_arms():
    found = [finished("a", 0, 0.1), finished("a", 1, 0.3), finished("b", 0, 0.5), finished("b", 1, 0.7)]
    sd, words = planning._spread(found, "mAP50-95")
    assert sd == pytest.approx(0.02**0.5)
    assert words == "as the 4 that have finished"
    assert planning._spread(found[:1], "mAP50-95") is None
    assert planning._spread(found, "top1") is None


def test_a_study_needs_a_plan_or_keys(keys):
    with pytest.raises(TypeError, match=r"needs a plan or keys, got 'a\.yaml' and data\. Give one of them"):
        yolomix.Study("a.yaml", data="sample")
    with pytest.raises(PlanError, match="needs to be a plan"):
        yolomix.Study(".")


def test_a_metric_of_another_task(keys):
    with pytest.raises(
        PlanError, match=r"\(metric=\.\.\.\): detect models have no metric 'top1'; known: mAP50-95, mAP50"
    ):
        yolomix.Study(**keys(metric="top1")).run()


def test_two_looks_are_two_calls(keys, monkeypatch):
    made = yolomix.Study(**keys(seeds=[0, 1, 2], looks=[2, 3], controls=[]))
    specs = made.setup().specs
    assert {spec.seed for spec in made._until_look(specs)} == {0, 1}
    for spec in specs:
        if spec.seed < 2:
            (made.folder / spec.folder).mkdir(parents=True)
            Record(spec, "finished").save(made.folder / spec.folder / "record.npz")
    assert {spec.seed for spec in made._until_look(specs)} == {0, 1, 2}


def test_seeds_added_after_a_report_are_said_for_good(keys, monkeypatch):
    monkeypatch.setattr(yolomix.Study, "_carry_out", lambda *_: None)
    three, five = [0, 1, 2], [0, 1, 2, 3, 4]
    yolomix.Study(**keys(controls=[], seeds=three)).run()
    place = Path("runs/study/study")
    (place / "report.html").write_text("")
    text = "seeds were added after a report of 3 seeds, and no looks had been planned: "
    assert text in str(yolomix.Study(**keys(controls=[], seeds=five)).plan(time=False))
    for _ in range(2):
        yolomix.Study(**keys(controls=[], seeds=five)).run()
        (remark,) = [one for one in opened(place)[1]["remarks"] if one.startswith(text)]  # which the report says
        assert remark.endswith("Plan it before the first run, as in looks: [5, 10]")
        (place / "report.html").unlink(missing_ok=True)


def test_specs_name_no_file_of_this_machine(keys, tmp_path, monkeypatch):
    monkeypatch.setattr(yolomix.Study, "_carry_out", lambda *_: None)
    shutil.copytree(Path(keys()["data"]).parent, "here")
    made = yolomix.Study(**keys(controls=[], data="here/data.yaml"))
    made.run()
    setup = made.setup()
    assert str(tmp_path) not in (made.folder / folder.SPECS).read_text()
    spec = setup.specs[1]
    assert (spec.data, spec.model) == ("here/data.yaml", f"inits/{Path(spec.model).name}")
    ready = setup.prepare(spec)
    assert Path(ready.data) == Path("here/data.yaml").resolve()
    assert Path(ready.model) == (made.folder / spec.model).resolve()
    assert Path(ready.model).is_file()


def test_keys_of_runs_depend_on_what_matters(keys):
    def _keys_of(**changes: Any) -> list[str]:
        return [spec.key for spec in yolomix.Study(**keys(controls=[], **changes)).setup().specs]

    first = _keys_of()
    assert len({*first}) == 4
    assert _keys_of(budget=3, margin=0.1, name="other") == first
    train = keys()["train"]
    assert _keys_of(train={**train, "device": None}) == first  # where it runs
    assert not {*_keys_of(train={**train, "lr0": 0.5})} & {*first}
    assert not {*_keys_of(weights="best")} & {*first}
    assert _keys_of(seeds=[0, 1, 2])[:4] == first
    assert _keys_of(arms={**keys()["arms"], "wide": "yolo0s-tiny.yaml"})[:2] == first[:2]


def test_a_study_that_another_process_works_on(keys):
    made = yolomix.Study(**keys(controls=[]))
    with locked(made.folder), pytest.raises(RuntimeError, match="is worked in by another process"):
        made.run()


def test_several_datasets_have_runs_each(keys, small, tmp_path):
    from yolomix.data import render

    other = render(tmp_path / "other", {"train": 4, "val": 2})
    made = yolomix.Study(**keys(data=[str(small), str(other)], controls=[]))
    specs = made.setup().specs
    assert [(spec.arm, spec.seed, spec.split) for spec in specs[:4]] == [
        ("base", 0, "test"),
        ("mlla", 0, "test"),
        ("base", 0, "val"),
        ("mlla", 0, "val"),
    ]
    assert len({spec.folder for spec in specs}) == 8


def test_an_engine_that_there_is_not(keys):
    with pytest.raises(ValueError, match="engine needs local or ray, got 'slurm'; local is the queue of this machine"):
        yolomix.Study(**keys()).run(engine="slurm")
