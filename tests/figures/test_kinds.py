"""Figures of whole models: what is in them, and what they refuse."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import yolomix
from tests.figures.models import image, subject
from yolomix import figures
from yolomix.figures import opening
from yolomix.figures.kinds import compare as comparing
from yolomix.host.predicting import Detections


@pytest.fixture(autouse=True)
def noise(monkeypatch):
    """Two images of noise wherever a figure asks for images."""
    monkeypatch.setattr(opening, "images", lambda *_: [image(), image(seed=1)])


def test_attention_of_several_models_is_that_of_each_alone():
    scan, halo = (subject(kind).yolo for kind in ("ss2d", "halo"))
    both = figures.attention([scan, halo], query=[0.5, 0.5])
    alone = figures.attention(halo)
    assert both.done["modules"] == ["model.2.op"] * 2 + ["model.2"] * 2
    np.testing.assert_array_equal(both.arrays["row2_weights_of_all_heads"], alone.arrays["row0_weights_of_all_heads"])
    for values in both.arrays.values():
        np.testing.assert_allclose(values.sum(), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "mixer"), [("attention", "ss2d"), ("attention", "linear"), ("delta", "vim"), ("routes", "assg")]
)
def test_an_image_gives_the_same_beside_others(kind, mixer, monkeypatch):
    model = subject(mixer).yolo
    beside = getattr(figures, kind)(model).arrays
    monkeypatch.setattr(opening, "images", lambda *_: [image(seed=1)])
    alone = getattr(figures, kind)(model).arrays
    assert alone
    for name, values in alone.items():
        np.testing.assert_array_equal(values, beside[name.replace("row0", "row1")])


def test_step_sizes_of_every_scan():
    figure = figures.delta(subject("ss2d", "vim").yolo)
    assert [row[2] for row in figure.rows[1:3]] == ["model.2.op", "model.3.mamba"]
    assert figure.arrays["row0_model.2.op"].shape == (5, 7)
    assert (figure.arrays["row0_model.2.op"] > 0).all()


def test_the_order_of_a_scan_is_a_permutation():
    figure = figures.scan([subject(kind).yolo for kind in ("ss2d", "vim", "assg")])
    assert len(figure.arrays) == 4 + 2 + 1
    for times in figure.arrays.values():
        assert sorted(times.ravel()) == [*range(35)]
    assert figure.arrays["model0_along_columns"][1, 0] == 1


def test_routes_have_a_class_and_a_place_for_every_position():
    figure = figures.routes(subject("assg").yolo)
    assert {name.rpartition("_")[2] for name in figure.arrays} == {"classes", "place"}
    assert len(figure.rows) == 3


def test_insertion_marks_blocks_and_measures_fields():
    figure = figures.insertion(subject("halo").yolo, imgsz=64)
    fields = figure.arrays["model0_field"]
    assert fields[0] == 3  # one convolution of 3x3
    assert fields[0] < fields[1] < fields[2]
    assert [row[2] for row in figure.rows[1:]] == ["Conv", "Conv", "HaloAttention", "Detect"]


@pytest.mark.parametrize("kind", ["attention", "delta", "routes", "scan"])
def test_a_model_without_the_block_is_told_what_would_do(kind):
    with pytest.raises(ValueError, match=r"^small.yaml has no .*(erf|scan)"):
        getattr(figures, kind)(subject().yolo)


def test_layers_without_a_mixer_are_told_which_have_one():
    with pytest.raises(ValueError, match=r"^small.yaml has no token mixer at 0; layers with one: 2$"):
        figures.attention(subject("halo").yolo, at=0)
    with pytest.raises(ValueError, match=r"layers with one: 2$"):
        figures.delta(subject("vim").yolo, at=0)


@pytest.mark.parametrize("query", [(0.5,), (1.0, 0.5), (-0.1, 0.5)])
def test_a_query_is_inside_the_image(query):
    with pytest.raises(ValueError, match=r"^query is x and y in fractions of the image, from 0 to less than 1, got "):
        figures.attention(subject("halo").yolo, query=query)


BOX = np.array([[0.0, 0.0, 10.0, 10.0]])


def found(*classes: int, shift: float = 0.0) -> Detections:
    boxes = np.concatenate([BOX + 20 * i + [shift, 0, shift, 0] for i in range(len(classes))])
    return Detections(np.array(classes), np.full(len(classes), 0.9), boxes)


def test_detections_of_two_models_are_paired():
    pairs = comparing.pairs(found(0, 1), found(0, 0, 1, shift=1.0))
    assert [(pair.kind, pair.first, pair.second) for pair in pairs] == [
        ("equal", 0, 0), ("class changed", 1, 1), ("second only", None, 2),
    ]  # fmt: skip
    assert comparing.pairs(found(0), found(0, shift=3.0))[0].kind == "box moved"
    assert [pair.kind for pair in comparing.pairs(found(0), found(0, shift=6.0))] == ["first only", "second only"]
    nothing = Detections(np.zeros(0), np.zeros(0), np.zeros((0, 4)))
    assert [pair.kind for pair in comparing.pairs(nothing, found(0))] == ["second only"]
    assert comparing.pairs(nothing, nothing) == []


def test_of_two_boxes_of_one_object_that_of_the_class_is_taken():
    boxes = np.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 11.0, 11.0]])
    both = Detections(np.array([0, 1]), np.array([0.3, 0.6]), boxes)  # the other class fits better
    pairs = comparing.pairs(both, found(1))
    assert [(pair.kind, pair.first, pair.second) for pair in pairs] == [("equal", 1, 0), ("first only", 0, None)]


def test_images_with_most_differences_come_first(monkeypatch, tmp_path):
    seen = iter([found(0), found(0), found(0, 1), found(1)])
    monkeypatch.setattr(comparing._Finder, "__call__", lambda *_: next(seen))
    figure = figures.compare([subject().yolo, subject().yolo])
    assert figure.arrays["image0_model0"].shape == (2, 6)
    assert figure.verdict == "1 first only, 0 second only, 1 class changed, 0 box moved, 1 equal"
    written = figure.save(tmp_path)
    rows = [*csv.reader(written[3].open(encoding="utf-8"))]
    assert [row[1] for row in rows] == ["what", "class changed", "first only"]
    assert rows[1][2:] == ["cat", "0.900", "0 0 10 10", "dog", "0.900", "0 0 10 10", "1.00"]


def test_a_model_finds_what_predict_finds():
    small = subject("halo")
    finder = comparing._Finder(small, (40, 56))
    one = finder(image(), conf=0.0)
    assert one.boxes.shape[1] == 4
    assert len(one.scores) > 0


def test_two_models_of_the_same_classes_are_compared():
    one, other = subject().yolo, subject().yolo
    with pytest.raises(ValueError, match=r"^compare needs two models, models=a.pt,b.pt, got 1$"):
        figures.compare(one)
    other.model.names = {0: "cat"}
    with pytest.raises(ValueError, match=r"small.yaml have other classes, 2 and 1: give two models of one dataset$"):
        figures.compare([one, other])
    classifier = yolomix.YOLO("yolov8n-cls.yaml")
    with pytest.raises(ValueError, match=r"^yolov8n-cls.yaml is for classify, and compare draws boxes; erf and cam"):
        figures.compare([classifier, classifier])


def test_files_of_other_runtimes_and_nothing_are_no_models():
    with pytest.raises(ValueError, match=r"^a.onnx is a file of another runtime, and a figure looks inside"):
        figures.erf("a.onnx")
    with pytest.raises(ValueError, match=r"^a figure needs a model: models=best.pt, or several$"):
        figures.erf([])


@pytest.mark.parametrize(
    ("kind", "mixer"), [("attention", "halo"), ("delta", "vim"), ("routes", "assg"), ("scan", "vim")]
)
def test_a_map_of_one_position_points_nowhere(kind, mixer, monkeypatch):
    monkeypatch.setattr(opening, "images", lambda *_: [image(8, 8)])
    with pytest.raises(
        ValueError, match=r"^layer 2 \(\w+\) of small.yaml has a map of one position, which points nowh"
    ):
        getattr(figures, kind)(subject(mixer).yolo)


def test_a_gallery_is_one_page_that_needs_nothing_beside_it(tmp_path):
    for name in ("<a>.jpg", "b.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 4, 3), np.uint8))
    page = figures.gallery("delta", subject("vim").yolo, tmp_path, tmp_path / "out")
    text = page.read_text("utf-8")
    assert (page.name, text.count("<figure"), text.count("data:image/png;base64,")) == ("delta-gallery.html", 2, 2)
    assert "&lt;a&gt;.jpg" in text
    assert "http" not in text
    with pytest.raises(ValueError, match=r"^a gallery is of images, and gates takes none$"):
        figures.gallery("gates", "a.pt", tmp_path)


def test_what_was_done_is_beside_a_figure(tmp_path):
    written = figures.delta(subject("vim").yolo).save(tmp_path)
    done = json.loads(Path(written[-1]).read_text("utf-8"))
    assert done["models"] == ["small.yaml"]
    assert done["images"] == ["noise.png"] * 2
    assert done["conditions"]["versions"]["torch"]
