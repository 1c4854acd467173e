"""Controls: as large as the arm to 1 %, at its insertion points; shared where they would be one model."""

from __future__ import annotations

import re

import pytest

from yolomix.studying import arms, controls
from yolomix.studying.arms import Role
from yolomix.studying.plan import PlanError

BASE = "yolo11n"
ARMS = {
    "two points": "yolo11n+MLLABlock@p4,p5.yaml",
    "halo": "yolo11n+HaloAttention(2,1)@p5.yaml",
    "scan": "yolo11n+VSSBlock@p5.yaml",
    "repeated": "yolo11n+MLLABlock*2@p4:wrap.yaml",
    "no gate": "yolo11n+MLLABlock@p5:plain.yaml",
    "in its place": "yolo11n+MLLABlock@10:replace.yaml",
    "inside": "yolo11n+C3k2(MLLABlock)@6:replace.yaml",
}


@pytest.fixture(scope="module", params=ARMS)
def found(request):
    """The base, an arm and its control."""
    from yolomix.studying.plan import Plan

    models = {"base": "yolo11n.yaml", request.param: ARMS[request.param]}
    design = Plan.of(data="sample", arms=models, base="base", seeds=[0, 1, 2])
    return controls.with_controls(design, arms.resolve(design))


def test_a_control_is_as_large_as_its_arm(found):
    base, arm, control = found
    base = base.parameters(80)
    assert (control.role, control.name) == (Role.CONTROL, arm.control)
    assert control.parameters(80) == pytest.approx(arm.parameters(80), rel=0.01)
    # What was added is met too, by far better than 1 % of the model.
    added, by_control = arm.parameters(80) - base, control.parameters(80) - base
    assert by_control == pytest.approx(added, rel=0.02)


def test_a_control_stands_where_its_arm_does(found):
    _, arm, control = found
    places = [place(arm.rows), place(control.rows)]
    assert places[0] == places[1]
    assert "GatedConv" in str(control.rows)
    assert "MLLABlock" not in str(control.rows)


def place(rows) -> list[str]:
    """The rows with one name for every block that was grafted."""
    found = []
    for _, n, module, args in [*rows["backbone"], *rows["head"]]:
        text = f"{n} {module} {args}"
        grafted = any(name in text for name in ("MLLABlock", "HaloAttention", "VSSBlock", "GatedConv"))
        found.append(f"{n} {module.partition('(')[0] if '(' in module or not grafted else 'grafted'}")
    return found


def test_arms_with_equal_points_and_sizes_share_a_control():
    from yolomix.studying.plan import Plan

    models = {"base": "yolo11n.yaml", "p5": "yolo11n+MLLABlock@p5.yaml", "ten": "yolo11n+MLLABlock(8)@10.yaml"}
    design = Plan.of(data="sample", arms=models, base="base", seeds=[0, 1, 2])
    found = controls.with_controls(design, arms.resolve(design))
    assert [arm.name for arm in found] == ["base", "p5", "ten", "p5 control"]
    assert found[1].control == found[2].control == "p5 control"


def test_the_base_again_has_other_seeds(plan):
    found = controls.with_controls(design := plan(controls=["aa"]), arms.resolve(design))
    assert [(arm.name, arm.role) for arm in found[2:]] == [("base again", Role.AGAIN)]
    assert found[1].control == ""
    assert controls.shift(design) == 1000
    assert controls.shift(plan(seeds=[5, 1000])) == 2000


def test_an_arm_with_the_name_of_a_control_is_refused(plan):
    models = {"base": "yolo0n-tiny.yaml", "m": "yolo0n-tiny+MLLABlock@1.yaml", "m control": "yolo0s-tiny.yaml"}
    with pytest.raises(PlanError, match=r"'m control' is the name of a control; name the arm otherwise"):
        controls.with_controls(design := plan(arms=models), arms.resolve(design))


def test_where_no_control_fits_the_arm_says_so(plan, monkeypatch):
    monkeypatch.setattr(controls, "WITHIN", 0.0)
    found = controls.with_controls(design := plan(), arms.resolve(design))
    assert [(arm.name, arm.control) for arm in found] == [("base", ""), ("mlla", "")]
    assert re.fullmatch(
        r"mlla has no matched control: GatedConv there gives [\d,]+ parameters, and [\d,]+ need to be met to 1 %",
        found[1].remark,
    )
