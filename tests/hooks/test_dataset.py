"""Values of a dataset YAML that Ultralytics would take without a look."""

from __future__ import annotations

import pytest

import yolomix


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("kpt_shape: [17]", r"kpt_shape is \[17\], and has to be two whole numbers"),
        ("kpt_shape: null", "kpt_shape is None, and has to be two whole numbers"),
        ("channels: false", "channels is False, and has to be a whole number from 1 on"),
        ("nc: 1000000000", "nc is 1000000000, and has to be the number of classes, at most 100000"),
        ("names: {1: bar}", r"names has the class indices \[1\], and has to have 0 to 0"),
        ("names: {0: a, nc: b}", r"names has the class indices \[0, 'nc'\], and has to have 0 to 1"),
        ("path: 7", "path is 7, and has to be a folder"),
        ("test: [1]", r"test is \[1\], and has to be a folder, a list of images"),
    ],
)
@pytest.mark.parametrize("act", ["train", "val"])
def test_a_value_that_cannot_be_used_names_file_and_value(tiny, dataset, settings, tmp_path, line, said, act):
    file = tmp_path / "odd.yaml"
    kept = [text for text in dataset.read_text().splitlines() if text.partition(":")[0] != line.partition(":")[0]]
    file.write_text("\n".join([*kept, line]))
    run = {**settings, "data": str(file), "project": str(tmp_path)}
    with pytest.raises((ValueError, RuntimeError), match=rf"odd\.yaml: {said}"):
        getattr(yolomix.YOLO(tiny), act)(**run)


def test_a_dataset_without_training_images_validates_and_does_not_train(tiny, dataset, settings, tmp_path):
    file = tmp_path / "val.yaml"
    file.write_text("\n".join(text for text in dataset.read_text().splitlines() if text[:6] != "train:") + "\ntrain:\n")
    run = {**settings, "data": str(file), "project": str(tmp_path)}
    with pytest.raises((ValueError, RuntimeError), match=r"val\.yaml: train is None, and a training needs a folder"):
        yolomix.YOLO(tiny).train(**run)
    assert yolomix.YOLO(tiny).val(**run).results_dict


@pytest.mark.parametrize("act", ["train", "val"])
def test_a_download_without_a_server_says_what_to_do(tiny, dataset, settings, tmp_path, act):
    file = tmp_path / "away.yaml"
    file.write_text(dataset.read_text().replace("images/val", "nowhere") + "download: http://127.0.0.1:9/away.zip\n")
    said = (
        r"away\.yaml: its images are missing and cannot be downloaded \(Download failure .*\); put them below .*sample"
    )
    with pytest.raises((ConnectionError, RuntimeError), match=said):
        getattr(yolomix.YOLO(tiny), act)(**{**settings, "data": str(file), "project": str(tmp_path)})


@pytest.mark.parametrize("script", ["../..", "coco"])
def test_a_download_that_is_none_is_told_with_its_file(tiny, dataset, settings, tmp_path, script):
    file = tmp_path / "gone.yaml"
    file.write_text(dataset.read_text().replace("images/val", "nowhere") + f"download: {script}\n")
    said = r"gone\.yaml: its images are missing, and its download is no address, no 'bash COMMAND' and no Python code"
    with pytest.raises((ValueError, RuntimeError), match=said):
        yolomix.YOLO(tiny).val(**{**settings, "data": str(file)})


def test_an_image_called_txt_is_no_list_of_images(tiny, dataset, tmp_path):
    image = next((dataset.parent / "images" / "val").glob("*.png"))
    (tmp_path / "a.txt").write_bytes(image.read_bytes())
    with pytest.raises(ValueError, match=r"a\.txt is no list of images: a source that ends in \.txt or \.csv is"):
        yolomix.YOLO(tiny).predict(tmp_path / "a.txt", imgsz=64)
