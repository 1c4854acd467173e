"""Ultralytics' own command line: what it takes, and what its methods returned."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ultralytics import cfg
from ultralytics.engine.model import Model

from yolomix.host import entry


def test_what_a_method_returned_is_kept_and_everything_put_back(monkeypatch):
    model, native, argv = Model.__new__(Model), Model.val, cfg.ARGV

    def carried_out():
        assert cfg.ARGV == ["yolo", "val", "model=a.pt"]
        Model.val(model, data="b.yaml")

    monkeypatch.setattr(Model, "val", lambda self, **given: given)
    stand_in = Model.val
    monkeypatch.setattr(cfg, "entrypoint", carried_out)
    assert entry.entrypoint("val", ["model=a.pt"]) == (model, {"data": "b.yaml"})
    assert argv == cfg.ARGV
    assert Model.val is stand_in is not native


@pytest.mark.parametrize(
    ("text", "described"), [("backbone: []\n", True), ("names: [a]\n", False), ("a: [\n", True), ("- 1\n", True)]
)
def test_a_model_yaml_has_a_backbone(text, described, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    assert entry.describes_a_model(file) == described


def test_metrics():
    assert entry.metrics(SimpleNamespace(results_dict={"fitness": 1})) == {"fitness": 1.0}
    assert entry.metrics(None) == {}


def test_old_names_are_known():
    assert entry.was_known("hide_labels")
    assert not entry.was_known("no_such_argument")
