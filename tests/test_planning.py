"""A plan: values for programs, a table for people, and the files that applying it writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import ultralytics

import yolomix
from tests.tiny import description
from yolomix import planning
from yolomix.host import weights
from yolomix.planning import EditedModel
from yolomix.surgery.report import Fate, Outcome, Report

pytestmark = pytest.mark.usefixtures("few_repetitions")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    model = ultralytics.YOLO(yolomix.edit(description()).apply(folder / "tiny.yaml")).model
    return weights.write(model, folder / "tiny.pt")


def test_values_for_programs_are_json() -> None:
    plan = yolomix.edit(description()).insert("MLLABlock", "p3", [4]).remove(6).plan()
    found = plan.to_dict()
    assert json.loads(json.dumps(found)) == found
    assert [*found] == [
        "base",
        "steps",
        "parameters",
        "parameters_added",
        "kept",
        "tensors",
        "imgsz",
        "costs",
        "measured",
    ]
    assert found["base"] == "model"
    assert [(s["old"], s["new"], s["change"]) for s in found["steps"]][4:] == [
        (4, 4, ""),
        (None, 5, "new"),
        (5, 6, ""),
        (6, None, "gone"),
        (7, 7, ""),
    ]
    assert found["parameters_added"] == sum(s["parameters_added"] for s in found["steps"])
    assert found["kept"] < found["tensors"]


def test_the_table_says_what_changes_and_what_is_sure_to_be_kept() -> None:
    change = yolomix.edit(description())
    same, more, fewer = change.plan(), change.wrap("MLLABlock", 4).plan(), change.repeats(4, 1).plan()
    assert str(same).splitlines()[-2].startswith("model: 0 of 8 layers change, no parameters on ")
    assert str(same).splitlines()[-2].endswith(f"; {same.tensors} of {same.tensors} tensors keep their weights")
    assert str(more).splitlines()[5].split()[:6] == ["4", "4", "wrapped", "C2PSAMLLA", "+", "ZeroGate"]
    assert f"; at least {fewer.kept} of {fewer.tensors} tensors keep" in str(fewer)


def test_what_a_graft_costs_stands_in_its_plan() -> None:
    change = yolomix.edit(description())
    plan = change.insert("VSSBlock", "p3").plan(imgsz=(64, 96))
    before, after = plan.costs
    assert before == change.plan(imgsz=(64, 96)).costs[1]
    assert after.parameters - before.parameters == plan.parameters_added
    profiled = yolomix.profile(weights.from_rows(plan.graph.model), imgsz=(64, 96)).models[0]
    assert after.operations == profiled.operations
    assert after.operations.scan > before.operations.scan == 0
    words = str(plan).splitlines()[-1]
    assert words.endswith(" of them in scans, for an image of 64x96")
    assert plan.to_dict()["costs"][1]["flops"] == after.operations.total
    assert plan.to_dict()["measured"] is None


def test_a_plan_counts_without_a_trace_in_the_random_state() -> None:
    plan = yolomix.edit(description()).insert("MLLABlock", "p3", [4]).plan()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert plan.costs is not None
    assert torch.equal(torch.get_rng_state(), before)


def test_base_and_result_are_timed_where_that_is_wanted() -> None:
    plan = yolomix.edit(description()).insert("MLLABlock", "p3", [4]).plan(imgsz=64, profile=True)
    names = [model["model"] for model in plan.to_dict()["measured"]["models"]]
    assert names == ["model", "model-mllablock"]
    line = str(plan).splitlines()[-1]
    assert re.match(r"[\d.]+ ms become [\d.]+, [\d.]+ times as long \(cpu, ", line), line


def test_a_model_that_cannot_be_counted_at_that_size_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(planning, "cost_of", refuse)
    plan = yolomix.edit(description()).plan(imgsz=32)
    assert str(plan).splitlines()[-1] == "GFLOPs: this model cannot be counted on an image of 32x32"
    assert plan.to_dict()["costs"] is None


@pytest.mark.parametrize("imgsz", [0, (1, 2, 3), "640"])
def test_an_image_size_that_is_none_is_refused_before_anything_is_built(imgsz: object) -> None:
    with pytest.raises(ValueError, match="imgsz is one number of pixels, or height and width, as in 480,640; got"):
        yolomix.edit(description()).plan(imgsz=imgsz)


def test_a_model_yaml_becomes_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = yolomix.edit(description()).insert("MLLABlock", "p3").plan().apply()
    assert done == EditedModel(Path("model-mllablock.yaml"), Path("model-mllablock.yaml"))
    assert done.to_dict() == {"file": "model-mllablock.yaml", "yaml": "model-mllablock.yaml"}
    assert [p.name for p in tmp_path.iterdir()] == ["model-mllablock.yaml"]


def test_a_checkpoint_becomes_three_files(checkpoint: Path, tmp_path: Path) -> None:
    plan = yolomix.edit(checkpoint).insert("MLLABlock", "p3").plan()
    done = plan.apply(tmp_path / "a.pt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-transfer.txt", "a.pt", "a.yaml"]
    assert done.report is not None
    assert done.report.complete
    assert len(done.report.copied) == plan.kept == plan.tensors
    assert done.to_dict() == {"file": str(done.file), "yaml": str(done.yaml), **done.report.to_dict()}
    made = weights.read(done.file)
    assert made.yaml["yaml_file"] == str(tmp_path / "a.yaml")
    assert made.names == weights.read(checkpoint).names


def test_a_seed_is_the_init_of_the_new_layers(checkpoint: Path, tmp_path: Path) -> None:
    plan = yolomix.edit(checkpoint).insert("MLLABlock", "p3").plan()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    files = [plan.apply(tmp_path / f"{name}.pt", seed).file for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert torch.equal(torch.get_rng_state(), before)
    first, second, other = (weights.read(file).state_dict() for file in files)
    assert all(torch.equal(first[name], second[name]) for name in first)
    differ = {name for name in first if not torch.equal(first[name], other[name])}
    assert differ
    assert all(name.startswith("model.5.block.") for name in differ)


def test_the_default_name_is_beside_the_checkpoint(checkpoint: Path) -> None:
    plan = yolomix.edit(checkpoint).remove(6).plan()
    done = plan.apply()
    assert done.file == checkpoint.with_name("tiny-edited.pt")
    with pytest.raises(FileExistsError, match=r"tiny-edited.pt exists; give another file name: save="):
        plan.apply()
    assert plan.apply(done.file).file == done.file  # named, it may be written anew


def test_a_shortfall_is_a_warning(checkpoint: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    lost = Outcome("model.0.conv.weight", 0, "Conv", Fate.LEFT_AT_INIT, 216, "it fits and did not arrive")
    report = Report("a", "b", (lost,), 1)
    monkeypatch.setattr("yolomix.planning.transferring.copy_weights", lambda *_: report)
    plan = yolomix.edit(checkpoint).insert("MLLABlock", "p3").plan()
    assert plan.apply(tmp_path / "a.pt").report is report
    assert f"{plan.kept} tensors of {checkpoint} should keep their weights, 0 do:" in caplog.text
    assert "0 Conv: 1 tensors left at init: conv.weight it fits and did not arrive" in caplog.text


def test_an_edited_model_is_the_file_to_open(tmp_path: Path) -> None:
    done = yolomix.edit(description()).remove(6).apply(tmp_path / "a.yaml")
    assert str(done) == str(done.file)
    assert Path(done) == done.file
    assert len(ultralytics.YOLO(str(done)).model.model) == 7
