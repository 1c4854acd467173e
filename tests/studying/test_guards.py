"""Guards before the first run: arms that are trained otherwise, and seeds that decide nothing."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from tests.studying import runs
from yolomix.studying import guards
from yolomix.studying.guards import alike, check, seeded
from yolomix.studying.plan import Plan, PlanError
from yolomix.studying.queue import Slot
from yolomix.studying.record import RunSpec

PROBE: dict[str, Any] = {
    "batches": "b0",
    "optimizer": "AdamW",
    "groups": [{"lr": 0.1, "parameters": 3}],
    "accumulate": 1,
    "batch": 4,
    "rates": [1.0, 0.5],
}


def spec(arm: str, pair: int = 0, role: str = "arm") -> RunSpec:
    facts = {"pair": pair, "role": role, "dataset": "d"}
    return RunSpec(arm, "m.pt", pair, "d.yaml", "test", "last", {"workers": 8}, arm, f"{arm}{pair}", facts)


ROWS = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 2, "C3k2", [32]], [-1, 1, "Conv", [32, 3, 2]]]
BLOCK = [-1, 1, "MLLABlock", []]


def arm(rows: list[Any], name: str = "mlla", root: str = "a.yaml") -> Any:
    return SimpleNamespace(name=name, root=root, rows={"backbone": rows[:2], "head": rows[2:]})


def freezing(said: Any) -> Plan:
    return Plan.of(data="sample", arms={"a": "a.yaml", "b": "b.yaml"}, base="a", seeds=[0], train={"freeze": said})


@pytest.mark.parametrize("said", [3, [0, 2], ["2.cv1"], [3, 1]])
def test_frozen_layers_that_a_graft_moves(said):
    grafted = arm([*ROWS[:2], BLOCK, *ROWS[2:]])
    text = (
        f"yolomix.Study(train=...): freeze={said} needs layers that the base and its grafts have at the same index, "
        "and layer 2 of mlla is [-1, 1, MLLABlock, []], that of the base [-1, 2, C3k2, [32]]. Freeze layers before it, "
        "as in freeze: 2, or leave freeze out"
    )
    with pytest.raises(PlanError, match=re.escape(text)):
        guards.frozen(freezing(said), [arm(ROWS), arm(ROWS, "same"), grafted])


@pytest.mark.parametrize("said", [None, 0, 2, [1], [0, "1.conv"], [], "10"])
def test_frozen_layers_that_every_graft_has(said):
    grafted = arm([*ROWS[:2], BLOCK, *ROWS[2:]])
    assert guards.frozen(freezing(said), [arm(ROWS), grafted]) == []


def test_frozen_layers_of_the_first_layer_and_of_another_model():
    with pytest.raises(PlanError, match="Graft behind the frozen layers, or leave freeze out"):
        guards.frozen(freezing(1), [arm(ROWS), arm([BLOCK, *ROWS])])
    assert guards.frozen(freezing(5), [arm(ROWS), arm([*ROWS, BLOCK], root="b.yaml")]) == [
        "freeze=5 freezes other layers than in the base: layer 4 of mlla is [-1, 1, MLLABlock, []], that of the base "
        "not there"
    ]


def test_arms_may_have_other_numbers_of_weights():
    alike([(spec("a"), PROBE), (spec("b"), PROBE | {"groups": [{"lr": 0.1, "parameters": 9}]})])


def test_what_token_mixers_exempt_from_weight_decay_is_no_difference():
    norms = {"lr": 0.1, "weight_decay": 0.0, "param_group": "bn", "parameters": 3}
    weights = norms | {"weight_decay": 0.0005, "param_group": "weight"}
    exempt = norms | {"param_group": "no_weight_decay", "parameters": 1}
    base, arm = PROBE | {"groups": [weights, norms]}, PROBE | {"groups": [weights, norms, exempt]}
    alike([(spec("a"), base), (spec("b"), arm)])
    alike([(spec("a"), arm), (spec("b"), base)])
    with pytest.raises(RuntimeError, match="the same groups of weights, and b has"):
        alike([(spec("a"), base), (spec("b"), PROBE | {"groups": [weights, norms, exempt | {"lr": 0.2}]})])


CHANGES = {
    "optimizer": (
        {"optimizer": "SGD"},
        "arms need the same optimizer, and b has SGD where a has AdamW. Say it in the plan",
    ),
    "groups": (
        {"groups": [{"lr": 0.2, "parameters": 3}]},
        r"the same groups of weights, and b has \[{'lr': 0.2}\] where",
    ),
    "rates": ({"rates": [1.0, 0.4]}, r"the same learning rates, and b has \[1.0, 0.4\] where a has \[1.0, 0.5\]"),
    "batch": ({"accumulate": 2}, r"the same batch, and b has \[4, 2\] where a has \[4, 1\]"),
    "data": ({"batches": "b1"}, "the same first batches, and b has b1 where a has b0"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_arms_that_are_trained_otherwise(case):
    change, text = CHANGES[case]
    with pytest.raises(RuntimeError, match=text):
        alike([(spec("a"), PROBE), (spec("b"), PROBE | change)])


def test_what_a_training_begins_with_is_the_same_in_a_process_of_its_own(tmp_path, tiny, dataset):
    given = runs.write_spec(tmp_path / "run", tiny, dataset)
    assert guards.probed(given, Slot("cpu")) == runs.probed(given, Slot("cpu"))


def test_seeds_that_decide_nothing():
    seeded(PROBE, PROBE | {"batches": "b1"}, {})
    with pytest.raises(RuntimeError, match=r"two of them give the same batches with workers=3: .* train: {workers: 0}"):
        seeded(PROBE, PROBE, {"workers": 3})


def test_every_arm_and_one_other_seed_are_looked_at_once(tmp_path, monkeypatch):
    looked = []

    def _probed(given, slot):
        looked.append((given.arm, given.facts["pair"]))
        return PROBE | {"batches": f"b{given.facts['pair']}"}

    monkeypatch.setattr(guards, "probed", _probed)
    specs = [
        spec(arm, pair, role) for pair in (0, 1) for arm, role in (("a", "base"), ("b", "arm"), ("a again", "again"))
    ]
    for _ in range(2):
        check(tmp_path, specs, lambda given: given, [Slot("cpu")], lambda *_: None)
    assert looked == [("a", 0), ("b", 0), ("a", 1)]
    assert json.loads((tmp_path / guards.FILE).read_text())["passed"]
    check(tmp_path, [spec("a"), spec("c")], lambda given: given, [Slot("cpu")], lambda *_: None)
    assert looked[3:] == [("a", 0), ("c", 0)]
