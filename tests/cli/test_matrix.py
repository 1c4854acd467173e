"""The verb ``export-matrix``: what is asked for, and what is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yolomix.cli import DONE, USAGE, main
from yolomix.matrix import filling
from yolomix.matrix.values import Cell, Key, Matrix


@pytest.fixture
def asked(monkeypatch):
    """The arguments with which cells were asked for; one is found."""
    found = []

    def export_matrix(*given):
        found.append(given[:-1])
        key = Key("a.pt", "0123", "onnx", "FP16", "64")
        return Matrix((Cell(key, {"converts": "True", "agrees": "True", "boxes": "1.0e-03", "packages": "onnx 1"}),))

    monkeypatch.setattr(filling, "export_matrix", export_matrix)
    return found


def test_without_a_model_the_zoo_is_asked_for_in_every_format_and_precision(asked):
    assert main(["export-matrix"]) == DONE
    path = Path("runs/export-matrix/matrix.csv")
    assert asked == [(filling.MODELS, [*filling.PACKAGES], [32, 16, 8], 64, 300, None, path)]


def test_models_formats_and_precisions_of_ones_own(asked, capsys):
    words = ["model=a.pt", "model=b+HaloAttention(2,1)@p4,p5.yaml", "formats=onnx,ncnn", "precision=16", "imgsz=320",
             "limit=60", "data=sample", "out=t.csv"]  # fmt: skip
    assert main(["export-matrix", *words]) == DONE
    models = ["a.pt", "b+HaloAttention(2,1)@p4,p5.yaml"]
    assert asked == [(models, ["onnx", "ncnn"], [16], 320, 60, "sample", Path("t.csv"))]
    assert capsys.readouterr().out.splitlines() == [
        "model  format  precision",
        "a.pt   onnx    FP16       agrees 1.0e-03",
        "",
        "1 of 1 cells measured, 1 agree",
        "t.csv and t.md",
    ]


def test_json_has_a_number_where_there_is_one_and_null_elsewhere(asked, capsys):
    assert main(["export-matrix", "out=t", "--json"]) == DONE
    answer = json.loads(capsys.readouterr().out)
    assert answer["file"] == str(Path("t/matrix.csv"))
    (cell,) = answer["cells"]
    assert (cell["imgsz"], cell["converts"], cell["boxes"], cell["scores"]) == (64, True, 0.001, None)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("formats=onyx", "export-matrix knows no format 'onyx'; did you mean onnx?"),
        ("formats=onnx,-", "export-matrix knows no format '-'; "),
        ("precision=32,4", "precision must be some of 32, 16, 8, with commas, got '32,4'"),
        ("models=a.pt", "export-matrix takes no 'models'; did you mean model?"),
    ],
)
def test_what_is_not_understood_is_refused(asked, word, message, capsys):
    assert main(["export-matrix", word]) == USAGE
    assert capsys.readouterr().err.startswith(f"yolomix: {message}")
    assert asked == []
