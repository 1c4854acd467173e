"""Steps of a plan: one per layer of the new model, those that go where they were, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.surgery.models import layers, model
from yolomix.surgery.graph import Graph, Layer
from yolomix.surgery.steps import HEAD, Step, compare, gain, held

GRAPH = Graph.of(model())
BLOCK = [-1, 1, "ZeroGate", ["MLLABlock"]]


def after(graph: Graph) -> list[Layer]:
    """What a survey would say of a changed graph: old layers as they were, new ones as the layer before them."""
    old, found = layers(), []
    for index, (row, origin) in enumerate(zip(graph.rows, graph.origin, strict=True)):
        known = old[origin] if origin is not None else replace(found[-1], parameters=7, tensors=2)
        found.append(replace(known, index=index, module=row[2]))
    return found


def steps_of(graph: Graph) -> list[Step]:
    return list(compare(graph, layers(), GRAPH.rows, after(graph)))


def test_nothing_changes() -> None:
    steps = steps_of(GRAPH)
    assert [(s.old, s.new, s.change) for s in steps] == [(k, k, "") for k in range(12)]
    assert sum(s.parameters_added for s in steps) == 0
    assert sum(s.tensors_kept for s in steps) == 12 * 6


def test_a_new_row_moves_the_others() -> None:
    steps = steps_of(GRAPH.insert([4], BLOCK))
    assert [(s.old, s.new, s.change) for s in steps[3:7]] == [(3, 3, ""), (4, 4, ""), (None, 5, "new"), (5, 6, "")]
    assert (steps[5].module, steps[5].parameters_added, steps[5].tensors_kept) == ("ZeroGate MLLABlock", 7, 0)


def test_what_goes_stands_where_it_was() -> None:
    steps = steps_of(GRAPH.remove(4).remove(3))
    assert [(s.old, s.new, s.change) for s in steps[2:6]] == [
        (2, 2, ""),
        (3, None, "gone"),
        (4, None, "gone"),
        (5, 3, ""),
    ]
    assert [s.parameters_added for s in steps[3:5]] == [-103, -104]
    assert [s.tensors_kept for s in steps[3:5]] == [0, 0]


@pytest.mark.parametrize(
    ("graph", "change", "kept"),
    [
        (GRAPH.wrap(4, BLOCK), "wrapped", 6),
        (GRAPH.wrap(4, BLOCK).wrap(4, BLOCK), "wrapped", 6),
        (GRAPH.replace(4, [-1, 3, "C3k2", [512, False]]), "changed", 0),
        (GRAPH.replace(4, [-1, 2, "XSSBlock", [512]]), "changed", 0),
    ],
)
def test_rows_that_stay_in_their_place(graph: Graph, change: str, kept: int) -> None:
    step = steps_of(graph)[4]
    assert (step.old, step.new, step.change, step.tensors_kept) == (4, 4, change, kept)


def test_a_chain_that_becomes_longer_is_wrapped_once_more() -> None:
    once = GRAPH.wrap(4, BLOCK)
    twice = once.wrap(4, BLOCK)
    found = compare(replace(twice, origin=tuple(range(12))), after(once), once.rows, after(twice))
    assert found[4].change == "wrapped"
    assert found[4].module == "C3k2 + ZeroGate MLLABlock + ZeroGate MLLABlock"


def test_other_channels_or_strides_are_refused() -> None:
    new = after(GRAPH)
    new[3] = replace(new[3], stride=4)
    text = r"layer 3 \(Conv\) gives 64 channels at stride 8 and would give 64 at stride 4 as layer 3 \(Conv\)"
    with pytest.raises(ValueError, match=text):
        compare(GRAPH, layers(), GRAPH.rows, new)


def test_a_step_for_programs_and_for_people() -> None:
    step = steps_of(GRAPH.insert([4], BLOCK))[5]
    assert step.to_dict() == {
        "old": None,
        "new": 5,
        "change": "new",
        "module": "ZeroGate MLLABlock",
        "channels": 128,
        "stride": 8,
        "parameters_added": 7,
    }
    assert json.loads(json.dumps(step.to_dict())) == step.to_dict()
    assert step.cells() == ("-", "5", "new", "ZeroGate MLLABlock", "128", "8", "+7")
    assert len(step.cells()) == len(HEAD)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ([-1, 2, "C3k2", [64]], "C3k2"),
        ([-1, 1, "SameWidth", ["C2PSAMLLA", [2]]], "SameWidth C2PSAMLLA"),
        ([-1, 1, "Chain", [[2, "C3k2", [64]], [1, "ZeroGate", ["MLLABlock"]]]], "C3k2 + ZeroGate MLLABlock"),
    ],
)
def test_what_a_row_holds(row: list, text: str) -> None:
    assert held(row) == text


@pytest.mark.parametrize(("parameters", "text"), [(0, ""), (1234, "+1,234"), (-56, "-56")])
def test_a_gain_has_its_sign(parameters: int, text: str) -> None:
    assert gain(parameters) == text
