"""A plan is read strictly: every fault names file and line, what was needed, what came and what to write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from yolomix.studying.plan import METRICS, Plan, PlanError

WHOLE = """\
name: blood-cells
data: bccd/data.yaml
split: test
weights: last
arms:
  base: yolo11n.yaml
  mlla: yolo11n+MLLABlock@p4,p5.yaml
base: base
seeds: [0, 1, 2, 3, 4]
train: {epochs: 60, imgsz: 224, batch: 16, optimizer: AdamW, lr0: 1e-3}
metric: mAP50-95
margin: 0.005
budget: 8
groups: null
looks: null
controls: [matched]
"""
LEAST = {"data": "sample", "arms": {"a": "yolo11n.yaml", "b": "yolo11n-mlla.yaml"}, "base": "a", "seeds": [0, 1, 2]}


def written(text: str) -> Path:
    file = Path("study.yaml")
    file.write_text(text)
    return file


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_whole_plan():
    plan = Plan.read(written(WHOLE))
    assert (plan.name, plan.data, plan.seeds) == ("blood-cells", ("bccd/data.yaml",), (0, 1, 2, 3, 4))
    assert plan.train["lr0"] == 0.001  # which YAML reads as a text
    assert plan.where("arms.mlla") == "study.yaml, line 7"
    assert plan.where("train.epochs") == "study.yaml, line 10"


def test_only_four_keys_are_needed():
    plan = Plan.of(**LEAST)
    assert plan.controls == ("matched",)
    assert (plan.name, plan.split, plan.weights, plan.metric, plan.margin) == ("study", "", "last", "", 0.005)
    with pytest.raises(PlanError) as refused:
        Plan.of()
    assert [line.split()[2] for line in str(refused.value).splitlines()] == ["data:,", "arms:,", "base:,", "seeds:,"]


def test_a_plan_written_out_is_the_same_plan():
    import yaml

    for plan in (Plan.read(written(WHOLE)), Plan.of(**LEAST, looks=[2, 3], groups="^(.)")):
        again = Plan.read(written(yaml.safe_dump(plan.to_dict() | {"resolved": {"anything": 1}})))
        assert again.to_dict() == plan.to_dict()


def test_the_name_is_that_of_the_file():
    assert Plan.read(written(WHOLE.replace("name: blood-cells\n", ""))).name == "study"


FAULTS = {
    "seed": ("seeds: [0, 1, 2, 3, 4]", "seed: [0, 1]", "line 9: no key 'seed'; did you mean seeds"),
    "missing": ("base: base", "", " needs base:, as in base: base, the arm that the others"),
    "no arm": ("base: base", "base: bsae", "line 8: base is 'bsae', which is no arm; did you mean base?"),
    "one arm": ("  mlla: yolo11n+MLLABlock@p4,p5.yaml\n", "", "line 5: a study needs an arm beside its base, got base"),
    "no model": ("yolo11n+MLLABlock@p4,p5.yaml", "3", "line 5: arms needs a name and a model for every arm, got"),
    "metric": ("mAP50-95", "mAP50-59", "line 11: no metric 'mAP50-59'; did you mean mAP50-95"),
    "twice": ("[0, 1, 2, 3, 4]", "[0, 1, 1]", "line 9: seeds needs a list of different whole numbers from 0 on, got"),
    "seeds": ("[0, 1, 2, 3, 4]", "5", "line 9: seeds needs a list of different whole numbers from 0 on, got 5. Write"),
    "margin": (
        "0.005",
        "0",
        "line 12: margin needs a number above zero, the difference that is as good as none, got 0.",
    ),
    "negative": ("0.005", "-1", "line 12: margin needs a number above zero"),
    "budget": ("budget: 8", "budget: 0", "line 13: budget needs a number of hours above zero, got 0. Write budget: 8"),
    "groups": ("groups: null", "groups: '('", "line 14: groups needs a regular expression, got '(': missing ), "),
    "looks": ("looks: null", "looks: [5, 3]", "line 15: looks needs two ascending numbers of seeds, got [5, 3]. Write"),
    "one look": ("looks: null", "looks: [5]", "line 15: looks needs two ascending numbers of seeds, got [5]. Write"),
    "last look": ("looks: null", "looks: [3, 9]", "line 15: the last look needs all 5 seeds of the plan, got 9."),
    "controls": ("[matched]", "[match]", "line 16: controls needs a list out of matched, aa, got ['match']. Write"),
    "split": ("split: test", "split: tset", "line 3: split needs test or val, got 'tset'. Write split: test"),
    "weights": ("weights: last", "weights: ema", "line 4: weights needs last or best, got 'ema'. Write weights: last"),
    "name": ("blood-cells", "a/b", "line 1: name needs letters, digits, dots, dashes and underscores, got 'a/b'."),
    "data": (
        "bccd/data.yaml",
        "[a.yaml, a.yaml]",
        "line 2: data needs a dataset YAML, or a list of different ones, got",
    ),
    "decided": ("imgsz: 224", "seed: 3", "line 10: a study takes no seed among the arguments of a training; the plan"),
    "batch": ("batch: 16", "batch: -1", "line 10: batch needs a whole number from 1 on, got -1: what fits into memory"),
    "again": ("base: base", "base: base\nbase: mlla", "line 9: 'base' stands there again, after line 8; leave one"),
    "arm again": ("  mlla:", "  base: a.yaml\n  mlla:", "line 7: 'base' stands there again, after line 6; leave one"),
    "no YAML": ("seeds: [0, 1, 2, 3, 4]", "seeds: [0, 1", "line 10: it is no YAML: "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_names_the_line(fault):
    before, after, text = FAULTS[fault]
    assert before in WHOLE
    with pytest.raises(PlanError, match=rf"^study\.yaml.*{re.escape(text)}"):
        Plan.read(written(WHOLE.replace(before, after, 1)))


def test_all_faults_are_told_at_once():
    with pytest.raises(PlanError) as refused:
        Plan.read(written(WHOLE.replace("0.005", "0").replace("weights: last", "weights: x").replace("name:", "nam:")))
    assert [re.findall(r"line \d+", line) for line in str(refused.value).splitlines()] == [
        ["line 1"],
        ["line 4"],
        ["line 12"],
    ]


def test_a_fault_of_a_keyword_argument_names_it():
    with pytest.raises(PlanError, match=r"^yolomix\.Study\(seeds=\.\.\.\): seeds needs a list of different"):
        Plan.of(**LEAST | {"seeds": [0, 0]})


@pytest.mark.parametrize(
    ("content", "text"), [("- 1\n", "needs data:, arms:, base:, seeds:, got [1]"), ("", "got nothing")]
)
def test_what_is_no_mapping(content, text):
    with pytest.raises(PlanError, match=re.escape(text)):
        Plan.read(written(content))


def test_a_file_that_is_not_there():
    with pytest.raises(
        PlanError, match=r"none\.yaml cannot be read as a plan: No such file.*yolomix study study\.yaml"
    ):
        Plan.read("none.yaml")


def test_an_a_a_study_needs_no_other_arm():
    assert Plan.of(**LEAST | {"arms": {"a": "yolo11n.yaml"}, "controls": ["aa"]}).controls == ("aa",)


def test_every_task_has_a_first_metric():
    assert {task: metrics[0] for task, metrics in METRICS.items()} == {
        **dict.fromkeys(("detect", "obb", "segment", "pose"), "mAP50-95"),
        "classify": "top1",
    }
