"""The matrix of models and formats: what is known stays known, and no cell takes the others with it."""

from __future__ import annotations

import sys

import pytest

from benchmarks import formats

KNOWS = "from pathlib import Path; Path('found.json').write_text('{\"converts\": true}'); "


@pytest.mark.parametrize(
    ("code", "limit", "converts", "reason"),
    [
        (KNOWS, 60, True, None),
        (
            KNOWS + "import sys; print('no such layer'); sys.exit(3)",
            60,
            True,
            "its process ended with 3: no such layer",
        ),
        ("import time; time.sleep(60)", 0.5, None, "not done after 0 s"),
    ],
)
def test_a_cell_that_crashes_or_hangs_is_a_row_like_others(monkeypatch, code, limit, converts, reason):
    monkeypatch.setattr(formats, "command", lambda *_: [sys.executable, "-c", code])
    row = formats.cell("a.yaml", "ncnn", 64, limit)
    assert row == {
        "model": "a.yaml",
        "format": "ncnn",
        "imgsz": 64,
        **({} if converts is None else {"converts": converts}),
        **({} if reason is None else {"reason": reason}),
    }


def test_a_second_call_goes_on_where_the_first_ended(monkeypatch, tmp_path):
    asked = []

    def cell(name, form, size, limit):
        asked.append((name, form))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"model": name, "format": form, "imgsz": size, "converts": True}

    monkeypatch.setattr(formats, "cell", cell)
    given = (["a.yaml", "b.yaml"], ["onnx", "torchscript"], 64, 1, tmp_path / "formats.csv")
    with pytest.raises(KeyboardInterrupt):
        list(formats.matrix(*given))
    assert len(list(formats.matrix(*given))) == 3
    assert asked == [
        ("a.yaml", "onnx"),
        *[("a.yaml", "torchscript")] * 2,
        ("b.yaml", "onnx"),
        ("b.yaml", "torchscript"),
    ]
    assert [row["packages"] for row in formats.read(given[-1])][1] == formats.versions("torchscript") != ""
    assert list(formats.matrix(*given)) == []


def test_every_packaged_model_is_in_the_matrix():
    assert {"mamba-yolo-t.yaml", "yolo11n-assg.yaml", "yolov8n+VSSBlock@p5.yaml"} < {*formats.MODELS}
