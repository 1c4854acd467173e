"""One writer: every verb's answer as JSON, and as text and tables."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.cli.test_demo import OUTCOME
from tests.test_records import CONDITIONS
from yolomix import demo
from yolomix.cli import DONE, main
from yolomix.cli.answer import Answer, Listing, Table, write
from yolomix.cli.verbs import VERBS
from yolomix.host import entry, weights
from yolomix.studying.folder import claim
from yolomix.studying.plan import Plan
from yolomix.verifying import verifying
from yolomix.verifying.values import Check, Verification

V8 = "model=yolov8n.yaml"
MODEL = SimpleNamespace(trainer=SimpleNamespace(best=Path("best.pt")), ckpt_path=Path("best.pt"))
METRICS = SimpleNamespace(save_dir=Path("runs"), results_dict={"fitness": torch.tensor(0.5)})
IMAGE = SimpleNamespace(path="a.jpg", save_dir=None, summary=lambda: [{"name": "cat", "box": {}}])

RIGHT = Verification(Path("best.onnx"), "best.pt", CONDITIONS, checks=(Check("outputs", True, "1x84x84", "finite"),))

# Words for every verb of ours, and what Ultralytics returns for the others.
WORDS = {
    "demo": ["epochs=1"],
    "graft": [V8, "block=MLLABlock", "at=p5"],
    "edit": [V8, "remove=9"],
    "transfer": ["source=source.pt", "target=yolov8n.yaml", "save=target.pt"],
    "models": [],
    "profile": ["model=yolov8n-cls.yaml", "imgsz=32"],
    "verify": ["model=yolov8n.yaml", "file=best.onnx"],
    "export-matrix": [V8, "formats=paddle", "precision=16"],
    "study": ["study"],
    "figures": ["insertion", "models=yolov8n.yaml", "imgsz=32"],
    "blocks": [],
    "doctor": [],
    "completion": ["bash"],
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
def work(tmp_path, few_repetitions, monkeypatch):
    """An empty folder with a checkpoint; the demo and Ultralytics do nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "run", lambda *_: OUTCOME)
    monkeypatch.setattr(verifying, "verify", lambda *_: RIGHT)
    monkeypatch.setattr(entry, "entrypoint", lambda verb, words: (MODEL, RESULTS[verb]))


def test_every_verb_is_tried():
    assert {*WORDS, *RESULTS} == {*VERBS}


@pytest.mark.parametrize("verb", VERBS)
def test_every_answer_is_json_and_text(verb, work, capsys):
    words = WORDS.get(verb, [V8, "data=sample", "source=a.jpg"])
    if verb == "transfer":
        weights.write(weights.from_yaml("yolov8n.yaml"), "source.pt")
    if verb == "study":
        plan = Plan.of(data="sample", arms={"a": "yolov8n.yaml", "b": "yolov8s.yaml"}, base="a", seeds=[0, 1, 2])
        Path("study").mkdir()
        claim(plan, Path("study"), {}, [])
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
    write(Answer({}, ["first", Table(("head", "[b]"), [("a", "[red]b")]), Table((), [("last",)])]), as_json=False)
    assert capsys.readouterr().out.splitlines() == ["first", "head  [b]", "a     [red]b", "last"]


@pytest.mark.parametrize("columns", [40, 80])
def test_a_table_is_as_wide_as_the_terminal_at_most(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    write(Answer({}, [Table(("op", "here"), [("scan", "no CUDA device here; " * 9)])]), as_json=False)
    out = capsys.readouterr().out
    assert out.count("no CUDA") + out.count("no\n") == 9
    assert columns - 10 < max(map(len, out.splitlines())) <= columns


LISTING = Listing(Table(("name", "size"), [("a b", "1 M")]), "more", [("a b", "1000000")])


def test_a_listing_is_a_table_in_a_terminal_and_has_tabs_elsewhere(capsys, monkeypatch):
    write(Answer({}, [LISTING]), as_json=False)
    assert capsys.readouterr().out == "a b\t1000000\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    write(Answer({}, [LISTING]), as_json=False)
    assert capsys.readouterr().out.splitlines() == ["name  size", "a b   1 M", "", "more"]


@pytest.mark.parametrize(("encoding", "written"), [("ascii", b"\\u0394 \\udcff\n"), ("utf-8", b"\xce\x94 \\udcff\n")])
def test_what_an_encoding_lacks_is_escaped(encoding, written, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding, newline="\n"))
    write(Answer({}, ["\u0394 \udcff"]), as_json=False)
    assert sys.stdout.buffer.getvalue() == written
