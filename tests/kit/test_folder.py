"""Which models have a kit, what is in it, and that verification runs it and finds out what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from torch import nn
from ultralytics.nn.modules import Detect, RTDETRDecoder

import yolomix
from tests import browser
from tests.kit.test_detect import EVIL
from tests.tiny import TINY
from tests.verifying import inprocess
from tests.verifying.spread import spread
from yolomix import data
from yolomix.host import predicting
from yolomix.host.exported import Contents
from yolomix.host.predicting import Detections
from yolomix.kit import folder as kits
from yolomix.verifying import images as chosen
from yolomix.verifying import kit as checks
from yolomix.verifying.values import Verification, VerificationError

WEB = Path(__file__).parents[2] / "node_modules" / "onnxruntime-web" / "dist"
needs_web = pytest.mark.skipif(
    not WEB.is_dir(),
    reason=f"browser check did not run: no onnxruntime-web; npm install --no-save onnxruntime-web@{kits.WEB}",
)
FORMATS = {
    "onnx": {"format": "onnx", "simplify": False},
    "dynamic": {"format": "onnx", "simplify": False, "dynamic": True},
    "openvino": {"format": "openvino"},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    inprocess.use(monkeypatch, 16)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    """Sixteen of the packaged sample, in three sizes."""
    folder = tmp_path_factory.mktemp("sample")
    data.render(folder, {"val": 16})
    files = sorted((folder / "images" / "val").iterdir())
    for i, file in enumerate(files):
        size = ((320, 320), (231, 157), (90, 130))[i % 3]
        cv2.imwrite(str(file), cv2.resize(cv2.imread(str(file)), size, interpolation=cv2.INTER_AREA))
    return files


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> yolomix.YOLO:
    """One whose classes have names that have to be written with care."""
    file = tmp_path_factory.mktemp("model") / "tiny.yaml"
    file.write_text(TINY.replace("nc: 2", "nc: 3"))
    made = spread(str(file))
    made.model.names = dict(enumerate(EVIL))
    return made


@pytest.fixture(scope="module")
def kit(model, tmp_path_factory):
    """Write a kit in a format, once."""
    written: dict[str, Path] = {}

    def _kit(form: str) -> Path:
        if form not in written:
            folder, before = tmp_path_factory.mktemp(form), Path.cwd()
            os.chdir(folder)
            try:
                name = model.export(imgsz=[96, 64], device="cpu", kit=True, verify=False, **FORMATS[form])
            finally:
                os.chdir(before)
            written[form] = folder / name
        return written[form]

    return _kit


@pytest.fixture
def verified(model, kit, images, tmp_path, monkeypatch):
    """Verify a copy of a kit in which something was changed."""
    monkeypatch.setattr(chosen, "chosen", lambda *_: (images, "16 images of three sizes"))

    def _verified(form: str = "onnx", change=lambda folder: None) -> Verification:
        copy = shutil.copytree(kit(form), tmp_path / kit(form).name)
        change(copy)
        return yolomix.verify(model, copy)

    return _verified


def check(found: Verification, name: str):
    return next(check for check in found.checks if check.name.startswith(name))


@pytest.mark.parametrize("form", FORMATS)
def test_the_script_finds_what_predict_finds(form, verified, kit):
    assert kit(form).name == f"tiny_{FORMATS[form]['format']}_kit"
    found = verified(form)
    script = check(found, "detect.py")
    assert (found.verified, script.passed) == (True, True), found.advice
    assert script.name == "detect.py in 16 images, conf 0.25"
    assert script.numbers["compared"] > 100
    assert (script.numbers["lost"], script.numbers["added"]) == (0, 0)
    assert script.numbers["score"] <= 1e-3
    assert script.numbers["iou"] >= 0.99 or not predicting.scales_by_side()
    text = (found.file / "README.md").read_text("utf-8")
    assert f"## {found.file.name}: verified" in text
    assert "AGPL-3.0" in text
    assert script.found in text
    names = json.loads((found.file / "kit.json").read_text("utf-8"))["names"]
    assert names == EVIL


@pytest.mark.parametrize("form", ["onnx", "dynamic"])
@browser.needs_chromium
@needs_web
def test_the_page_finds_what_predict_finds(form, kit, images, tmp_path):
    folder = shutil.copytree(kit(form), tmp_path / "served")
    (folder / "ort").mkdir()
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        shutil.copy(WEB / name, folder / "ort" / name)
    settings = kits.read(folder)
    contents = Contents("detect", dict(enumerate(EVIL)), (96, 64), dynamic=form == "dynamic")
    runtime = inprocess.InThisProcess(folder / settings["file"], 1)
    sides = SimpleNamespace(file=folder / settings["file"], contents=contents, runtime=runtime)
    with browser.served(folder) as address, browser.Browser() as opened, runtime:
        found = []
        for iou, most in ((0.7, 300), (kits.NONE, checks.MANY)):
            changed = {**settings, "runtime": "ort/", "iou": iou, "max_det": most}
            (folder / "kit.json").write_text(json.dumps(changed), "utf-8")
            predicted = checks.tried(checks.Trial(folder, sides, images, tmp_path), iou, most).predict
            found.append(checks.Both(predicted, [*looked_at(opened.page(address), images)]))
    total = checks.agreement(*found, len(EVIL))
    assert (total.lost, total.added) == (0, 0)
    assert total.compared > 100


def looked_at(page: browser.Page, images: list[Path]) -> Iterator[Detections]:
    """What a page finds."""
    page.until("!document.getElementById('file').disabled")
    for image in images:
        page.run("globalThis.detections = null")
        page.choose("#file", image)
        rows = [[one["class"], one["score"], *one["box"]] for one in page.until("globalThis.detections")]
        table = np.array(rows, float).reshape(-1, 6)
        yield checks.inside(Detections(table[:, 0], table[:, 1], table[:, 2:]))


def smoothed(folder: Path) -> None:
    """Let the script resize as Pillow does."""
    script = folder / "detect.py"
    text = script.read_text("utf-8")
    changed = text.replace(
        "resized(np.asarray(image), *size)", "np.asarray(image.resize((int(size[1]), int(size[0])), Image.BILINEAR))"
    )
    assert changed != text
    script.write_text(changed, "utf-8")


def test_a_script_that_resizes_otherwise_fails(verified):
    found = verified(change=smoothed)
    assert found.verified is False
    assert [one.name for one in found.failed] == ["detect.py in 16 images, conf 0.25"]
    assert found.advice.endswith(
        ", scores 1.0e-03. Export it again with kit=True, which writes detect.py and kit.json anew, and do not ship "
        "this one"
    )
    assert f"{found.file} differs from PyTorch: detect.py in 16 images, conf 0.25: " in found.advice


def changed(**settings):
    def _change(folder: Path) -> None:
        (folder / "kit.json").write_text(json.dumps({**kits.read(folder), **settings}), "utf-8")

    return _change


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": [EVIL[0], "other", EVIL[2]]}, f"class 1 is 'other', and {EVIL[1]!r} in the file"),
        ({"names": EVIL[:2]}, "2 classes, and 3 in the file"),
        ({"imgsz": [64, 64]}, "imgsz is [64, 64], and [96, 64] of the file"),
    ],
    ids=["label", "labels", "size"],
)
def test_settings_that_differ_from_the_file_are_told(settings, message, verified):
    found = verified(change=changed(**settings))
    assert check(found, "kit.json").found == message
    assert found.verified is False


def test_thresholds_may_be_changed(verified):
    assert verified(change=changed(conf=0.6, iou=0.5, max_det=10, runtime="ort/")).verified is True


def test_a_script_that_fails_says_why(verified):
    found = verified(change=lambda folder: (folder / "detect.py").write_text("raise ValueError('no')"))
    assert check(found, "detect.py").found == "it ended with 1: ValueError: no"


def test_a_kit_without_its_file_is_told(model, kit, tmp_path):
    copy = shutil.copytree(kit("onnx"), tmp_path / "kit")
    (copy / "tiny.onnx").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"kit\.json names tiny\.onnx, which does not lie beside it; export the"
    ):
        yolomix.verify(model, copy)


MODEL = {"task": "detect", "names": {0: "a"}, "yaml": {}, "model": [Detect(nc=1, ch=(8,))]}


@pytest.mark.parametrize(
    ("changes", "form", "message"),
    [
        ({}, "ncnn", "kit=True has no script for format=ncnn; formats that have one: onnx, openvino"),
        ({"task": "segment"}, "onnx", "kit=True has scripts for detectors with the head of a YOLO, and this model's is "
         "segment: leave kit out, and run the file with `yolomix predict`"),
        ({"model": [RTDETRDecoder(nc=1, ch=(8,), hd=8, nq=2, ndl=1, nh=1)]}, "onnx", "kit=True has scripts for "
         "detectors with the head of a YOLO, and this model's is RTDETRDecoder: leave kit out, and run the file with "
         "`yolomix predict`"),
        ({"yaml": {"channels": 1}}, "onnx", "kit=True has scripts for images of 3 channels, and this model takes 1: "
         "leave kit out"),
    ],
)  # fmt: skip
def test_what_has_no_kit_is_refused(changes, form, message):
    with pytest.raises(ValueError) as told:
        kits.check(SimpleNamespace(**{**MODEL, **changes}), form)
    assert str(told.value) == message


def test_nothing_is_traced_or_written_for_what_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = yolomix.YOLO("yolov8n-cls.yaml")
    monkeypatch.setattr(nn.Module, "__call__", lambda *_: pytest.fail("the model was run"))
    with pytest.raises(ValueError, match="this model's is classify"):
        model.export(format="onnx", imgsz=32, device="cpu", kit=True)
    with pytest.raises(ValueError, match="batch=2 was asked for: leave batch out"):
        kits.check(SimpleNamespace(**MODEL), "onnx", batch=2)
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_is_no_kit_stays(tmp_path):
    (tmp_path / "a_onnx_kit").mkdir()
    (tmp_path / "a_onnx_kit" / "thesis.txt").touch()
    with pytest.raises(
        FileExistsError, match=r"a_onnx_kit exists and is no kit, so it stays: move it, and export again"
    ):
        kits.write(tmp_path / "a.onnx", {}, "")
    assert [file.name for file in (tmp_path / "a_onnx_kit").iterdir()] == ["thesis.txt"]


def test_an_export_in_python_verifies_its_kit(model, monkeypatch, tmp_path, images):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chosen, "chosen", lambda *_: (images[:2], "2 images"))
    monkeypatch.setattr(kits, "_part", lambda name, native=kits._part: broken(native(name)))
    with pytest.raises(VerificationError, match="it ended with 1: NameError: name 'broken' is not defined") as told:
        model.export(format="onnx", imgsz=64, simplify=False, device="cpu", kit=True)
    assert told.value.verification.file == Path("tiny_onnx_kit")
    assert "tiny_onnx_kit: DIFFERS" in Path("tiny_onnx_kit", "README.md").read_text("utf-8")
    assert Path("tiny_onnx_kit.verification.json").is_file()


def broken(text: str) -> str:
    return text.replace('model = import_module("onnxruntime")', 'model = broken("onnxruntime")')
