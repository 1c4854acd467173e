"""Datasets of a study: hashed by content, splits apart, and labels in the split of the verdict."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.tiny import write_dataset
from yolomix.data import render
from yolomix.studying.contents import Contents
from yolomix.studying.datasets import resolve
from yolomix.studying.plan import Plan, PlanError

SPLITS = {"train": 6, "val": 4, "test": 4}


def plan(data: str | list[str], **keys: object) -> Plan:
    return Plan.of(data=data, arms={"a": "a.yaml", "b": "b.yaml"}, base="a", seeds=[0, 1, 2], **keys)


def found(data: Path, task: str = "detect", **keys: object):
    return resolve(plan(str(data), **keys), task, Contents("study"))[0]


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return render(tmp_path / "data", SPLITS)


def test_the_split_of_the_verdict_is_test_where_there_is_one(data, tmp_path):
    dataset = found(data)
    assert dataset.split == "test"
    assert {name: len(split.images) for name, split in dataset.splits.items()} == SPLITS
    assert "verdict on its test split, as the plan does not say one" in dataset.remarks[0]
    assert found(data, split="val").split == "val"
    without = write_dataset(tmp_path / "without")
    with pytest.raises(PlanError, match=r"yolomix\.Study\(split=\.\.\.\): .* has no test split; it has train, val"):
        found(without, split="test")


def test_the_hash_is_of_the_content_and_not_of_the_place(data, tmp_path):
    before = found(data).digest
    shutil.copytree(data.parent, tmp_path / "elsewhere")
    assert found(tmp_path / "elsewhere" / "data.yaml").digest == before
    label = tmp_path / "elsewhere" / "labels" / "train" / "0000.txt"
    label.write_text(label.read_text() + "0 0.5 0.5 0.1 0.1\n")
    assert found(tmp_path / "elsewhere" / "data.yaml").digest != before


def test_the_names_of_classes_are_content(data):
    before = found(data).digest
    data.write_text(data.read_text().replace("gear", "cog"))
    assert found(data).digest != before


@pytest.mark.parametrize("other", ["val", "train"])
def test_an_image_in_the_test_split_and_another_is_an_error(data, other):
    images = data.parent / "images"
    shutil.copy(images / "test" / "0001.jpg", images / other / "copy.jpg")
    text = f"{images}/{other}/copy.jpg and {images}/test/0001.jpg are one image (bytes are equal), in {other} and test"
    with pytest.raises(PlanError, match=re.escape(text)):
        found(data)


def test_equal_pixels_in_another_file_format_are_an_error(data):
    images = data.parent / "images"
    cv2.imwrite(str(images / "val" / "copy.png"), cv2.imread(str(images / "test" / "0001.jpg"), cv2.IMREAD_UNCHANGED))
    with pytest.raises(PlanError, match=r"are one image \(pixels are equal\).*take them out of val"):
        found(data)


def test_equal_images_in_train_and_val_are_a_remark_where_the_verdict_is_on_test(data):
    images = data.parent / "images"
    shutil.copy(images / "val" / "0001.jpg", images / "train" / "copy.jpg")
    assert any("are one image (bytes are equal), in train and val" in remark for remark in found(data).remarks)
    with pytest.raises(PlanError, match="are one image"):
        found(data, split="val")


def test_near_images_are_a_remark(data):
    images = data.parent / "images"
    near = cv2.imread(str(images / "test" / "0002.jpg"))
    cv2.imwrite(str(images / "train" / "near.jpg"), np.clip(near.astype(int) + 3, 0, 255))
    (remark,) = [remark for remark in found(data).remarks if "near pair" in remark]
    assert remark.endswith("1 near pair of images between train and test: near.jpg and 0002.jpg")


def test_a_test_split_of_one_image(data):
    for i in (1, 2, 3):
        (data.parent / "images" / "test" / f"{i:04d}.jpg").unlink()
    with pytest.raises(
        PlanError, match=r"needs at least two images in the test split of .*, got 1: .*0000\.jpg\. Label"
    ):
        found(data)


def test_a_test_split_without_labels(data):
    shutil.rmtree(data.parent / "labels" / "test")
    with pytest.raises(
        PlanError, match=r"needs labels in the test split of .*, got none for its 4 images .*split: val"
    ):
        found(data)


def test_a_class_without_label_in_the_test_split_is_named(data):
    for label in (data.parent / "labels" / "test").iterdir():
        lines = [line for line in label.read_text().splitlines() if not line.startswith(("4 ", "5 "))]
        label.write_text("\n".join([*lines, "0 0.5 0.5 0.1 0.1"]))
    (remark,) = [remark for remark in found(data).remarks if "no label" in remark]
    assert "in the test split of" in remark
    assert "gear, star" in remark


def test_what_is_no_dataset(data, tmp_path):
    (tmp_path / "words.yaml").write_text("no: dataset\n")
    for name in ("words.yaml", "none.yaml"):
        with pytest.raises(PlanError, match=rf"\(data=\.\.\.\): {name} cannot be read as a dataset for detect: "):
            found(Path(name))


def test_the_folder_of_the_plan_is_looked_in(data, tmp_path, monkeypatch):
    (tmp_path / "study.yaml").write_text("data: data/data.yaml\narms: {a: a.yaml, b: b.yaml}\nbase: a\nseeds: [0]\n")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (dataset,) = resolve(Plan.read("../study.yaml"), "detect", Contents("study"))
    assert dataset.data == str(data.resolve())


def test_groups_that_match_nothing(data):
    with pytest.raises(
        PlanError, match=r"groups needs a regular expression that matches file names of .*'\^z'.*4 \(0000"
    ):
        found(data, groups="^z")
    assert found(data, groups="^000[01]").split == "test"


@pytest.mark.parametrize("groups", ["^0", "(0)00"])
def test_groups_that_are_one(data, tmp_path, groups):
    file = tmp_path / "study.yaml"
    file.write_text(f"data: {data}\narms: {{a: a.yaml, b: b.yaml}}\nbase: a\nseeds: [0]\ngroups: '{groups}'\n")
    text = (
        f"study.yaml, line 5: a verdict needs at least two groups of images in {data}, and {groups!r} puts all of 4 "
        "into one, '0'. Give an expression that tells videos, tiles or patients apart, or leave groups out"
    )
    with pytest.raises(PlanError, match=re.escape(text)):
        resolve(Plan.read(file), "detect", Contents("study"))


def test_best_weights_on_val_are_said(data):
    remarks = found(data, split="val", weights="best").remarks
    assert any("best.pt was chosen on the val split" in remark for remark in remarks)


def test_a_classifier_has_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "animals" / split / name
            folder.mkdir(parents=True)
            for i in range(2):
                cv2.imwrite(str(folder / f"{i}.png"), rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    dataset = found(tmp_path / "animals", "classify")
    assert dataset.classes == ("cat", "dog")
    assert dict(dataset.judged.counts) == {0: 2, 1: 2}
