"""The benchmark of weighted AP runs, and times no wrong answer."""

from __future__ import annotations

import pytest

from benchmarks import table, weighted_ap


def test_the_benchmark_writes_its_rows(tmp_path, capsys) -> None:
    out = tmp_path / "found.csv"
    assert weighted_ap.main(["--quick", "--out", str(out)]) == 0
    rows = list(table.read(out).values())
    assert [row["backend"] for row in rows] == ["numba", "ultralytics, once"]
    assert all(float(row["ms_p50"]) > 0 and row["clock"] == "cpu" and row["date"] for row in rows)
    assert "weighted AP" in capsys.readouterr().out


def test_a_wrong_answer_is_not_timed(monkeypatch, tmp_path) -> None:
    right = weighted_ap.average_precision
    monkeypatch.setattr(weighted_ap, "average_precision", lambda *given, **more: right(*given, **more) + 1e-9)
    with pytest.raises(RuntimeError, match=r"refusing to time a wrong answer: AP differs by 1\.0e-09"):
        weighted_ap.main(["--quick", "--out", str(tmp_path / "found.csv")])
