"""Arms: what each is, and initial weights that are equal in all that arms share, for every seed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from yolomix.host import initial, weights
from yolomix.nn.registry import BLOCKS, Block
from yolomix.nn.rules import ChannelRule
from yolomix.studying import arms, controls, datasets
from yolomix.studying.arms import Initials, Role
from yolomix.studying.contents import Contents
from yolomix.studying.plan import PlanError
from yolomix.transferring import compare

TINY = "yolo0n-tiny"


def opened(design):
    """All arms and the dataset of a plan."""
    found = controls.with_controls(design, arms.resolve(design))
    return found, datasets.resolve(design, found[0].task, Contents("study"))[0]


def first_outputs(file: Path) -> torch.Tensor:
    """What a model gives for the same image."""
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return weights.read(file)(x)[0]


def shared(base: Path, other: Path) -> tuple[int, list[str]]:
    """How many tensors of the base another model has, and those that it lacks."""
    report = compare(weights.read(base), weights.read(other), align(base, other))
    return len(report.copied), report.missing


def align(base: Path, other: Path):
    from yolomix.surgery.align import align as aligned

    return aligned(list(weights.read(base).model), list(weights.read(other).model))


def test_grafts_of_the_base_share_every_tensor_and_the_outputs(plan):
    found, data = opened(plan())
    initials = Initials(Path("study"), found[0])
    assert [arm.role for arm in found] == [Role.BASE, Role.ARM, Role.CONTROL]
    for seed in (0, 1):
        base, *others = (initials.prepare(arm, data, seed) for arm in found)
        count = len(weights.read(base).state_dict())
        for other in others:
            assert shared(base, other) == (count, [])
            assert torch.equal(first_outputs(base), first_outputs(other))
            assert weights.read(other).names == dict(enumerate(data.classes))
    assert not torch.equal(first_outputs(initials.prepare(found[0], data, 0)), first_outputs(base))


def test_seeds_decide_everything(plan):
    found, data = opened(plan())
    digests = []
    for folder in ("one", "other"):
        initials = Initials(Path(folder), found[0])
        digests.append([weights._digest(weights.read(initials.prepare(arm, data, 3))) for arm in found])
    assert digests[0] == digests[1]


def test_full_precision_and_the_classes_of_the_dataset(plan):
    found, data = opened(plan(controls=[]))
    model = weights.read(Initials(Path("study"), found[0]).prepare(found[1], data, 0))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    content = torch.load(Initials(Path("study"), found[0]).path(found[1], data, 0), weights_only=False)
    assert {parameter.dtype for parameter in content["model"].parameters()} == {torch.float32}
    assert model.yaml["nc"] == len(data.classes) == 6


def test_a_graft_of_a_grafted_base_has_its_graft_too(plan):
    grafted = f"{TINY}+MLLABlock@1.yaml"
    both = f"{TINY}+MLLABlock@1+HaloAttention(2,1,8,2)@3.yaml"
    found, data = opened(plan(arms={"base": grafted, "both": both}))
    initials = Initials(Path("study"), found[0])
    base, other, control = (initials.prepare(arm, data, 0) for arm in found)
    count = len(weights.read(base).state_dict())
    assert shared(base, other) == shared(base, control) == (count, [])
    assert torch.equal(first_outputs(base), first_outputs(other))
    assert re.search(r"\+MLLABlock@1\+GatedConv\(hidden=\d+,convolved=\d+\)@3", found[2].model)


def test_another_root_starts_from_its_own_values(plan):
    found, data = opened(plan(arms={"base": f"{TINY}.yaml", "wide": "yolo0s-tiny.yaml"}))
    initials = Initials(Path("study"), found[0])
    assert not found[1].extends
    assert found[1].remark == "wide is no graft of the base, so it has no matched control"
    base, other = (initials.prepare(arm, data, 0) for arm in found)
    assert base != other
    assert weights.read(other).yaml["nc"] == 6


def test_a_checkpoint_keeps_what_fits(plan):
    source = initial.seeded(initial.opened(f"{TINY}.yaml"), ["a", "b"], 3, (), seed=9)
    weights.write(source, "trained.pt")
    found, data = opened(plan(arms={"base": "trained.pt", "graft": "trained+MLLABlock@1.pt"}))
    initials = Initials(Path("study"), found[0])
    for arm in found[:2]:
        made = weights.read(initials.prepare(arm, data, 0))
        assert torch.equal(made.model[0].conv.weight, source.model[0].conv.weight)
        assert len(made.names) == 6


def test_a_graft_without_a_gate_changes_outputs(plan):
    found, data = opened(plan(arms={"base": f"{TINY}.yaml", "plain": f"{TINY}+MLLABlock@1:plain.yaml"}))
    base, other, _ = (Initials(Path("study"), found[0]).prepare(arm, data, 0) for arm in found)
    assert shared(base, other)[1] == []
    assert not torch.equal(first_outputs(base), first_outputs(other))


def test_the_initial_weights_of_a_finished_run_go_and_those_of_the_root_stay(plan):
    found, data = opened(plan(controls=[]))
    initials = Initials(Path("study"), found[0])
    base, other = (initials.prepare(arm, data, 0) for arm in found)
    for arm in found:
        initials.remove(arm, data, 0)
    assert (base.exists(), other.exists()) == (True, False)


REFUSED = {
    "nobody has it": ("none.yaml", "mlla is no model to train: no model file 'none.yaml' on disk"),
    "no checkpoint": ("none.pt", "mlla is no model to train: no checkpoint 'none.pt' on disk"),
    "no block": (f"{TINY}+MLABlock@1.yaml", "did you mean MLLABlock"),
    "no insertion point": (f"{TINY}+MLLABlock@99.yaml", "no layer 99"),
    "another stride": (f"{TINY}+MLLABlock@3:replace.yaml", "stride"),
    "one model": ("yolo0-tiny.yaml", "are one model: equal rows, equal weights. Leave one of them out"),
    "another task": ("yolov8n-cls.yaml", "mlla is for classify and the base for detect; arms need one task"),
    "exported": ("model.onnx", "mlla is no model to train: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_arm_can_be(plan, case):
    model, text = REFUSED[case]
    design = plan(arms={"base": f"{TINY}.yaml", "mlla": model})
    with pytest.raises(PlanError, match=rf"(?s)^yolomix\.Study\(arms=\.\.\.\): .*{re.escape(text)}"):
        arms.resolve(design)


@pytest.mark.parametrize(("home", "place"), [("__main__", "__main__"), ("__main__", "torch.nn"), ("", "__main__")])
def test_a_block_of_the_script_that_is_running(plan, monkeypatch, home, place):
    cls = type("Scripted", (torch.nn.Identity,), {"__module__": place})
    monkeypatch.setitem(BLOCKS, "Scripted", Block("Scripted", cls, ChannelRule(()), "", home))
    Path("rows.yaml").write_text(Path("yolo0-tiny.yaml").read_text().replace("MLLAttention", "Scripted"))
    text = (
        "(arms=...): each run is a process of its own that needs to import the block Scripted, and the script that "
        "is running registers it. Move it into a module, such as myblocks.py in the working folder, and write "
        "myblocks.Scripted in the arm"
    )
    for model in (f"{TINY}+Scripted@1:plain.yaml", "rows.yaml"):
        with pytest.raises(PlanError, match=re.escape(text)):
            arms.resolve(plan(arms={"base": f"{TINY}.yaml", "mlla": model}))
    monkeypatch.setitem(BLOCKS, "Scripted", Block("Scripted", torch.nn.Identity, ChannelRule(()), "", "myblocks"))
    arms.resolve(plan(arms={"base": f"{TINY}.yaml", "mlla": "rows.yaml"}))


def test_equal_rows_with_other_weights_are_two_models(plan):
    for seed in (0, 1):
        weights.write(initial.seeded(initial.opened(f"{TINY}.yaml"), ["a"], 3, (), seed), f"w{seed}.pt")
    found = arms.resolve(plan(arms={"base": "w0.pt", "other": "w1.pt"}))
    assert found[0].content != found[1].content


def test_an_automatic_optimizer_is_written_out(plan):
    found, data = opened(plan(controls=[], train={"epochs": 2, "imgsz": 32}))
    arguments, said = arms.pinned(plan(train={"epochs": 2, "imgsz": 32}), found[0], data)
    assert (arguments["optimizer"], arguments["lr0"], arguments["momentum"]) == ("AdamW", 0.001, 0.9)
    assert said.startswith(
        "optimizer=auto gives optimizer=AdamW, lr0=0.001, momentum=0.9, warmup_bias_lr=0 for the base"
    )
    arguments, said = arms.pinned(plan(), found[0], data)
    assert (arguments["optimizer"], said) == ("AdamW", "")
    assert (arguments["batch"], arguments["single_cls"]) == (4, False)
