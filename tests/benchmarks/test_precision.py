"""What FP16 and INT8 cost: what is measured stays, and a cell that fails is a row with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import precision

CELLS = [("onnx", "FP16"), ("openvino", "INT8")]


class Trained:
    """Nothing is exported."""

    asked: list[tuple[str, str]] = []

    def __init__(self, checkpoint: Path, data: str) -> None:
        self.name, self.imgsz = checkpoint.stem, 64

    def cell(self, form: str, name: str) -> dict[str, str]:
        self.asked.append((form, name))
        if len(self.asked) == 2:
            raise KeyboardInterrupt
        if form == "openvino":
            raise ValueError("no\nsuch layer")
        return {"map": "0.4"}


def test_a_second_call_goes_on_where_the_first_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "Trained", Trained)
    given = ([tmp_path / "yolo11n+VSSBlock@p5.pt"], "/data/bccd/data.yaml", CELLS, tmp_path / "precision.csv")
    with pytest.raises(KeyboardInterrupt):
        list(precision.measured(*given))
    assert [row["reason"] for row in precision.measured(*given)] == ["ValueError: no such layer"]
    assert Trained.asked == [CELLS[0], CELLS[1], CELLS[1]]
    first, second = precision.read(given[-1])
    assert (first["model"], first["data"], first["precision"], first["map"]) == (
        "yolo11n+VSSBlock@p5", "bccd/data.yaml", "FP16", "0.4",
    )  # fmt: skip
    assert second["packages"].startswith("openvino")
    assert list(precision.measured(*given)) == []
