"""``yolomix export`` and ``verify``: answers, exit codes, and files that go on to ``predict`` and ``val``."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from PIL import Image

from tests.test_records import CONDITIONS
from tests.tiny import description
from tests.verifying import inprocess
from yolomix.cli import DONE, FAILED, USAGE, main
from yolomix.host import weights
from yolomix.verifying import verifying
from yolomix.verifying.values import Check, Verification

EXPORT = ("export", "model=a.pt", "format=onnx", "imgsz=60", "simplify=False", "device=cpu")


@pytest.fixture(autouse=True)
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = weights.from_rows(description())
    model.task, model.names = "detect", {0: "square", 1: "bar"}
    weights.write(model, "a.pt")


def test_a_file_is_verified_and_goes_on(capsys, monkeypatch, dataset):
    """In a process of its own, as everywhere but in these tests."""
    monkeypatch.setattr(inprocess.images, "COUNT", 2)
    assert main([*EXPORT, "--json"]) == DONE
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verb"], answer["file"], answer["verified"]) == ("export", "a.onnx", True)
    assert answer["verification"]["imgsz"] == [64, 64]  # 60 is no multiple of the stride
    assert answer["verification"] == json.loads(Path("a.onnx.verification.json").read_text())
    assert answer["verification"]["costs"][0]["what"].startswith("onnxruntime ")
    Image.new("RGB", (80, 64)).save("a.png")
    assert main(["predict", "model=a.onnx", "source=a.png", "save=False", "--json"]) == DONE
    assert len(json.loads(capsys.readouterr().out)["images"]) == 1
    assert main(["val", "model=a.onnx", f"data={dataset}", "imgsz=64", "plots=False", "workers=0", "--json"]) == DONE
    assert "metrics/mAP50-95(B)" in json.loads(capsys.readouterr().out)["metrics"]


def test_an_export_that_is_not_to_be_verified(capsys):
    assert main([*EXPORT, "verify=False", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out) == {
        "verb": "export", "file": "a.onnx", "verified": None, "verification": None,
    }  # fmt: skip
    assert main([*EXPORT, "verify=no"]) == USAGE
    assert "verify must be true or false, got 'verify=no'" in capsys.readouterr().err


def test_mean_ap_and_its_interval(capsys, monkeypatch, dataset):
    inprocess.use(monkeypatch, 2)
    assert main([*EXPORT, "verify=False"]) == DONE
    capsys.readouterr()
    assert main(["verify", "model=a.pt", "file=a.onnx", f"data={dataset}", "--json"]) == DONE
    check = json.loads(capsys.readouterr().out)["checks"][-1]
    assert check["name"] == "mAP50-95, 3 images"
    low, high = check["numbers"]["interval"]
    assert low <= check["numbers"]["difference"] <= high


def found(verified: bool | None) -> Verification:
    if verified is None:
        return Verification(Path("a.onnx"), "a.pt", CONDITIONS, refusal="onnxruntime is not installed")
    check = Check("raw outputs", False, "scores 1.0e-02", "scores 1.0e-05")
    return Verification(Path("a.onnx"), "a.pt", CONDITIONS, checks=(check,))


@pytest.mark.parametrize(("verified", "of_export"), [(False, FAILED), (None, DONE)])
def test_exit_codes(verified, of_export, capsys, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(verifying, "verify", lambda *_: found(verified))
    monkeypatch.setattr("yolomix.host.entry.entrypoint", lambda *_: (None, "a.onnx"))
    assert main([*EXPORT, "--json"]) == of_export
    out, err = capsys.readouterr()
    assert json.loads(out)["verified"] is verified
    assert found(verified).advice in err + caplog.text
    assert main(["verify", "model=a.pt", "file=a.onnx"]) == FAILED
    assert found(verified).advice in capsys.readouterr().err


def test_a_kit_is_verified_and_named(capsys, monkeypatch):
    inprocess.use(monkeypatch, 2)
    assert main([*EXPORT, "kit=True", "--json"]) == DONE
    answer = json.loads(capsys.readouterr().out)
    assert answer["file"] == "a_onnx_kit"
    assert [check["name"] for check in answer["verification"]["checks"]][-3:] == [
        "kit.json", "detect.py in 2 images, conf 0.25", "index.html",
    ]  # fmt: skip
    assert sorted(file.name for file in Path("a_onnx_kit").iterdir()) == [
        "README.md", "a.onnx", "detect.mjs", "detect.py", "index.html", "kit.json",
    ]  # fmt: skip


def test_a_kit_of_a_format_without_script_is_refused(capsys):
    assert main(["export", "model=a.pt", "format=torchscript", "imgsz=64", "device=cpu", "kit=true"]) == FAILED
    assert (
        "kit=True has no script for format=torchscript; formats that have one: onnx, openvino"
        in capsys.readouterr().err
    )
    assert not list(Path().glob("*_kit"))
