"""The sample dataset: the same everywhere, exactly labelled, difficult in the ways it says, kept without accidents."""

from __future__ import annotations

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolomix import data
from yolomix.data import scene, shapes, surface

LABELS = (
    "97006cb552092f8c"  # of the label files of the first 40 training pictures; NumPy 1.26 to 2.4, OpenCV 4.9 to 5.0
)


@pytest.fixture(scope="module")
def pictures():
    return [scene.picture(data.seed("train", i)) for i in range(40)]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A sample dataset of seven pictures, kept under tmp_path / "cache"."""
    for split, count in {"train": 3, "val": 2, "test": 2}.items():
        monkeypatch.setitem(data.SPLITS, split, count)
    monkeypatch.setenv("YOLOMIX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / data.FOLDER


def test_labels_are_the_same_on_every_machine(pictures):
    files = "".join(picture.label for picture in pictures)
    assert hashlib.sha256(files.encode()).hexdigest()[:16] == LABELS


def test_a_seed_is_a_picture(pictures):
    again = scene.picture(data.seed("train", 0))
    assert np.array_equal(again.image, pictures[0].image)
    assert again.label == pictures[0].label
    assert not np.array_equal(pictures[0].image, pictures[1].image)


def test_no_two_splits_share_a_seed():
    seeds = [data.seed(split, i) for split, count in data.SPLITS.items() for i in range(count)]
    assert len(seeds) == len(set(seeds)) == sum(data.SPLITS.values())
    assert all(count >= 100 for count in data.SPLITS.values())


def test_classes_are_balanced(pictures):
    counts = Counter(thing.label for picture in pictures for thing in picture.things)
    assert sorted(counts) == [*range(len(shapes.CLASSES))]
    assert max(counts.values()) < 2 * min(counts.values())
    assert sum(counts.values()) > 6 * len(pictures)


def test_sizes_go_from_eight_pixels_to_half_of_the_picture(pictures):
    boxes = np.array([thing.box for picture in pictures for thing in picture.things])
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    assert sides.min() < 10
    assert 120 < sides.max() < 200
    assert 0.1 < (sides < 32).mean() < 0.4
    assert (sides > 96).mean() > 0.1


def test_many_things_are_partly_hidden_but_none_is_labelled_by_a_scrap(pictures):
    shares = np.array([thing.seen.sum() / thing.area for picture in pictures for thing in picture.things])
    assert 0.15 < (shares < 0.95).mean() < 0.4
    assert shares.min() >= scene.SEEN
    assert min(thing.seen.sum() for picture in pictures for thing in picture.things) >= scene.LEAST


def test_a_pixel_belongs_to_one_thing(pictures):
    for picture in pictures:
        assert np.sum([thing.seen for thing in picture.things], axis=0).max() == 1


def test_a_box_is_the_extent_of_what_is_seen(pictures):
    for thing in pictures[0].things:
        left, top, right, bottom = thing.box
        inside = np.zeros_like(thing.seen)
        inside[top:bottom, left:right] = True
        assert not (thing.seen & ~inside).any()
        assert thing.seen[top].any()
        assert thing.seen[bottom - 1].any()
        assert thing.seen[:, left].any()
        assert thing.seen[:, right - 1].any()


def test_a_polygon_has_the_extent_of_its_box_and_covers_what_is_seen(pictures):
    for thing in (thing for picture in pictures[:15] for thing in picture.things):
        polygon = thing.polygon
        assert (*polygon.min(0), *polygon.max(0)) == pytest.approx(thing.box)
        assert len(polygon) >= 3
        drawn = cv2.fillPoly(np.zeros_like(thing.seen, np.uint8), [np.int32(polygon)], 1).astype(bool)
        agreement = (drawn & thing.seen).sum() / (drawn | thing.seen).sum()
        assert agreement > (0.9 if thing.seen.sum() > 900 else 0.55), thing.box


def test_colour_does_not_tell_the_class(pictures):
    colours = {label: [] for label in range(len(shapes.CLASSES))}
    for picture in pictures:
        for thing in picture.things:
            colours[thing.label].append(picture.image[thing.seen].mean(0))
    means = np.array([np.mean(found, axis=0) for found in colours.values()])
    spread = np.mean([np.std(found, axis=0) for found in colours.values()])
    assert spread > 30
    assert np.ptp(means, axis=0).max() < spread


def test_every_class_looks_different_from_every_other():
    u, v = np.meshgrid(*[np.linspace(-1, 1, 41)] * 2)
    looks = {kind.name: (kind.outlines[0](u, v) < 0) * (1 + kind.mark(u, v)) for kind in shapes.CLASSES}
    assert len(looks) == len(shapes.CLASSES)
    for name, look in looks.items():
        others = [np.abs(look - other).mean() for known, other in looks.items() if known != name]
        assert min(others) > 0.05, name


def test_the_outline_alone_does_not_tell_a_texture_or_an_arrangement():
    outlines = {kind.outlines for kind in shapes.CLASSES if kind.name in ("stripes", "checks", "row", "trio")}
    assert len(outlines) == 1


def test_missing_photographs_are_named(monkeypatch):
    monkeypatch.setattr(surface, "PHOTOGRAPHS", ("bus.jpg", "nowhere.jpg"))
    with pytest.raises(FileNotFoundError, match=r"needs bus\.jpg and nowhere\.jpg .* found 1 of them .* reinstall it"):
        surface.photographs.__wrapped__()


def test_it_is_rendered_once_and_kept(small):
    file = data.sample_dataset()
    assert file == small / "data.yaml"
    assert sorted(path.name for path in small.iterdir()) == ["data.yaml", "images", "labels"]
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*.*")}
    assert len(before) == 15
    assert data.sample_dataset("segment") == file
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*.*")} == before


def test_an_incomplete_dataset_is_rendered_again(small):
    picture = data.sample_dataset().parent / "images" / "val" / "0001.jpg"
    before = picture.read_bytes()
    picture.unlink()
    assert data.sample_dataset() == small / "data.yaml"
    assert picture.read_bytes() == before
    assert [path.name for path in small.parent.iterdir()] == [data.FOLDER]


def test_processes_that_start_together_end_with_one_dataset(small):
    with ThreadPoolExecutor(3) as pool:
        files = {*pool.map(lambda _: data.sample_dataset(), range(3))}
    assert files == {small / "data.yaml"}
    assert [path.name for path in small.parent.iterdir()] == [data.FOLDER]
    assert len([*small.rglob("*.jpg")]) == 7


def test_a_home_that_cannot_be_written_gives_way_to_temporary_files(small, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("YOLOMIX_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(data.tempfile, "tempdir", str(tmp_path / "spare"))
    (tmp_path / "spare").mkdir()
    monkeypatch.setattr(data.LOGGER, "propagate", True)
    assert data.sample_dataset().is_relative_to(tmp_path / "spare")
    assert "cannot keep the sample dataset in" in caplog.text
    with pytest.raises(OSError, match="file"):
        data.sample_dataset(root=tmp_path / "file")


def test_the_cache_folder_follows_the_usual_variables(monkeypatch, tmp_path):
    monkeypatch.delenv("YOLOMIX_CACHE", raising=False)
    monkeypatch.setattr(data.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data.cache_folder() == tmp_path / "yolomix"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.cache_folder() == tmp_path / ".cache" / "yolomix"
    monkeypatch.setenv("YOLOMIX_CACHE", str(tmp_path / "own"))
    assert data.cache_folder() == tmp_path / "own"


def test_a_task_without_labels_is_refused():
    with pytest.raises(ValueError, match="labelled for detect and segment, not for 'pose'; give data= a file"):
        data.sample_dataset("pose")


@pytest.mark.parametrize("task", data.TASKS)
def test_ultralytics_reads_every_label(small, task):
    from ultralytics.data import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    found = check_det_dataset(str(data.sample_dataset(task)))
    assert found["names"] == {i: kind.name for i, kind in enumerate(shapes.CLASSES)}
    read = YOLODataset(img_path=found["train"], data=found, task=task, augment=False, imgsz=scene.SIDE)
    for i, labels in enumerate(read.labels):
        things = scene.picture(data.seed("train", i)).things
        assert Path(labels["im_file"]).name == f"{i:04d}.jpg"
        assert [int(c) for c in labels["cls"].ravel()] == [thing.label for thing in things]
        boxes = np.array([thing.box for thing in things]) / scene.SIDE
        centres = np.hstack([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]])
        np.testing.assert_allclose(labels["bboxes"], centres, atol=2e-6)
