"""The text of a model YAML: it reads back as the model, its scale comes first, and its rows have remarks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from tests.surgery.models import layers, model
from yolomix.surgery import yamlfile
from yolomix.surgery.graph import Graph


def test_it_reads_back_as_the_model() -> None:
    described = model()
    described["head"][2] = [
        -1,
        1,
        "Chain",
        [[2, "C3k2", [256, False]], [1, "ZeroGate", ["MLLABlock", [{"mlp": None}]]]],
    ]
    read = yaml.safe_load(yamlfile.text(Graph.of(described), layers(), "mine", "edited"))
    assert read == {key: value for key, value in described.items() if key != "scale"}


@pytest.mark.parametrize(("scale", "first"), [("s", "s"), ("n", "n"), (None, "n")])
def test_the_scale_in_use_comes_first(scale: str | None, first: str) -> None:
    read = yaml.safe_load(yamlfile.text(Graph.of({**model(), "scale": scale}), layers(), "mine", "edited"))
    assert next(iter(read["scales"])) == first
    assert read["scales"] == model()["scales"]


def test_rows_have_remarks() -> None:
    odd = layers()
    odd[3] = replace(odd[3], stride=12)
    lines = yamlfile.text(Graph.of(model()), odd, "one\n\ntwo", "edited").splitlines()
    assert lines[:4] == ["# one", "#", "# two, changed by yolomix: edited", ""]
    assert "  - [-1, 2, C3k2, [256, false, 0.25]] # 2-P2/4, 64 channels" in lines
    assert "  - [-1, 1, Conv, [256, 3, 2]] # 3, 64 channels" in lines
    assert lines[-1] == "  - [[7, 10], 1, Detect, [nc]] # 11"
