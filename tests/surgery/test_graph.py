"""Rows in and out: the graph stays valid, every reader reads what it read, taking out gives the original back."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.surgery.models import MODEL, model
from yolomix.surgery.graph import Graph, check_sources, sources

BLOCK = [-1, 1, "MLLABlock", []]


@st.composite
def models(draw: st.DrawFn) -> dict:
    """A model whose every layer has a name of its own, with all three forms of `from`."""
    size = draw(st.integers(4, 14))
    rows: list = []
    for i in range(size):
        last = i == size - 1
        forms = st.one_of(st.just(-1), st.integers(0, max(i - 1, 0)), st.integers(-max(i, 1), -1))
        several = st.lists(forms, min_size=2, max_size=4)
        source = -1 if i == 0 else draw(several if last else st.one_of(forms, several))
        rows.append([source, draw(st.integers(1, 3)), f"M{i}", [i]])
    cut = draw(st.integers(1, size - 1))
    return {"nc": 2, "backbone": rows[:cut], "head": rows[cut:]}


def wiring(graph: Graph) -> dict[str, list[str]]:
    """Which module reads which, by name, looking through the inserted rows."""
    rows = graph.rows
    seen = [rows[i][2] for i in range(len(rows))]
    for i, origin in enumerate(graph.origin):
        if origin is None:
            seen[i] = seen[sources(rows[i][0], i)[0]]
    named = {r[2]: [seen[s] if s >= 0 else "" for s in sources(r[0], i)] for i, r in enumerate(rows)}
    return {name: reads for name, reads in named.items() if name != BLOCK[2]}


@settings(max_examples=150, deadline=None)
@given(st.data(), models())
def test_what_was_put_in_comes_out_again(data: st.DataObject, described: dict) -> None:
    first = graph = Graph.of(described)
    points = st.lists(st.integers(0, len(graph.rows) - 2), min_size=1, max_size=4)
    for _ in range(data.draw(st.integers(1, 3))):
        graph = graph.insert([graph.end(k) for k in data.draw(points)], BLOCK)
        check_sources(graph.rows)
        assert wiring(graph) == wiring(first)
    assert [graph.rows[i][2:] for i, k in enumerate(graph.origin) if k is not None] == [r[2:] for r in first.rows]
    while None in graph.origin:
        graph = graph.remove(data.draw(st.sampled_from([i for i, k in enumerate(graph.origin) if k is None])))
        check_sources(graph.rows)
        assert wiring(graph) == wiring(first)
    assert graph.model == described


@settings(max_examples=150, deadline=None)
@given(st.data(), models())
def test_readers_of_a_removed_row_read_what_it_read(data: st.DataObject, described: dict) -> None:
    graph = Graph.of(described)
    single = [i for i, r in enumerate(graph.rows[:-1]) if i and not isinstance(r[0], list)]
    if not single:
        return
    at = data.draw(st.sampled_from(single))
    before = wiring(graph)
    (source,) = before.pop(f"M{at}")
    without = graph.remove(at)
    assert wiring(without) == {m: [source if r == f"M{at}" else r for r in reads] for m, reads in before.items()}


@settings(max_examples=60, deadline=None)
@given(st.data(), models())
def test_a_wrap_changes_no_other_row(data: st.DataObject, described: dict) -> None:
    graph = Graph.of(described)
    at = data.draw(st.integers(0, len(graph.rows) - 2))
    wrapped = graph.wrap(at, BLOCK).wrap(at, BLOCK)
    old = graph.rows[at]
    assert wrapped.rows[at] == [old[0], 1, "Chain", [old[1:], BLOCK[1:], BLOCK[1:]]]
    assert [r for i, r in enumerate(wrapped.rows) if i != at] == [r for i, r in enumerate(graph.rows) if i != at]


def test_a_change_leaves_the_given_model_alone() -> None:
    given_model = model()
    graph = Graph.of(given_model)
    graph.insert([2], BLOCK).remove(1).wrap(3, BLOCK).rows[0][3].append("mine")
    assert given_model == MODEL
    assert graph.model == MODEL


def test_absolute_stays_absolute_and_relative_relative() -> None:
    graph = Graph.of(model()).insert([2, 7], BLOCK)
    assert [row[0] for row in graph.rows] == [-1, -1, -1, -1, -1, -1, -1, [-1, 3], -1, -1, -1, [-1, 5], -1, [9, 12]]
    assert graph.origin == (0, 1, 2, None, 3, 4, 5, 6, 7, None, 8, 9, 10, 11)
    assert len(graph.model["backbone"]) == 6


def test_a_row_after_the_last_of_the_backbone_belongs_to_the_backbone() -> None:
    assert Graph.of(model()).insert([4], BLOCK).model["backbone"][-1] == BLOCK


def test_end_is_the_last_graft() -> None:
    graph = Graph.of(model()).insert([4], BLOCK)
    assert (graph.position(4), graph.end(4), graph.end(3)) == (4, 5, 3)
    assert graph.insert([graph.end(4)], [-1, 1, "Second", []]).rows[6][2] == "Second"


def test_a_reader_of_minus_one_gets_a_relative_index_where_the_row_above_is_another() -> None:
    described = {
        "backbone": [[-1, 1, "A", []], [-1, 1, "B", []], [0, 1, "C", []]],
        "head": [[-1, 1, "D", []], [[1, 3], 1, "Head", []]],
    }
    graph = Graph.of(described).remove(2)
    assert graph.rows == [[-1, 1, "A", []], [-1, 1, "B", []], [-2, 1, "D", []], [[1, 2], 1, "Head", []]]


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (11, r"layer 11 \(Detect\) is the head; a model needs it"),
        (0, r"layer 0 \(Conv\) reads the image; only a layer that reads one layer can go"),
        (6, r"layer 6 \(Concat\) reads several layers \[5, 2\]"),
    ],
)
def test_what_cannot_be_removed(at: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Graph.of(model()).remove(at)


def test_a_removed_layer_has_no_position() -> None:
    graph = Graph.of(model()).remove(3)
    with pytest.raises(ValueError, match="layer 3 was removed"):
        graph.position(3)
    with pytest.raises(ValueError, match=r"layer 40 does not exist \(0 to 11\)"):
        graph.position(40)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d["head"][1].__setitem__(0, [-1, 9]), r"row 6 \(Concat\) reads layer 9; it can read layers 0 to 5"),
        (lambda d: d["head"][0].__setitem__(0, -7), r"row 5 \(nn.Upsample\) reads layer -2"),
        (lambda d: d["backbone"].__setitem__(1, ["Conv"]), r"row 1 is \['Conv'\]; a row is \[from, repeats"),
        (lambda d: d.pop("head"), "a model has rows under 'backbone' and 'head'; head missing"),
    ],
)
def test_bad_models(change, text: str) -> None:
    described = deepcopy(MODEL)
    change(described)
    with pytest.raises(ValueError, match=text):
        Graph.of(described)
