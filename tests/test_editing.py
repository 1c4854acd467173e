"""A model edit: one method per operation, immutable, planned before it is applied, on a model of a few rows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
import ultralytics

import yolomix
from tests.tiny import TINY, description
from yolomix import ModelEdit, files
from yolomix.host import weights
from yolomix.surgery.grammar import GraftNameError

PACKAGE = Path(yolomix.__file__).parent

OPERATIONS: dict[str, Callable[[ModelEdit], ModelEdit]] = {
    "insert": lambda e: e.insert("MLLABlock", "p3", [4]),
    "insert without a gate": lambda e: e.insert("MLLABlock", ["p3", "head-inputs"], {"num_heads": 4}, gate=False),
    "wrap": lambda e: e.wrap("HaloAttention", "head-inputs", (2, 1, 8, 2), n=2),
    "replace": lambda e: e.replace("MLLABlock", 6, n=2),
    "remove": lambda e: e.remove("MLLAttention"),
    "swap": lambda e: e.swap("C2PSAMLLA", "C2f"),
    "repeats": lambda e: e.repeats(4, 3),
    "several": lambda e: e.remove(6).wrap("MLLABlock", 1).insert("MLLABlock", 1).repeats(4, 1),
}


@pytest.fixture(params=OPERATIONS)
def operation(request: pytest.FixtureRequest) -> Callable[[ModelEdit], ModelEdit]:
    return OPERATIONS[request.param]


def contents(folder: Path) -> dict[str, Any]:
    """What the files of a folder hold: texts, and the tensors of checkpoints."""
    found: dict[str, Any] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix == ".pt":
            state = weights.read(file).state_dict()
            found[file.name] = {name: tensor.tolist() for name, tensor in state.items()}
        else:
            assert files.is_ours(file)
            text = file.read_text("utf-8").partition("\n")[2]  # the first line has the digest of the rest
            found[file.name] = text.replace(str(folder), "FOLDER")
    return found


def test_an_operation_gives_a_new_edit_and_leaves_the_old(operation: Callable[[ModelEdit], ModelEdit]) -> None:
    base = yolomix.edit(description())
    model, graph = deepcopy(base.base.model), deepcopy(base.graph)
    changed = operation(base)
    assert changed is not base
    assert changed.base is base.base
    assert changed.graph != graph
    assert (base.base.model, base.graph, base.suffix) == (model, graph, "")
    assert operation(base) == changed


def test_the_rows_of_an_edit_are_not_those_of_its_plan(operation: Callable[[ModelEdit], ModelEdit]) -> None:
    change = operation(yolomix.edit(description()))
    graph = deepcopy(change.graph)
    plan = change.plan()
    assert change.graph == graph == plan.graph
    assert change.plan() == plan
    with pytest.raises(AttributeError, match="cannot assign to field 'graph'"):
        change.graph = graph  # type: ignore[misc]


def test_a_plan_writes_what_the_edit_writes(operation: Callable[[ModelEdit], ModelEdit], tmp_path: Path) -> None:
    torch.manual_seed(0)
    checkpoint = weights.write(ultralytics.YOLO(yaml_of(tmp_path / "base.yaml")).model, tmp_path / "base.pt")
    change = operation(yolomix.edit(checkpoint))
    plan = change.plan()
    for name, applied in (("edit", change), ("plan", plan)):
        (tmp_path / name).mkdir()
        done = applied.apply(tmp_path / name / "a.pt", seed=3)
        assert done.report is not None
        assert len(done.report.copied) >= plan.kept
    assert contents(tmp_path / "plan") == contents(tmp_path / "edit")


def yaml_of(file: Path) -> Path:
    return yolomix.edit(description()).apply(file).file


def test_what_is_written_is_what_was_planned(operation: Callable[[ModelEdit], ModelEdit], tmp_path: Path) -> None:
    change = operation(yolomix.edit(description()))
    done = change.apply(tmp_path / "a.yaml")
    again = yolomix.edit(done.yaml)
    assert again.graph.rows == change.graph.rows
    plan = change.plan()
    model = ultralytics.YOLO(done.file).model
    assert plan.parameters + plan.parameters_added == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("before", ["", "\ufeff"], ids=["", "with a byte order mark"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_what_somebody_wrote_in_a_model_yaml_stays(tmp_path: Path, before: str, newline: str) -> None:
    text = "# MIT licence\n" + TINY.replace("[32, 3, 2]]\n", "[32, 3, 2]]   # mine\n").replace("[nc]]", "[nc]] # 7")
    (tmp_path / "yolo0-mine.yaml").write_text(before + text, "utf-8", newline=newline)
    once = yolomix.graft(tmp_path / "yolo0s-mine.yaml", "MLLABlock", "p3", args=[4]).apply(tmp_path / "a.yaml")
    head, _, kept = once.yaml.read_text("utf-8").partition("\n\n")
    assert f"# {tmp_path / 'yolo0s-mine.yaml'}, changed by yolomix: mllablock\n" in head
    assert kept.startswith("# MIT licence\n\nnc: 2\nscales: # [depth, width, max_channels]\n  s: [1.0, 1.0, 64]\n  n:")
    assert kept.count("[32, 3, 2]]   # mine\n") == 3
    assert "  - [[5, 7], 1, Detect, [nc]] # 8\n" in kept
    twice = yolomix.edit(once.file).remove(5).apply(tmp_path / "b.yaml")
    again = twice.yaml.read_text("utf-8").partition("\n\n")[2]
    assert sorted(again.splitlines()) == sorted(text.splitlines())  # the scale in use came first
    assert len(ultralytics.YOLO(twice.file).model.model) == 8


def test_the_licence_of_a_yaml_of_ultralytics_and_of_a_packaged_one_stays(tmp_path: Path) -> None:
    text = yolomix.graft("yolo11n.yaml", "MLLABlock", "p5").apply(tmp_path / "a.yaml").yaml.read_text("utf-8")
    assert "AGPL-3.0" in text
    assert "  - [-1, 2, C3k2, [1024, True]] # 23 (P5/32-large)\n" in text
    packaged = yolomix.graft("yolo11s-halo.yaml", "MLLABlock", "p5").apply(tmp_path / "b.yaml").yaml.read_text("utf-8")
    assert "scales: # [depth, width, max_channels]\n  s:" in packaged


def test_rows_of_every_operation() -> None:
    base = yolomix.edit(description())

    def rows(name: str) -> list[Any]:
        return OPERATIONS[name](base).graph.rows

    assert rows("insert")[5] == [-1, 1, "ZeroGate", ["MLLABlock", [4]]]
    assert rows("insert without a gate")[5] == [-1, 1, "MLLABlock", [{"num_heads": 4}]]
    chain = [[1, "MLLAttention", []], [2, "ZeroGate", ["HaloAttention", [2, 1, 8, 2]]]]
    assert rows("wrap")[6] == [-1, 1, "Chain", chain]
    assert rows("replace")[6] == [-1, 2, "MLLABlock", []]
    assert rows("remove")[6] == [[4, 5], 1, "Detect", ["nc"]]
    assert rows("swap")[4] == [-1, 2, "C2f", [32]]
    assert rows("repeats")[4] == [-1, 3, "C2PSAMLLA", [32]]


@pytest.mark.parametrize("mode", ["after", "wrap", "replace"])
def test_graft_is_the_method_of_its_mode(mode: str) -> None:
    base = yolomix.edit(description())
    method = {"after": base.insert, "wrap": base.wrap, "replace": base.replace}[mode]
    one_line = yolomix.graft(description(), "MLLABlock", 6, mode, [4], 2)
    assert one_line.graph == method("MLLABlock", 6, [4], 2).graph
    assert yolomix.graft(base, "MLLABlock", 6, mode, [4], 2) == one_line


def test_an_edit_of_an_edit_is_that_edit() -> None:
    change = yolomix.edit(description()).remove(6)
    assert yolomix.edit(change) is change


def test_a_name_with_grafts_is_an_edit_of_its_base(tiny: Path) -> None:
    named = yolomix.edit(f"{tiny}+MLLABlock(4)@p3:wrap+HaloAttention(2,1,8,2)@head-inputs.yaml")
    chained = yolomix.edit(tiny).wrap("MLLABlock", "p3", (4,)).insert("HaloAttention", "head-inputs", (2, 1, 8, 2))
    assert named == chained
    assert named.base.name == str(tiny)
    # So layer indices are those of the base here, too.
    assert named.remove(6).graph.rows == chained.remove(6).graph.rows


def test_a_graft_in_a_name_that_does_not_fit_is_pointed_at(tiny: Path) -> None:
    with pytest.raises(GraftNameError, match="no insertion point 'p9'") as caught:
        yolomix.edit(f"{tiny}+MLLABlock@p3+MLLABlock@p9.yaml")
    shown, pointer = str(caught.value).splitlines()[-2:]
    assert shown[pointer.index("^") :].startswith("MLLABlock@p9")


def test_a_file_of_exactly_that_name_comes_first(tiny: Path, tmp_path: Path) -> None:
    file = yolomix.edit(tiny).apply(tmp_path / "yolo0n+MLLABlock@p3.yaml").file
    assert yolomix.edit(file).graph.rows == yolomix.edit(tiny).graph.rows
    folder = tmp_path / "a+b"
    folder.mkdir()
    assert yolomix.edit(yolomix.edit(tiny).apply(folder / "a.yaml").file).base.name == str(folder / "a.yaml")


def test_an_exported_model_has_no_rows() -> None:
    with pytest.raises(
        ValueError, match=r"needs a model YAML or a checkpoint \(.pt\), got the exported model 'a.onnx'"
    ):
        yolomix.edit("a.onnx")


def test_it_shows_what_it_is() -> None:
    change = yolomix.edit(description()).remove(6).repeats(4, 1).insert("MLLABlock", 4)
    assert repr(change) == "<ModelEdit model-edited-mllablock: .plan() shows what changes, .apply() writes it>"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda e: e.insert("MLLABlock", "p3", n=0), "n is how often the block is repeated, at least 1, got 0"),
        (lambda e: e.replace("MLLABlock", 6, n=0), "at least 1, got 0"),
        (lambda e: e.repeats(4, 0), "repeats are at least 1, got 0; to take a layer out use remove"),
        (lambda e: e.remove(7), r"layer 7 \(Detect\) is the head"),
        (lambda e: e.remove(6).remove(6), "layer 6 was removed"),
        (lambda e: e.swap("C9", "C2f"), "no layer 'C9' in the model"),
        (lambda e: e.remove(3).plan(), r"layer 4 \(C2PSAMLLA\) gives 16 channels at stride 8 and would give 16"),
        (lambda e: yolomix.graft(e, "MLLABlock", 6, "befor"), "mode is one of after, wrap, replace, got 'befor'"),
        (lambda e: yolomix.graft(e, "MLLABlock", 6, "replace", gate=True), "mode='replace' leaves no way around"),
    ],
)
def test_what_is_refused(change: Callable[[ModelEdit], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        change(yolomix.edit(description()))


def entered(call: Callable[[], object]) -> set[str]:
    """The files of the package that a call enters, without those that it enters to import or to build a model."""
    found: set[str] = set()
    building: list[FrameType] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        file = frame.f_code.co_filename
        if event == "call" and frame.f_code.co_name == "parse_model" and not building:
            building.append(frame)
        if event == "return" and building and frame is building[0]:
            building.clear()
        if event == "call" and not building and file.startswith(str(PACKAGE)):
            found.add(Path(file).relative_to(PACKAGE).as_posix())

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


def test_a_graft_request_enters_few_files() -> None:
    graft = yolomix.graft

    def request() -> None:
        graft("yolo11n.yaml", "HaloAttention", at="p5", args=[2, 1]).plan()

    request()  # imports are done once
    ours = {file for file in entered(request) if file.split("/")[0] not in ("nn", "ops", "hooks")}
    assert ours == {
        "editing.py",
        "host/names.py",
        "host/survey.py",
        "surgery/graph.py",
        "surgery/insertion.py",
        "surgery/steps.py",
    }
