"""The verb ``figures``: which arguments a kind takes, and what is written."""

from __future__ import annotations

import json

import pytest

from yolomix.cli import DONE, main


def test_a_figure_is_files_a_table_and_a_verdict(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["figures", "gates", "models=yolo11n+MLLABlock@p5.yaml"]
    assert main(words) == DONE
    text = capsys.readouterr().out
    assert "MLLABlock@p5 (model.11): 0% of 256 channels above 0.1 now: not used" in text
    assert text.endswith("gates.json\n")
    assert main([*words, "--json"]) == DONE
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verb"], answer["kind"]) == ("figures", "gates")
    assert answer["arrays"] == {"gate0_epochs": [1], "gate0_values": [1, 256]}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gates", "models=a.pt", "at=p4"], "gates takes no at=; it takes models"),
        (["erf", "models=a.pt", "classes=cat"], "erf takes no classes=; it takes models, source, at, imgsz, random"),
        (["erf", "models=a.pt", "gallery=true"], "a gallery needs source=, a folder of images"),
        (["blame", "models=a.pt"], "kind must be one of erf, cam, attention, delta, routes, gates, scan, insertion"),
        (["attention", "models=a.pt", "query=2,0"], "query must be 2 numbers from 0 to 1 with commas, got '2,0'"),
        (["erf"], "figures needs models=, as in: yolomix figures erf models=best.pt"),
    ],
)
def test_wrong_words(words, told, capsys):
    assert main(["figures", *words]) == 2
    assert told in capsys.readouterr().err
