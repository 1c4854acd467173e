"""Class activation maps of whole models, from images on disk: the zoo, a graft, other tasks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.full import cases
from yolomix import figures, models
from yolomix.host import layercam

pytestmark = pytest.mark.skipif(
    not layercam.is_there(), reason="Ultralytics has class activation maps since 8.4 of July 2026"
)
ALWAYS = ["yolo-mamba-seg-n.yaml", "yolo11n-assg.yaml", "yolov8n-vim.yaml", "yolo11n+HaloAttention(2,1)@p5.yaml"]
ZOO = [facts.typed(next(iter(facts.parameters))) for facts in models.zoo().values()]
OTHERS = ["yolo11n+HaloAttention(2,1)@p5.yaml", "yolo26n-seg.yaml", "yolo26n-cls.yaml", "yolo26n-sem.yaml"]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A folder with one image of noise that is not square."""
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "noise.png"), noise)
    return folder


@pytest.fixture(autouse=True)
def seed():
    """The same weights in every run."""
    torch.manual_seed(0)


@pytest.mark.parametrize("name", cases([*ZOO, *OTHERS], always=ALWAYS))
def test_every_model_has_a_map(name, source):
    figure = figures.cam(name, source, imgsz=64, random=False)
    assert figure.arrays["row0"].shape == (64, 64)
    found = figure.arrays["row0"].any()  # weights of a start may speak for no place at all
    assert figure.arrays["row0"].max() == found
    assert ("nothing in these layers raises the score" in figure.verdict) != found
    assert figure.done["made_by"] == ["Ultralytics"]


def test_models_are_shown_the_same_image_each_beside_random_weights(source, tmp_path):
    names = ["yolo11n-mlla.yaml", "yolo11n.yaml"]
    figure = figures.cam(names, source, imgsz=64)
    assert [*figure.arrays] == ["row0", "row0_random_weights", "row1", "row1_random_weights"]
    assert [row[:2] for row in figure.rows[1:]] == [(name, "noise.png") for name in names]
    for name, line in zip(names, figure.verdict.splitlines(), strict=True):
        alike = next(row[7] for row in figure.rows if row[0] == name)
        assert line == f"{name}: rank correlation with random weights {alike}, where 1 is the same order of places"
    written = figure.save(tmp_path)
    assert [file.name for file in written] == ["cam.png", "cam.pdf", "cam.npz", "cam.csv", "cam.json"]
    titles = [axis.get_title() for axis in figure.drawn().axes]
    assert titles[:3] == [
        "noise.png",
        f"{figure.rows[1][3].split()[0]} {float(figure.rows[1][3].split()[1]):.2g}",
        "random weights",
    ]


def test_an_image_of_one_pixel_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "dot.png"), np.full((1, 1, 3), 7, np.uint8))
    with pytest.raises(ValueError) as refused:
        figures.cam("yolo11n.yaml", tmp_path, imgsz=[64, 96])
    assert str(refused.value) == (
        "dot.png is of one colour, so no place in it can speak for a class; give another image. Of a model without one "
        "there are scan and insertion"
    )


def test_a_model_that_knows_no_classes_is_refused(source):
    with pytest.raises(ValueError, match="a model for depth has no class scores; those for detect, segment, pose, obb"):
        figures.cam("yolo26n-depth.yaml", source, imgsz=64)
