"""One writer: every verb's answer as JSON, and as text and tables."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.cli.test_demo import OUTCOME
from yolomix import demo
from yolomix.cli import DONE, main
from yolomix.cli.answer import Answer, Table, write
from yolomix.cli.verbs import VERBS
from yolomix.host import entry, weights

V8 = "model=yolov8n.yaml"
MODEL = SimpleNamespace(trainer=SimpleNamespace(best=Path("best.pt")), ckpt_path=Path("best.pt"))
METRICS = SimpleNamespace(save_dir=Path("runs"), results_dict={"fitness": torch.tensor(0.5)})
IMAGE = SimpleNamespace(path="a.jpg", save_dir=None, summary=lambda: [{"name": "cat", "box": {}}])

# Words for every verb of ours, and what Ultralytics returns for the others.
WORDS = {
    "demo": ["epochs=1"],
    "graft": [V8, "block=MLLABlock", "at=p5"],
    "edit": [V8, "remove=9"],
    "transfer": ["source=source.pt", "target=yolov8n.yaml", "save=target.pt"],
    "models": [],
    "blocks": [],
    "doctor": [],
    "version": [],
}
RESULTS = {
    "train": METRICS,
    "val": METRICS,
    "predict": [IMAGE],
    "track": [IMAGE, IMAGE],
    "export": Path("best.onnx"),
    "benchmark": "| onnx |",
}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder with a checkpoint; the demo and Ultralytics do nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "run", lambda *_: OUTCOME)
    monkeypatch.setattr(entry, "entrypoint", lambda verb, words: (MODEL, RESULTS[verb]))


def test_every_verb_is_tried():
    assert {*WORDS, *RESULTS} == {*VERBS}


@pytest.mark.parametrize("verb", VERBS)
def test_every_answer_is_json_and_text(verb, work, capsys):
    words = WORDS.get(verb, [V8, "data=sample"])
    if verb == "transfer":
        weights.write(weights.from_yaml("yolov8n.yaml"), "source.pt")
    for program in (True, False):
        assert main([verb, *words, *(["--json"] if program else [])]) == DONE
        out = capsys.readouterr().out
        assert out.endswith("\n")
        if program:
            assert json.loads(out)
            assert out.count("\n") == 1
        for file in ("yolov8n-mllablock.yaml", "yolov8n-edited.yaml"):
            Path(file).unlink(missing_ok=True)


def test_people_see_texts_and_tables_in_order(capsys):
    write(Answer({}, ["first", Table(("head", "[b]"), [("a", "[red]b")], "title"), "last"]), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == ("first", "last")
    assert "title" in lines[1]
    assert "│ a    │ [red]b │" in lines


def test_numbers_stand_to_the_right(capsys):
    write(Answer({}, [Table(("number",), [("1",)], numbers=True)]), as_json=False)
    assert "│      1 │" in capsys.readouterr().out
