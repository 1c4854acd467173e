"""The page of a kit in a browser: what it shows, what it finds, and what it says where something is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from PIL import Image

from tests import browser
from tests.browser import Browser, Page
from tests.kit import stub
from tests.kit.test_detect import EVIL, SIZES

pytestmark = browser.needs_chromium
FOUND = [[10, 12, 60, 50, 0.9, 0], [30, 20, 90, 60, 0.8, 1], [5, 5, 20, 30, 0.7, 2]]
Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[Browser]:
    """With a camera that shows a red square on grey."""
    frame = np.full((120, 160, 3), 128, np.uint8)
    frame[40:80, 60:100] = 0, 0, 255
    video = tmp_path_factory.mktemp("video") / "camera.mjpeg"
    video.write_bytes(cv2.imencode(".jpg", frame)[1].tobytes())
    fake = ("--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={video}")
    with Browser(*fake) as opened:
        yield opened


@pytest.fixture
def page(chromium, tmp_path) -> Iterator[Opened]:
    """Open the page of a kit with other settings, and wait until it says more than that it loads."""
    with browser.served(tmp_path) as address:

        def _opened(before: str = "", camera: str = "granted", **settings) -> Page:
            stub.write(tmp_path, **settings)
            allowed = {"permission": {"name": "camera"}, "setting": camera, "origin": address}
            chromium.ask("Browser.setPermission", **allowed)
            opened = chromium.page(address, before, width=700, height=500)
            opened.until("document.getElementById('said').textContent !== 'Loading'")
            return opened

        yield _opened


def said(page: Page) -> str:
    return page.run("document.getElementById('said').textContent")


@pytest.mark.parametrize("multiple", [[64, 96], [32, 32]], ids=["fixed size", "open size"])
def test_an_image_is_shown_as_the_script_shows_it(page, multiple, tmp_path):
    rng, files = np.random.default_rng(0), []
    for i, (height, width) in enumerate(SIZES):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(files[-1])
    opened = page(multiple=multiple)
    for file, want in zip(files, stub.shown(tmp_path, files), strict=True):
        opened.run("globalThis.shown = null")
        opened.choose("#file", file)
        got = opened.until("globalThis.shown && [shown.type, shown.dims, Array.from(shown.data)]")
        assert got[:2] == ["float32", [*want.shape]]
        np.testing.assert_array_equal(np.array(got[2], np.float32).reshape(want.shape), want, file.name)


def test_names_are_text_and_nothing_is_loaded_from_elsewhere(page, tmp_path):
    opened = page(names=EVIL, found=FOUND)
    assert said(opened) == "a.onnx is ready: choose an image, or start the camera"
    Image.fromarray(np.full((128, 192, 3), 200, np.uint8)).save(tmp_path / "a.png")
    opened.choose("#file", tmp_path / "a.png")
    found = opened.until("globalThis.detections")
    assert [one["label"] for one in found] == EVIL
    assert found[0]["box"] == [20, 24, 120, 100]
    cells = opened.run("[...document.querySelectorAll('#found td')].map((cell) => cell.textContent)")
    assert cells[0::3] == EVIL
    assert cells[1:3] == ["0.900", "20.0 24.0 120.0 100.0"]
    assert opened.run("document.querySelectorAll('img').length") == 0
    assert all(address.startswith(("http://127.0.0.1:", "data:")) for address in opened.requests)
    shot = cv2.imread(str(opened.screenshot(tmp_path / "shot.png")))
    assert shot.shape == (500, 700, 3)
    box = np.abs(shot.astype(int) - (18, 18, 161)).sum(axis=2) < 30  # BGR of the first class
    assert box.sum() > 200


def test_the_camera_is_shown_until_it_is_stopped(page):
    opened = page(found=FOUND)
    opened.run("document.getElementById('camera').click()")
    opened.until("globalThis.detections && document.getElementById('camera').textContent === 'Stop'")
    size = opened.run("[seen.width, seen.height]")
    middle = "Array.from(seen.getContext('2d').getImageData(seen.width / 2, seen.height / 2, 1, 1).data)"
    red, green, blue, _ = opened.run(middle)
    assert size[0] / size[1] == pytest.approx(4 / 3)
    assert (red > 200, green < 60, blue < 60) == (True, True, True)
    opened.run("document.getElementById('camera').click()")
    assert opened.run("document.getElementById('camera').textContent") == "Camera"


NO_SIMD = (
    "This browser has no WebAssembly SIMD, which onnxruntime-web needs: use Chrome 91, Firefox 89, Safari 16.4 or a "
    "newer one"
)
NO_HALVES = "a.onnx takes numbers of 16 bits, which this browser lacks: use a newer one, or export with quantize=32"

NO_RUNTIME = (
    "onnxruntime-web was not loaded from http://127.0.0.1:{port}/none/: README.md says how to put it beside this page"
)


@pytest.mark.parametrize(
    ("before", "settings", "message"),
    [
        ("WebAssembly.validate = () => false", {}, NO_SIMD),
        ("delete globalThis.Float16Array", {"input": "float16"}, NO_HALVES),
        ("", {"file": "b #1.onnx"}, "b #1.onnx was not loaded (404): it has to lie beside this page"),
        ("", {"runtime": "none/"}, NO_RUNTIME),
    ],
    ids=["no SIMD", "no half precision", "no model", "no runtime"],
)  # fmt: skip
def test_what_is_missing_is_said(before, settings, message, page):
    opened = page(before, **settings)
    port = opened.run("location.port")
    assert opened.until("document.getElementById('said').textContent") == message.replace("{port}", port)
    assert opened.run("document.getElementById('file').disabled && document.getElementById('camera').disabled")


DENIED = "The browser may not use the camera: allow it beside the address of this page, then press Camera again"
INSECURE = "A browser gives the camera to https:// and http://localhost alone: open this page there"
NO_DEVICES = "Object.defineProperty(navigator, 'mediaDevices', { value: undefined })"
NOT_FOUND = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); }"


@pytest.mark.parametrize(
    ("camera", "before", "message"),
    [
        ("denied", "", DENIED),
        ("granted", NOT_FOUND, "There is no camera"),
        ("granted", NO_DEVICES, INSECURE),
    ],
    ids=["denied", "none", "insecure"],
)  # fmt: skip
def test_why_there_is_no_camera_is_said(camera, before, message, page):
    opened = page(before, camera)
    opened.until("!document.getElementById('camera').disabled")
    opened.run("document.getElementById('camera').click()")
    opened.until("!/is ready/.test(document.getElementById('said').textContent)")
    assert said(opened) == message


def test_a_file_that_is_no_image_is_named(page, tmp_path):
    (tmp_path / "a.txt").write_text("no image")
    opened = page()
    opened.choose("#file", tmp_path / "a.txt")
    opened.until("!/is ready/.test(document.getElementById('said').textContent)")
    assert said(opened) == "a.txt is no image that this browser reads"


def test_a_page_that_is_opened_as_a_file_says_what_to_type(chromium, tmp_path):
    opened = chromium.page((stub.write(tmp_path) / "index.html").as_uri())
    assert said(opened) == (
        "A browser opens a model through a web server alone: run `python -m http.server` in this folder, "
        "then open http://localhost:8000"
    )
