"""The verbs graft, edit and transfer: what they print, write and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.cli.commands import SMALL
from yolomix.cli import DONE, FAILED, USAGE, main
from yolomix.host import weights

V8 = "model=yolov8n.yaml"


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return weights.write(weights.from_yaml("yolov8n.yaml"), tmp_path_factory.mktemp("stock") / "stock.pt")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path / "small.yaml"


@pytest.fixture(scope="module")
def tensors(stock: Path) -> int:
    """How many the checkpoint has: 355 or 391, as Ultralytics builds its head."""
    return len(weights.read(stock).state_dict())


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main([*words, "--json"]) == DONE
    found: dict = json.loads(capsys.readouterr().out)
    return found


def test_a_plan_writes_nothing(stock: Path, tensors: int, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"model={stock}", "block=HaloAttention", "args=2,1", "at=p5,4", "plan=true"]
    assert main(["graft", *words]) == DONE
    out = capsys.readouterr().out
    assert "ZeroGate HaloAttention" in out.splitlines()[6]
    told = " ".join(out.split())  # wrapped to the width of the terminal
    assert "2 of 25 layers change, +657,792 parameters on " in told
    assert f"; {tensors} of {tensors} tensors keep their weights " in told
    assert told.endswith(" GFLOPs become 11.13, for an image of 640x640")
    assert [p.name for p in stock.parent.iterdir()] == ["stock.pt"]


def test_a_graft_is_written_and_answers_for_programs(stock: Path, tensors: int, tmp_path: Path, capsys) -> None:
    file = tmp_path / "a.pt"
    words = ("block=MLLABlock", "at=p5", "args=8", "mode=wrap", "seed=3", f"save={file}")
    found = answer(capsys, "graft", f"model={stock}", *words)
    assert (found["file"], found["missing"]) == (str(file), [])
    assert len(found["copied"]) == found["source_tensors"] == tensors
    assert [row["change"] for row in found["steps"]].count("wrapped") == 1
    assert file.with_suffix(".yaml").is_file()
    name = answer(capsys, "graft", f"model={stock}+MLLABlock(8)@p5:wrap", "plan=true")
    assert name["steps"] == found["steps"]


def test_arguments_by_name(small: Path, capsys) -> None:
    words = ("block=VSSBlock", "at=p5", "plan=true")
    named = answer(capsys, "graft", f"model={small}", *words, "args=mlp=plain")
    inside = answer(capsys, "graft", f"model={small.parent}/small+VSSBlock(mlp=plain)@p5.yaml", "plan=true")
    assert named["steps"] == inside["steps"]
    assert named["steps"] != answer(capsys, "graft", f"model={small}", *words)["steps"]


def test_stdout_is_the_answer_whatever_ultralytics_says(stock: Path, tmp_path: Path, capsys) -> None:
    found = answer(capsys, "transfer", f"source={stock}", "target=yolov8.yaml", f"save={tmp_path / 'a.pt'}")
    assert found["copied"]
    assert main(["graft", f"model={tmp_path / 'none.pt'}", "block=MLLABlock", "at=p5"]) == FAILED
    assert capsys.readouterr().out == ""


def test_a_yaml_from_a_checkpoint_says_that_it_has_no_weights(stock: Path, tmp_path: Path, caplog) -> None:
    words = (f"model={stock}", "block=MLLABlock", "at=p5", f"save={tmp_path / 'a.yaml'}")
    assert main(["graft", *words]) == DONE
    assert f"a.yaml has no weights: those of {stock} need save=FILE.pt" in caplog.text


def test_edits(stock: Path, tensors: int, capsys) -> None:
    words = ("remove=9", "swap=C2f:XSSBlock", "within=neck", "repeats=4:3", "plan=true")
    found = answer(capsys, "edit", f"model={stock}", *words)
    changes = {row["old"]: row["change"] for row in found["steps"] if row["change"]}
    assert changes == {4: "changed", 9: "gone", 12: "changed", 15: "changed", 18: "changed", 21: "changed"}
    assert found["kept"] < found["tensors"] == tensors


@pytest.mark.usefixtures("few_repetitions")
def test_a_plan_for_another_size_and_timed(small: Path, capsys) -> None:
    words = (f"model={small}", "block=MLLABlock", "at=p5", "plan=true", "profile=true", "imgsz=64,96")
    found = answer(capsys, "graft", *words)
    assert found["imgsz"] == [64, 96]
    assert [model["flops"] for model in found["measured"]["models"]] == [cost["flops"] for cost in found["costs"]]
    assert main(["graft", *words]) == DONE
    told = capsys.readouterr().out.splitlines()
    assert any(line.endswith(", for an image of 64x96") for line in told)
    assert any(" times as long (cpu" in line for line in told)


def test_transfer(stock: Path, tensors: int, tmp_path: Path, capsys) -> None:
    file = tmp_path / "new.pt"
    found = answer(capsys, "transfer", f"source={stock}", "target=yolov8n+MLLABlock@4.yaml", f"save={file}")
    assert (found["file"], found["missing"]) == (str(file), [])
    assert len(found["copied"]) == found["source_tensors"] == tensors
    assert main(["transfer", f"source={stock}", "target=yolov8n.yaml", f"save={file}"]) == DONE
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[:3] == ["layer", "module", "copied"]
    assert out.splitlines()[-1] == f"file: {file}"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["graft", "block=MLLABlock"], USAGE, "graft needs model=, as in: yolomix graft model=yolo11n.pt"),
        (["graft", V8], USAGE, "graft needs block=, at="),
        (["graft", V8, "block=MLLABlock", "at=p5", "n=x"], USAGE, "n must be a whole number of at least 1, got 'x'"),
        (["graft", V8, "block=MLLABlock", "at=p5", "gate=no"], USAGE, "gate must be true or false, got 'no'"),
        (["graft", V8, "block=MLLABlock", "at=9", "mode=replace", "gate=true"], FAILED, "leaves no way around"),
        (["graft", V8, "block=MLLABlock", "at=p5", "args=2,x"], FAILED, "'2,x' as arguments: needed a number"),
        (["graft", V8, "block=MLLBlock", "at=p5"], FAILED, "no block 'MLLBlock'; did you mean MLLABlock"),
        (["graft", "model=yolov8n+MLLABlock@p6.yaml"], FAILED, "no insertion point 'p6'; did you mean p5"),
        (["edit", V8], USAGE, "edit needs remove=, swap= or repeats="),
        (["edit", V8, "swap=C2f"], USAGE, "swap must be OLD:NEW, got 'C2f'"),
        (["transfer", "source=a.pt"], USAGE, "transfer needs target=, save="),
    ],
)  # fmt: skip
def test_what_is_refused(words: list[str], code: int, text: str, capsys) -> None:
    assert main(words) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert text in said.err
