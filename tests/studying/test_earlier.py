"""Results folders of earlier trainings count as runs of a study, where everything agrees."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import yolomix
from yolomix.host.yolo import YOLO
from yolomix.studying.plan import PlanError
from yolomix.studying.record import Record

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Path:
    """The results folder of one epoch of the tiny model with seed 1, trained by Ultralytics alone."""
    from tests.studying.conftest import TRAIN
    from tests.tiny import TINY

    folder = tmp_path_factory.mktemp("earlier")
    (folder / "yolo0-tiny.yaml").write_text(TINY.replace("nc: 2", "nc: 6"))
    model: Any = YOLO(folder / "yolo0n-tiny.yaml")
    model.train(data=str(small), seed=1, project=str(folder), name="results", exist_ok=True, **TRAIN)
    return folder / "results"


def study(keys, results: Path, **changes: Any) -> yolomix.Study:
    return yolomix.Study(**keys(controls=[], earlier=str(results), **changes))


def test_a_training_that_agrees_counts_as_its_run(keys, results, monkeypatch):
    made = study(keys, results)
    setup = made.setup()
    (found,) = setup.earlier
    assert (found.spec.arm, found.spec.seed) == ("base", 1)
    assert found.remark in setup.remarks
    assert "its seed is not paired with those of runs that the study trains" in found.remark
    monkeypatch.setattr("yolomix.studying.guards.check", lambda *_: None)
    begun = []
    monkeypatch.setattr("yolomix.studying.study.Queue._begin", lambda queue, spec, done: begun.append(spec.key))
    runs = made.run()
    assert [run.status for run in runs] == ["missing", "missing", "finished", "missing"]
    assert begun == [run.spec.key for run in runs if run.record is None]
    record = runs[2].record
    assert isinstance(record, Record)
    assert record.statistics is not None
    assert len(record.statistics.images) == 6
    assert len(record.epochs) == 1
    assert record.spec.facts["earlier"] == str(results)
    assert not {"model", "data", "project", "name", "save_dir"} & {*record.arguments}  # paths of this machine
    assert record.arguments["imgsz"] == 32
    assert record.spec.model == "yolo0n-tiny.yaml"


REFUSED = {
    "seed": ({"seeds": [0, 2]}, {}, "has seed 1, and the seeds of the plan are [0, 2]"),
    "an argument of the plan": (
        {},
        {"imgsz": 64},
        "was trained with other arguments: imgsz is 64 and the plan has 32.",
    ),
    "one that the plan leaves alone": (
        {},
        {"mosaic": 0.5},
        "was trained with other arguments: mosaic is 0.5 and the plan has 1.0. Take it",
    ),
    "data": ({}, {"data": "other.yaml"}, "was trained on other.yaml, and the plan has"),
    "model": (
        {"arms": {"base": "yolo0s-tiny.yaml", "mlla": "yolo0s-tiny+MLLABlock@1.yaml"}},
        {},
        "has a model that is none of the arms base, mlla",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_training_that_does_not_agree(keys, results, case):
    changes, saved, text = REFUSED[case]
    shutil.copytree(results, "copy")
    file = Path("copy/args.yaml")
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | saved))
    with pytest.raises(PlanError, match=rf"^yolomix\.Study\(earlier=\.\.\.\): copy {re.escape(text)}"):
        study(keys, Path("copy"), **changes).setup()


def test_a_training_by_another_ultralytics(keys, results, monkeypatch):
    monkeypatch.setattr("yolomix.studying.earlier.weights.version_of", lambda file: "8.0.0")
    with pytest.raises(PlanError, match=r"was trained by Ultralytics 8\.0\.0, and this is 8\.[\d.]+\. Take it out"):
        study(keys, results).setup()


def test_a_folder_that_holds_no_training(keys, results):
    Path("empty").mkdir()
    with pytest.raises(
        PlanError, match=r"empty needs args\.yaml and results\.csv, as a training of Ultralytics leaves"
    ):
        study(keys, Path("empty")).setup()
    shutil.copytree(results, "copy")
    shutil.rmtree("copy/weights")
    with pytest.raises(PlanError, match=r"copy needs its weights/last\.pt: "):
        study(keys, Path("copy")).setup()


def test_one_run_twice(keys, results):
    shutil.copytree(results, "copy")
    with pytest.raises(PlanError, match=r"copy and .*results are one run; leave one of them out"):
        yolomix.Study(**keys(controls=[], earlier=[str(results), "copy"])).setup()
