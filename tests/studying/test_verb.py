"""``yolomix study``: exit codes, and what it answers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from yolomix.cli import DONE, FAILED, USAGE, main
from yolomix.studying.record import Record, RunSpec
from yolomix.studying.study import Run, Study

SPEC = RunSpec("a", "a.pt", 0, "d.yaml", "test", "last", {}, "runs/a-s0-k", "k", {"dataset": "sample"})


@pytest.fixture
def file(keys) -> Path:
    Path("study.yaml").write_text(yaml.safe_dump(keys(controls=[])))
    return Path("study.yaml")


def answer(monkeypatch, capsys, *runs: Run) -> tuple[int, dict, str]:
    monkeypatch.setattr(Study, "run", lambda self, retry, engine, address: [*runs])
    report = SimpleNamespace(to_dict=lambda: {"says": "a"}, shown=lambda width: "a")
    monkeypatch.setattr(Study, "report", lambda self: report)
    code = main(["study", "study.yaml", "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_every_run_is_there(file, monkeypatch, capsys):
    code, found, _ = answer(monkeypatch, capsys, Run(SPEC, Record(SPEC, "finished")))
    assert (code, found["verb"], found["runs"][0]["status"]) == (DONE, "study", "finished")
    assert found["report"] == {"says": "a"}


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (Run(SPEC, Record(SPEC, "failed", "no memory"), "no memory"), "failed: no memory; retry=true repeats those"),
        (Run(SPEC, None, "killed by SIGKILL"), "missing: killed by SIGKILL; the same command goes on with them"),
        (Run(SPEC), "missing; the same command goes on"),
    ],
)
def test_a_run_that_is_not_there(file, monkeypatch, capsys, run, text):
    done = Run(SPEC, Record(SPEC, "finished"))
    code, found, err = answer(monkeypatch, capsys, done, run)
    assert code == FAILED
    assert f"1 of 2 runs are not finished, the first a s0 on sample: {text}" in err
    assert len(found["runs"]) == 2  # the answer is written all the same


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"seeds": [1, 1]}, "study.yaml, line 7: seeds needs a list of different whole numbers"),
        (
            {"arms": {"base": "yolo0n-tiny.yaml", "mlla": "none.yaml"}},
            "line 3: mlla is no model to train: no model file",
        ),
        ({"data": "none.yaml"}, "none.yaml cannot be read as a dataset for detect"),
    ],
)
def test_a_wrong_plan_runs_nothing(keys, capsys, change, text):
    Path("study.yaml").write_text(yaml.safe_dump(keys(controls=[]) | change))
    assert main(["study", "study.yaml"]) == USAGE
    assert text in capsys.readouterr().err
    assert not Path("runs").exists()


def test_no_plan_there(keys, capsys):
    assert main(["study", "none.yaml"]) == USAGE
    assert "none.yaml cannot be read as a plan" in capsys.readouterr().err
    assert main(["study", "."]) == USAGE
    assert ". needs to be a plan (YAML) or the folder of a study" in capsys.readouterr().err


def test_the_plan_is_shown(file, monkeypatch, capsys):
    monkeypatch.setattr("yolomix.studying.planning.epoch", lambda *_: (60.0, "from one epoch"))
    assert main(["study", "study.yaml", "plan=true"]) == DONE
    out = capsys.readouterr().out
    assert "4 of 4 runs to do, 0." in out
    assert "no matched controls, as the plan has it" in out
    assert not Path("runs").exists()
