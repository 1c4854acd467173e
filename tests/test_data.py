"""The sample dataset: the same everywhere, exactly labelled, difficult in the ways it says, kept without accidents."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import platformdirs
import pytest
import torch

from yolomix import data
from yolomix.data import scene, shapes, surface

LABELS = "97006cb552092f8c"  # of the label files of the first 40 training images; NumPy 1.26 to 2.4, OpenCV 4.9 to 5.0


@pytest.fixture(scope="module")
def images():
    return [scene.labelled_image(data.seed("train", i)) for i in range(40)]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A sample dataset of seven images, kept under tmp_path / "cache"."""
    for split, count in {"train": 3, "val": 2, "test": 2}.items():
        monkeypatch.setitem(data.SPLITS, split, count)
    monkeypatch.setenv("YOLOMIX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / data.FOLDER


def test_labels_are_the_same_on_every_machine(images):
    files = "".join(image.label for image in images)
    assert hashlib.sha256(files.encode()).hexdigest()[:16] == LABELS


def test_a_seed_is_an_image(images):
    again = scene.labelled_image(data.seed("train", 0))
    assert np.array_equal(again.image, images[0].image)
    assert again.label == images[0].label
    assert not np.array_equal(images[0].image, images[1].image)


def test_no_two_splits_share_a_seed():
    seeds = [data.seed(split, i) for split, count in data.SPLITS.items() for i in range(count)]
    assert len(seeds) == len(set(seeds)) == sum(data.SPLITS.values())
    assert all(count >= 100 for count in data.SPLITS.values())


def test_classes_are_balanced(images):
    counts = Counter(shown.label for image in images for shown in image.objects)
    assert sorted(counts) == [*range(len(shapes.CLASSES))]
    assert max(counts.values()) < 2 * min(counts.values())
    assert sum(counts.values()) > 6 * len(images)


def test_sizes_go_from_eight_pixels_to_half_of_the_image(images):
    boxes = np.array([shown.box for image in images for shown in image.objects])
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    assert sides.min() < 10
    assert 120 < sides.max() < 200
    assert 0.1 < (sides < 32).mean() < 0.4
    assert (sides > 96).mean() > 0.1


def test_many_objects_are_partly_hidden_but_none_is_labelled_for_a_scrap(images):
    shares = np.array([shown.visible.sum() / shown.area for image in images for shown in image.objects])
    assert 0.15 < (shares < 0.95).mean() < 0.4
    assert shares.min() >= scene.MIN_VISIBLE
    assert min(shown.visible.sum() for image in images for shown in image.objects) >= scene.MIN_PIXELS


def test_a_pixel_belongs_to_one_object(images):
    for image in images:
        assert np.sum([shown.visible for shown in image.objects], axis=0).max() == 1


def test_a_box_is_the_extent_of_what_is_visible(images):
    for shown in images[0].objects:
        left, top, right, bottom = shown.box
        inside = np.zeros_like(shown.visible)
        inside[top:bottom, left:right] = True
        assert not (shown.visible & ~inside).any()
        assert shown.visible[top].any()
        assert shown.visible[bottom - 1].any()
        assert shown.visible[:, left].any()
        assert shown.visible[:, right - 1].any()


def test_a_polygon_has_the_extent_of_its_box_and_covers_what_is_visible(images):
    for shown in (shown for image in images[:15] for shown in image.objects):
        polygon = shown.polygon
        assert (*polygon.min(0), *polygon.max(0)) == pytest.approx(shown.box)
        assert len(polygon) >= 3
        drawn = cv2.fillPoly(np.zeros_like(shown.visible, np.uint8), [np.int32(polygon)], 1).astype(bool)
        agreement = (drawn & shown.visible).sum() / (drawn | shown.visible).sum()
        assert agreement > (0.9 if shown.visible.sum() > 900 else 0.55), shown.box


def test_colour_does_not_tell_the_class(images):
    colours = {label: [] for label in range(len(shapes.CLASSES))}
    for image in images:
        for shown in image.objects:
            colours[shown.label].append(image.image[shown.visible].mean(0))
    means = np.array([np.mean(found, axis=0) for found in colours.values()])
    spread = np.mean([np.std(found, axis=0) for found in colours.values()])
    assert spread > 30
    assert np.ptp(means, axis=0).max() < spread


def test_every_class_looks_different_from_every_other():
    u, v = np.meshgrid(*[np.linspace(-1, 1, 41)] * 2)
    looks = {kind.name: (kind.outlines[0](u, v) < 0) * (1 + kind.pattern(u, v)) for kind in shapes.CLASSES}
    assert len(looks) == len(shapes.CLASSES)
    for name, look in looks.items():
        others = [np.abs(look - other).mean() for known, other in looks.items() if known != name]
        assert min(others) > 0.05, name


def test_the_outline_alone_does_not_tell_a_texture_or_an_arrangement():
    outlines = {kind.outlines for kind in shapes.CLASSES if kind.name in ("stripe", "check", "row", "trio")}
    assert len(outlines) == 1


def test_a_class_is_counted_in_words(tmp_path):
    """By Ultralytics, which adds an s."""
    from ultralytics.engine.results import Results

    two_of_each = np.array([[0, 0, 9, 9, 0.9, label] for label in range(len(shapes.CLASSES)) for _ in range(2)])
    names = {i: kind.name for i, kind in enumerate(shapes.CLASSES)}
    found = Results(np.zeros((9, 9, 3), np.uint8), "image.jpg", names, boxes=torch.from_numpy(two_of_each))
    assert found.verbose() == "2 stripes, 2 checks, 2 rows, 2 trios, 2 gears, 2 stars, "


def test_other_names_of_classes_are_kept_in_another_folder():
    """Else two versions of yolomix on one machine would render over each other's dataset every time."""
    assert (data.FOLDER, [kind.name for kind in shapes.CLASSES]) == (
        "sample-v2",
        ["stripe", "check", "row", "trio", "gear", "star"],
    )


def test_missing_photographs_are_named(monkeypatch):
    monkeypatch.setattr(surface, "PHOTOGRAPHS", ("bus.jpg", "nowhere.jpg"))
    with pytest.raises(FileNotFoundError, match=r"needs bus\.jpg and nowhere\.jpg .* found 1 of them .* Reinstall it"):
        surface.photographs.__wrapped__()


def test_it_is_rendered_once_and_kept(small):
    file = data.sample_dataset()
    assert file == small / "data.yaml"
    assert sorted(path.name for path in small.iterdir()) == ["data.yaml", "images", "labels", "sha256.txt"]
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*.*")}
    assert len(before) == 16
    assert data.sample_dataset("segment") == file
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*.*")} == before


def test_the_first_use_says_what_takes_so_long(small, monkeypatch, capsys):
    steps = []

    @contextmanager
    def shown(what):
        steps.append(what)
        yield lambda *step: steps.append(step)

    with monkeypatch.context() as patched:
        patched.setattr(data.progress, "shown", shown)
        data.sample_dataset()
    what = "rendering the sample dataset, 7 images"
    assert steps == [what, *[(i, 7, what) for i in range(7)]]
    shutil.rmtree(small)
    data.sample_dataset()
    assert capsys.readouterr().err.startswith(f"   0 s  {what}\n")
    data.sample_dataset()
    assert capsys.readouterr() == ("", "")


def test_an_incomplete_dataset_is_rendered_again(small):
    image = data.sample_dataset().parent / "images" / "val" / "0001.jpg"
    before = image.read_bytes()
    image.unlink()
    assert data.sample_dataset() == small / "data.yaml"
    assert image.read_bytes() == before
    assert [path.name for path in small.parent.iterdir()] == [data.FOLDER]


DAMAGES = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "changed": lambda file: file.write_bytes(file.read_bytes()[:-1] + b"?"),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a link to itself": lambda file: (file.unlink(), file.symlink_to(file)),
    "a stranger beside it": lambda file: file.with_stem("mine").write_bytes(file.read_bytes()),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["images/val/0001.jpg", "labels/train/0002.txt", "sha256.txt", "data.yaml"])
def test_what_is_damaged_is_rendered_again(small, name, damage):
    file = data.sample_dataset().parent / name
    before = file.read_bytes()
    DAMAGES[damage](file)
    data.sample_dataset()
    assert file.read_bytes() == before
    assert len([*small.rglob("*.jpg")]) == 7
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
    data._spare_folder.cache_clear()
    monkeypatch.setattr(data.LOGGER, "propagate", True)
    assert data.sample_dataset().is_relative_to(tmp_path / "spare")
    assert "cannot keep the sample dataset in" in caplog.text
    with pytest.raises(OSError, match="file"):
        data.sample_dataset(root=tmp_path / "file")


def test_the_cache_folder_is_the_usual_one_or_the_one_that_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("YOLOMIX_CACHE", raising=False)
    assert data.cache_folder() == platformdirs.user_cache_path("yolomix", appauthor=False)
    monkeypatch.setenv("YOLOMIX_CACHE", str(tmp_path / "own"))
    assert data.cache_folder() == tmp_path / "own"


@pytest.mark.skipif(sys.platform == "win32", reason="XDG_CACHE_HOME and HOME mean nothing on Windows")
def test_a_home_that_is_named_has_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("YOLOMIX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data.cache_folder() == tmp_path / "xdg" / "yolomix"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert data.cache_folder().is_relative_to(tmp_path / "home")
    monkeypatch.setenv("HOME", "relative")
    assert data.cache_folder().is_absolute()


def test_a_task_without_labels_is_refused():
    with pytest.raises(ValueError, match=r"labelled for detect and segment, not for 'pose'\. Give data= a file"):
        data.sample_dataset("pose")


@pytest.mark.parametrize("task", data.TASKS)
def test_ultralytics_reads_every_label(small, task):
    from ultralytics.data import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    found = check_det_dataset(str(data.sample_dataset(task)))
    assert found["names"] == {i: kind.name for i, kind in enumerate(shapes.CLASSES)}
    read = YOLODataset(img_path=found["train"], data=found, task=task, augment=False, imgsz=scene.SIDE)
    for i, labels in enumerate(read.labels):
        objects = scene.labelled_image(data.seed("train", i)).objects
        assert Path(labels["im_file"]).name == f"{i:04d}.jpg"
        assert [int(c) for c in labels["cls"].ravel()] == [shown.label for shown in objects]
        boxes = np.array([shown.box for shown in objects]) / scene.SIDE
        centres = np.hstack([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]])
        np.testing.assert_allclose(labels["bboxes"], centres, atol=2e-6)
