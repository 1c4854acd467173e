"""``detect.py`` shows the model what Ultralytics would, to the bit, and says what it finds and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from ultralytics.data.augment import LetterBox
from ultralytics.utils.patches import imread

from tests.kit import stub

SIZES = ((131, 97), (48, 64), (33, 200), (500, 20), (3, 7), (480, 640), (64, 96), (128, 192), (321, 45))
EVIL = ["<img src=x onerror=alert(1)>", 'it\'s "quoted" & 100 %', "猫\\n"]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    """Noise, in which every pixel counts, in all sizes (height, width); the last as JPEG of a camera on its side."""
    folder, rng, files = tmp_path_factory.mktemp("images"), np.random.default_rng(0), []
    for i, (height, width) in enumerate(SIZES):
        files.append(folder / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(files[-1])
    turned = Image.Exif()
    turned[0x0112] = 6
    files.append(folder / "turned.jpg")
    smooth = cv2.resize(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8), (200, 100), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(smooth).save(files[-1], exif=turned)
    return files


@pytest.mark.parametrize("multiple", [[64, 96], [32, 32]], ids=["fixed size", "open size"])
def test_an_image_is_shown_as_ultralytics_shows_it(images, multiple, tmp_path):
    letterbox = LetterBox([64, 96], auto=multiple == [32, 32], stride=32)
    for file, x in zip(images, stub.shown(stub.write(tmp_path, multiple=multiple), images), strict=True):
        want = letterbox(image=imread(str(file)))[..., ::-1]
        np.testing.assert_array_equal(np.rint(x[0].transpose(1, 2, 0) * 255), want, file.name)


def test_objects_are_lines_of_json_in_pixels_of_the_image(images, tmp_path):
    rows = [[0, 16, 96, 48, 0.9, 2], [10, 20, 30, 40, 0.5, 0], [10, 20, 30, 40, 0.25, 1]]
    done = stub.run(stub.write(tmp_path, names=EVIL, found=rows), images[5])
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["label"], first["class"], first["score"]) == (EVIL[2], 2, pytest.approx(0.9))
    assert first["box"] == [0, 120, 640, 360]  # 480 x 640 pixels are shown as 64 x 85, with grey on both sides
    assert second["label"] == EVIL[0]
    assert second["image"] == str(images[5])


def test_overlaps_within_a_class_are_suppressed(images, tmp_path):
    rows = [[0, 0, 40, 40, 0.5, 0], [0, 0, 40, 41, 0.9, 0], [0, 0, 40, 40, 0.4, 1], [50, 50, 60, 60, 0.3, 0]]
    done = stub.run(stub.write(tmp_path, found=rows, iou=0.7), images[6])
    scores = [round(json.loads(line)["score"], 3) for line in done.stdout.splitlines()]
    assert scores == [0.9, 0.4, 0.3]
    done = stub.run(stub.write(tmp_path, found=rows, iou=0.7, max_det=2), images[6])
    assert len(done.stdout.splitlines()) == 2


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("no image")
    done = stub.run(stub.write(tmp_path), tmp_path / "a.txt")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"cannot read {tmp_path / 'a.txt'} as an image: cannot identify image file")
    assert "python detect.py IMAGE..." in stub.run(tmp_path).stderr


def test_the_script_is_short():
    assert len((stub.PARTS / "detect.py").read_text("utf-8").splitlines()) <= 60
