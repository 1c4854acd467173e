"""The verb demo: one table for people, one vocabulary for programs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_records import CONDITIONS
from yolomix import demo
from yolomix.cli import DONE, FAILED, main
from yolomix.cli import demo as verb
from yolomix.records import Record
from yolomix.verifying.values import Check, Verification


def compared(difference: float, passed: bool) -> demo.Exported:
    """An exported file whose outputs differ by that."""
    raw = Check("raw outputs", passed, f"scores {difference:.1e}", "1e-5", {"differences": {"scores": difference}})
    return demo.Exported(
        Path("best.onnx"), verification=Verification(Path("best.onnx"), "best.pt", CONDITIONS, checks=(raw,))
    )


METRICS = {"metrics/mAP50(B)": 0.61234, "metrics/mAP50-95(B)": 0.4}
OUTCOME = demo.Outcome(
    record=Record(METRICS, CONDITIONS),
    parameters=1234567,
    gflops=7.25,
    latency_ms=12.34,
    training_seconds=100.0,
    weights=Path("best.pt"),
    save_dir=Path("runs/demo"),
    images=(Path("images/all.jpg"),),
    onnx=compared(2e-6, True),
)


@pytest.fixture
def run(monkeypatch):
    """The demo's work replaced by its outcome; returns what it was asked for."""
    asked = []

    def fake(out, seed, epochs, progress):
        asked.append((out, seed, epochs))
        progress(1, 2, "training")
        print("noise of Ultralytics")
        return OUTCOME

    monkeypatch.setattr(demo, "run", fake)
    return asked


def test_one_table(run, tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "seed=3", "epochs=5", f"out={out}"]) == DONE
    assert run == [(out, 3, 5)]
    text = capsys.readouterr().out
    for cell in ("parameters", "GFLOPs at 640", "ms per image", "mAP50", "mAP50-95", "seconds"):
        assert cell in text
    for cell in ("1,234,567", "7.25", "12.3", "0.612", "0.400", "2.0e-06", "all.jpg", "best.onnx"):
        assert cell in text
    assert "threads    1, training 100 s" in text
    assert "processor  AMD EPYC (znver4, x86_64), AVX-512" in text
    assert "noise" not in text
    assert (out / verb.LOG).read_text().endswith("noise of Ultralytics\n")  # it greets before, if it is imported now


def test_the_first_line_comes_before_anything_slow_is_loaded(tmp_path):
    code = """
import sys
from yolomix.cli import main
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise SystemExit("torch is asked for")
sys.meta_path.insert(0, Refusing())
main(["demo", "out=demo"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "0 s  " in done.stderr
    assert "torch is asked for" in done.stderr


def test_json_for_programs(run, tmp_path, capsys):
    assert main(["demo", f"out={tmp_path}", "--json"]) == DONE
    assert run == [(tmp_path, 0, 9)]
    found = json.loads(capsys.readouterr().out)
    assert found["verb"] == "demo"
    assert found["metrics"] == METRICS
    assert found["images"] == [{"file": "images/all.jpg"}]
    assert (found["weights"], found["save_dir"]) == ("best.pt", "runs/demo")
    assert (found["onnx"], found["onnx_refusal"], found["difference"], found["agrees"]) == (
        "best.onnx",
        None,
        2e-6,
        True,
    )
    assert found["conditions"]["processor"]["vector_bits"] == 512
    assert found["total_seconds"] > 0


def test_an_export_that_differs_is_a_failure(monkeypatch, tmp_path, capsys):
    differs = dataclasses.replace(OUTCOME, onnx=compared(0.01, False))
    monkeypatch.setattr(demo, "run", lambda *_: differs)
    assert main(["demo", f"out={tmp_path}"]) == FAILED
    out, err = capsys.readouterr()
    assert "NOT the answers of PyTorch, largest difference 1.0e-02" in out
    assert "best.onnx differs from PyTorch: raw outputs: scores 1.0e-02, allowed 1e-5" in err


def test_without_onnx_there_is_no_comparison(monkeypatch, tmp_path, capsys):
    alone = dataclasses.replace(OUTCOME, onnx=demo.Exported(refusal="onnx is not installed: pip install onnx"))
    monkeypatch.setattr(demo, "run", lambda *_: alone)
    assert main(["demo", f"out={tmp_path}"]) == DONE
    assert "ONNX       onnx is not installed: pip install onnx: no comparison" in capsys.readouterr().out
    assert main(["demo", f"out={tmp_path}", "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert (found["onnx"], found["difference"], found["agrees"]) == (None, None, None)
    assert found["onnx_refusal"] == "onnx is not installed: pip install onnx"
