"""The text of a model YAML after an edit: what its author wrote stays, in every form that YAML has for it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from yolomix.surgery import yamlfile
from yolomix.surgery.graph import Graph, Layer, sources
from yolomix.surgery.yamltext import rewritten

BLOCK = [-1, 1, "ZeroGate", ["MLLABlock"]]
AUTHORS = """\
# Copyright (c) 2025 Somebody. MIT licence.

nc: 3   # cats, dogs, birds
scales: # [depth, width, max_channels]
  n: [0.50, 0.25, 1024]   # nano
  s: [0.50, 0.50,  512]   # small
backbone:
  # [from, repeats, module, args]
  - [-1, 1, Conv,  [64, 3, 2]]          # 0-P1/2
  - [-1, 1, Conv,  [128, 3, 2]]         # 1-P2/4

  # the second stage
  - [-1, 2, C3k2,  [256, False, 0.25]]  # 2
  - [-1, 1, Conv,  [256, 3, 2]]         # 3 heads are not meant
# ---- head ----
head:
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]] # 4 (P2)
  - [[-1, 2], 1, Concat, [1]]           # cat backbone P2
  - [[-1], 1, Detect, [nc]]             # 6, Detect(P2)
"""


def known(graph: Graph) -> list[Layer]:
    """Its layers, all with one number of channels at one stride."""
    found = []
    for i, (f, n, module, _) in enumerate(graph.rows):
        given = (None, None) if i == len(graph.rows) - 1 else (64, 8)
        found.append(Layer(i, tuple(sources(f, i)), n, module, *given, 9, 6, i < len(graph.model["backbone"])))
    return found


def written(source: str, edit: Callable[[Graph], Graph], **keys: Any) -> str:
    """The author's text after an edit, which says what the edited rows say."""
    graph = edit(Graph.of({**yaml.safe_load(source), **keys}))
    text = rewritten(source, graph.model, graph.origin, known(graph))
    assert text is not None
    assert yaml.safe_load(text) == {key: value for key, value in graph.model.items() if key != "scale"}
    return text


def changed(source: str, edit: Callable[[Graph], Graph], **keys: Any) -> list[str]:
    """The lines that an edit changes, as diff shows them."""
    after = written(source, edit, **keys).splitlines()
    return [line for line in difflib.ndiff(source.splitlines(), after) if line[0] in "+-"]


def test_nothing_changes_where_nothing_was_edited() -> None:
    assert written(AUTHORS, lambda graph: graph) == AUTHORS


def test_a_new_row_stands_behind_its_row_and_indices_move() -> None:
    assert changed(AUTHORS, lambda graph: graph.insert([1, 3], BLOCK)) == [
        "+   - [-1, 1, ZeroGate, [MLLABlock]] # 2-P3/8, 64 channels",
        "-   - [-1, 2, C3k2,  [256, False, 0.25]]  # 2",
        "+   - [-1, 2, C3k2,  [256, False, 0.25]]  # 3",
        "+   - [-1, 1, ZeroGate, [MLLABlock]] # 5-P3/8, 64 channels",
        '-   - [-1, 1, nn.Upsample, [None, 2, "nearest"]] # 4 (P2)',
        '+   - [-1, 1, nn.Upsample, [None, 2, "nearest"]] # 6 (P2)',
        "-   - [[-1, 2], 1, Concat, [1]]           # cat backbone P2",
        "+   - [[-1, 3], 1, Concat, [1]]           # cat backbone P2",
        "-   - [[-1], 1, Detect, [nc]]             # 6, Detect(P2)",
        "+   - [[-1], 1, Detect, [nc]]             # 8, Detect(P2)",
    ]


def test_a_changed_row_is_changed_where_it_differs() -> None:
    assert changed(AUTHORS, lambda graph: graph.wrap(0, BLOCK).replace(2, [-1, 4, "C2f", [256, False, 0.25]])) == [
        "-   - [-1, 1, Conv,  [64, 3, 2]]          # 0-P1/2",
        "+   - [-1, 1, Chain,  [[1, Conv, [64, 3, 2]], [1, ZeroGate, [MLLABlock]]]]          # 0-P1/2",
        "-   - [-1, 2, C3k2,  [256, False, 0.25]]  # 2",
        "+   - [-1, 4, C2f,  [256, False, 0.25]]  # 2",
    ]


def test_a_row_goes_with_its_remark_and_leaves_what_stands_above_it() -> None:
    text = written(AUTHORS, lambda graph: graph.remove(2))
    assert "\n\n  # the second stage\n  - [-1, 1, Conv,  [256, 3, 2]]         # 3 heads are not meant\n" in text
    assert "# 3 (P2)" in text


def test_what_was_put_in_and_taken_out_leaves_no_trace() -> None:
    text = written(AUTHORS, lambda graph: graph.insert([1, 3], BLOCK))
    assert written(text, lambda graph: graph.remove(5).remove(2)) == AUTHORS


def test_a_remark_of_ours_is_written_anew() -> None:
    source = AUTHORS.replace("# 1-P2/4", "# 1-P2/4, 32 channels")
    assert "[128, 3, 2]]         # 1-P3/8, 64 channels\n" in written(source, lambda graph: graph)


def test_the_scale_in_use_comes_first_with_its_remark() -> None:
    (gone, came) = changed(AUTHORS, lambda graph: graph, scale="s")
    assert (gone[2:], came[2:]) in [(line, line) for line in AUTHORS.splitlines() if line[:4] in ("  s:", "  n:")]
    in_a_line = AUTHORS.replace(
        AUTHORS[AUTHORS.index("scales") : AUTHORS.index("backbone:")],
        "scales: {n: [0.5, 0.25, 9], s: [1, 1, 9]} # two\n",
    )
    assert "scales: {s: [1, 1, 9], n: [0.5, 0.25, 9]} # two\n" in written(in_a_line, lambda graph: graph, scale="s")


@pytest.mark.parametrize("imports", ["", "imports: old # mine\n"])
def test_another_key_is_added_or_changed_before_the_rows(imports: str) -> None:
    text = written(imports + AUTHORS, lambda graph: graph, imports=["old", "blocks"])
    assert ("imports: [old, blocks] # mine\n" if imports else "# small\nimports: [old, blocks]\nbackbone:\n") in text


FORMS = {
    "rows in rows": (
        "- [-1, 1, Conv,  [256, 3, 2]]         # 3",
        "- - -1\n    - 1\n    - Conv # so\n    - - 256\n      - 3\n      - 2 # 3",
    ),
    "a list over lines": (
        "[-1, 2, C3k2,  [256, False, 0.25]]",
        "[-1, 2,\n     C3k2, # why\n     [256, False, 0.25]]",
    ),
    "an alias": (
        "- [-1, 1, Conv,  [64, 3, 2]]          # 0-P1/2\n",
        "- [-1, 1, Conv, &conv [64, 3, 2]]\n  - [-1, 1, Conv, *conv]\n",
    ),
    "a row that is an alias": (
        "- [-1, 1, Conv,  [128, 3, 2]]         # 1",
        "- &row [-1, 1, Conv, [64, 3, 2]] # 1\n  - *row #",
    ),
    "a key said twice": ("nc: 3 ", "nc: 80 # of COCO\nnc: 3 "),
    "a tab in a remark": ("# 0-P1/2", "#\t0-P1/2"),
    "a document's beginning": ("nc: 3 ", "---\nnc: 3 "),
    "no end of the last line": ("# 6, Detect(P2)\n", "# 6, Detect(P2)"),
    "lines that end in two characters": ("\n", "\r\n"),
    "no indentation": ("\n  -", "\n-"),
    "no comments before": (AUTHORS[: AUTHORS.index("nc:")], ""),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_keeps_its_comments(form: str) -> None:
    source = AUTHORS.replace(*FORMS[form])
    assert source != AUTHORS
    comments = [line.partition("#")[2].strip() for line in source.splitlines() if "#" in line]
    for edit in (
        lambda graph: graph.insert([0, 3], BLOCK),
        lambda graph: graph.wrap(3, BLOCK),
        lambda graph: graph.insert([3, 4], BLOCK).replace(3, [-1, 1, "C2f", [256]]),
    ):
        text = written(source, edit)
        lost = [comment for comment in comments if comment not in text and not comment[0].isdigit()]
        assert lost == []


@pytest.mark.parametrize(
    "rows",
    [
        "[[-1, 1, Conv, [8]],  # 0-P1/2\n   [-1, 1, Conv, [16]],  # 1\n   [-1, 1, Conv, [32]]  # 2\n  ]",
        "[[-1, 1, Conv, [8]],  # 0-P1/2\n   [-1, 1, Conv, [16]],  # 1\n   [-1, 1, Conv, [32]]]  # 2",
        "[[-1, 1, Conv, [8]], [-1, 1, Conv, [16]], [-1, 1, Conv, [32]]]",
    ],
    ids=["as in YOLOv5", "closed in the last line", "in one line"],
)
def test_rows_in_brackets(rows: str) -> None:
    source = f"nc: 2 # two\nbackbone:\n  {rows}\nhead:\n  [[[1, 2], 1, Detect, [nc]]]  # 3\n"
    text = written(source, lambda graph: graph.insert([0, 1, 2], BLOCK))
    assert text.startswith("nc: 2 # two\n")
    if "# 1" in rows:
        assert "[[-1, 1, Conv, [8]],  # 0-P1/2\n   [-1, 1, ZeroGate, [MLLABlock]], # 1-P3/8, 64 channels\n" in text
        assert "\n   [-1, 1, Conv, [16]],  # 2\n   [-1, 1, ZeroGate" in text
    assert written(source, lambda graph: graph.remove(1)).count("Conv") == 2


@pytest.mark.parametrize(
    "source",
    [
        "nc: [",
        "- 1",
        AUTHORS.replace("- [-1, 1, Conv,  [64, 3, 2]]", "- &a [-1, 1, Conv,  [64, 3, 2]]\n  - *a"),
    ],
    ids=["broken", "no mapping", "one row more"],
)
def test_a_text_of_another_model_is_not_taken(source: str) -> None:
    graph = Graph.of(yaml.safe_load(AUTHORS)).insert([1], BLOCK)
    assert rewritten(source, graph.model, graph.origin, known(graph)) is None
    text = yamlfile.text(graph, known(graph), "mine.yaml", "mllablock", source)
    assert text.splitlines()[:3] == ["# mine.yaml, changed by yolomix: mllablock", "", "nc: 3"]


def test_an_anchored_row_that_others_repeat_is_not_changed_for_them() -> None:
    """The text is a plain one then: it has to say the right rows before it keeps comments."""
    rows = "- [-1, 1, Conv, [8]]\n- &a [0, 1, Conv, [8]] # a\n- *a\n"
    source = f"nc: 2\nbackbone:\n{rows}head: [[[1, 2], 1, Detect, [nc]]]\n"
    assert "- &a [1, 1, Conv, [8]] # a\n" in written(source, lambda graph: graph.insert([0], BLOCK))
    graph = Graph.of(yaml.safe_load(source)).replace(1, [-1, 1, "C2f", [8]])
    assert rewritten(source, graph.model, graph.origin, known(graph)) is None
    text = yamlfile.text(graph, known(graph), "mine.yaml", "mllablock", source)
    assert yaml.safe_load(text) == graph.model


def test_true_is_not_one() -> None:
    text = written(AUTHORS, lambda graph: graph.replace(2, [-1, 2, "C3k2", [256, 0, 0.25]]))
    assert "[256, 0, 0.25]" in text


def test_lines_of_ours_above_the_text_do_not_pile_up() -> None:
    once = Graph.of(yaml.safe_load(AUTHORS)).insert([1], BLOCK)
    first = yamlfile.text(once, known(once), "mine.yaml", "mllablock", AUTHORS)
    assert first.splitlines()[:5] == [
        "# mine.yaml, changed by yolomix: mllablock",
        yamlfile.KEPT,
        "",
        "# Copyright (c) 2025 Somebody. MIT licence.",
        "",
    ]
    twice = Graph.of(yaml.safe_load(first)).insert([4], BLOCK)
    owned = f"# Mine now.\n{yamlfile.files.SIGNED}0123\n{first}"
    second = yamlfile.text(twice, known(twice), "a.yaml", "mllablock", owned)
    assert second.splitlines()[:4] == ["# a.yaml, changed by yolomix: mllablock", yamlfile.KEPT, "", "# Mine now."]
    assert second.count("changed by yolomix") == second.count(yamlfile.KEPT) == 1
    assert "sha256" not in second


def test_a_plain_text_of_ours_is_the_authors_next_time() -> None:
    graph = Graph.of(yaml.safe_load(AUTHORS))
    plain = yamlfile.text(graph, known(graph), "model", "edited")
    again = Graph.of(yaml.safe_load(plain)).insert([1], BLOCK)
    text = yamlfile.text(again, known(again), "model-edited.yaml", "mllablock", plain)
    assert "  - [-1, 2, C3k2, [256, false, 0.25]] # 3-P3/8, 64 channels\n" in text
