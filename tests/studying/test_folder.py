"""A study's folder: one process at a time, one study for good, and what stands in it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from yolomix.studying import folder, runs
from yolomix.studying.folder import LOCK, STOPPED, check, claim, is_study, locked, opened, records, stopped
from yolomix.studying.plan import Plan, PlanError
from yolomix.studying.record import Record, RunSpec

KEYS = {
    "data": "sample",
    "arms": {"a": "yolo11n.yaml", "b": "yolo11n-mlla.yaml"},
    "base": "a",
    "seeds": [0, 1, 2],
    "train": {"epochs": 3},
}
PLAN = Plan.of(**KEYS)
SPEC = RunSpec("a", "a.pt", 0, "d.yaml", "test", "last", {"epochs": 3}, "runs/a-s0-k", "k", {"dataset": "sample"})


@pytest.fixture
def study(tmp_path) -> Path:
    where = tmp_path / "study"
    with locked(where):
        claim(PLAN, where, {"threads": 2}, [SPEC])
    return where


def test_what_was_claimed_is_found_again(study):
    plan, resolved, specs = opened(study)
    assert (plan.to_dict(), resolved, specs) == (PLAN.to_dict(), {"threads": 2}, [SPEC])
    assert is_study(study)


HOLD = """
import sys, time
from pathlib import Path
from yolomix.studying.folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_processes_in_one_folder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        text = rf"{re.escape(str(tmp_path))} is worked in by another process \(id {process.pid}\); wait for it, or give"
        with pytest.raises(RuntimeError, match=text), locked(tmp_path):
            pytest.fail("both have it")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with locked(tmp_path):  # what a killed process held is free
        assert (tmp_path / LOCK).exists()


OTHERS = {
    "data": ({"data": "other.yaml"}, "data is ['other.yaml'], and the study in"),
    "base": ({"base": "b"}, "base is 'b', and the study in"),
    "arguments": ({"train": {"epochs": 4}}, "train is {'epochs': 4}, and the study in"),
    "margin": ({"margin": 0.01}, "margin is 0.01, and the study in"),
    "model": ({"arms": {"a": "yolo11n.yaml", "b": "yolo11s.yaml"}}, "arm b needs to be 'yolo11n-mlla.yaml' as in"),
    "no such arm": ({"arms": {"a": "yolo11n.yaml", "c": "yolo11s.yaml"}}, "got no such arm. Another study needs"),
    "fewer seeds": ({"seeds": [0, 1, 3]}, "also has the seeds [2]. Another study needs another name"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_study_in_the_folder(study, case):
    changes, text = OTHERS[case]
    with pytest.raises(PlanError, match=re.escape(text)):
        check(Plan.of(**KEYS | changes), study)


def test_the_same_study_may_gain_arms_and_seeds(study):
    more = {"arms": {**KEYS["arms"], "c": "yolo11s.yaml"}, "seeds": [0, 1, 2, 3], "budget": 3}
    check(Plan.of(**KEYS | more), study)


def test_looks_are_planned_once(tmp_path):
    where = tmp_path / "study"
    with locked(where):
        claim(Plan.of(**KEYS, looks=[2, 3]), where, {}, [SPEC])
    with pytest.raises(PlanError, match=r"looks are planned once, and the study in .* has \[2, 3\]"):
        check(Plan.of(**KEYS | {"seeds": [0, 1, 2, 3]}, looks=[3, 4]), where)


MORE = Plan.of(**KEYS | {"seeds": [0, 1, 2, 3]})


def test_seeds_that_were_added_after_a_report_are_known_for_good(study):
    assert folder.reported(MORE, study) == []  # nobody has looked
    (study / "study.json").write_text("{}")
    assert folder.reported(PLAN, study) == []  # reporting again is no look at more seeds
    assert folder.reported(MORE, study) == [3]
    claim(MORE, study, {folder.REPORTED: [3]}, [SPEC])
    (study / "study.json").unlink()
    assert folder.reported(MORE, study) == [3]
    (study / "report.html").write_text("")
    most = Plan.of(**KEYS | {"seeds": [0, 1, 2, 3, 4]})
    assert folder.reported(most, study) == [3, 4]
    assert folder.added([3, 4]).startswith(
        "seeds were added after a report of 3 and 4 seeds, and no looks had been planned: whoever adds seeds until"
    )


def test_looks_that_are_planned_after_a_report_are_none(study):
    (study / "report.html").write_text("")
    assert folder.reported(Plan.of(**KEYS | {"seeds": [0, 1, 2, 3]}, looks=[3, 4]), study) == [3]


def test_no_room_is_said_before_anything_runs(tmp_path, monkeypatch):
    specs = [replace(SPEC, facts={"parameters": count}) for count in (1_000_000, 2_500_000)]
    folder.check_room(tmp_path, specs, 2)
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda path: SimpleNamespace(free=100e6))
    folder.check_room(tmp_path, specs, 1)
    text = (
        f"2 runs at once need about 180 MB in {tmp_path}, and its disk has 100 MB free. Make room, or work in a folder"
    )
    with pytest.raises(RuntimeError, match=re.escape(text)):
        folder.check_room(tmp_path, specs, 2)


def test_what_a_killed_process_left_before_the_plan_stands_in_nobodys_way(tmp_path):
    for name in (folder.SPECS, ".study.yaml.yolomix-123-ab", "contents.json"):
        (tmp_path / name).write_text("")
    check(PLAN, tmp_path)
    claim(PLAN, tmp_path, {}, [SPEC])
    assert opened(tmp_path)[2] == [SPEC]


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "holiday.jpg").write_text("")
    with pytest.raises(PlanError, match=r"holds no study, but holiday\.jpg\. Give another name"):
        check(PLAN, tmp_path)
    with pytest.raises(PlanError, match=r"needs to be a plan \(YAML\) or the folder of a study"):
        opened(tmp_path)


def test_a_folder_that_is_not_whole(study):
    (study / folder.SPECS).write_text("[{}]")
    with pytest.raises(PlanError, match=r"specs\.json cannot be read: .* Start the study again with its plan"):
        opened(study)


def test_records_and_reasons(study):
    place = study / SPEC.folder
    place.mkdir(parents=True)
    assert (records(study, [SPEC]), stopped(study, SPEC)) == ({}, "")
    (place / STOPPED).write_text("killed\n")
    assert stopped(study, SPEC) == "killed"
    Record(SPEC, "failed", "it failed").save(place / "record.npz")
    assert records(study, [SPEC])["k"].reason == "it failed"


FACTS = {
    "dataset": "sample",
    "dataset_digest": "d0",
    "content": "c0",
    "trained": {"epochs": 3, "lr0": 0.1},
    "versions": {"torch": "2.7", "yolomix": "0.1"},
}
CHANGED = {
    "dataset_digest": ("d1", "data", "content of the dataset changed for a, seed 0: now d1, and d0 in"),
    "content": ("c1", "arms", "model changed for a, seed 0: now c1, and c0 in"),
    "trained": (
        {"epochs": 3, "lr0": 0.2},
        "train",
        "arguments changed for a, seed 0: now {'lr0': 0.2}, and {'lr0': 0.1} in",
    ),
    "versions": (
        {"torch": "2.8", "yolomix": "0.1"},
        "data",
        "versions changed for a, seed 0: now {'torch': '2.8'}, and {'torch': '2.7'} in",
    ),
}


@pytest.mark.parametrize("fact", CHANGED)
@pytest.mark.parametrize("left", ["spec", "record"])
def test_what_changed_between_runs_is_an_error_that_names_both(study, fact, left):
    before = replace(SPEC, facts=FACTS)
    place = study / before.folder
    place.mkdir(parents=True)
    if left == "spec":
        before.write(place)
    else:
        Record(before, "finished").save(place / "record.npz")
    value, key, text = CHANGED[fact]
    now = replace(before, key="k1", folder="runs/a-s0-k1", facts=FACTS | {fact: value})
    with pytest.raises(PlanError, match=rf"^yolomix\.Study\({key}=\.\.\.\): {re.escape(text)}"):
        runs.check_equal(PLAN, study, [now])
    runs.check_equal(PLAN, study, [before])
    runs.check_equal(PLAN, study, [replace(now, seed=1)])


def test_saved_arguments_that_are_not_the_plans():
    good = Record(SPEC, "finished", arguments={"epochs": 3, "seed": 0, "lr0": 0.1})
    runs.check_saved([good])
    with pytest.raises(
        ValueError, match=r"runs/a-s0-k trained with other arguments than its plan: epochs is 4 and the"
    ):
        runs.check_saved([good, Record(SPEC, "finished", arguments={"epochs": 4, "seed": 0})])
    with pytest.raises(ValueError, match="seed is 1 and the plan has 0"):
        runs.check_saved([Record(SPEC, "finished", arguments={"epochs": 3, "seed": 1})])
