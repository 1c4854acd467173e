"""Models and images as every figure takes them, and what it refuses."""

from __future__ import annotations

import pytest

from tests.figures.models import subject
from yolomix import figures
from yolomix.figures import opening
from yolomix.host import weights


def test_the_folder_of_a_training_is_its_best_checkpoint(tmp_path):
    (tmp_path / "weights").mkdir()
    weights.write(subject("halo").module, tmp_path / "weights" / "best.pt")
    found = opening.opened(tmp_path)[0]
    assert (found.name, found.layers[2].module) == (str(tmp_path), "HaloAttention")


@pytest.mark.parametrize(("name", "content"), [("noise.jpg", b"no image"), ("noise.txt", b"no image"), ("a.png", b"")])
def test_what_is_no_image_is_named(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is no image that can be read$"):
        opening.found(tmp_path / name)


def test_a_folder_without_an_image_says_what_it_takes(tmp_path):
    (tmp_path / "labels.txt").write_text("0 0.5 0.5 1 1")
    with pytest.raises(FileNotFoundError, match=r"^no images in .*, whose names end with .*jpg.*png"):
        opening.found(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gone: there is no such image or folder$"):
        opening.found(tmp_path / "gone")


@pytest.mark.parametrize("imgsz", [0, -3, "large", 32.5, (1, 2, 3)])
def test_an_image_size_is_whole_numbers_of_pixels(imgsz):
    for draw in (figures.insertion, figures.scan):
        with pytest.raises(
            ValueError, match=r"^imgsz is one number of pixels, or height and width, as in 480,640; got"
        ):
            draw(subject("vim").yolo, imgsz=imgsz)


def test_sides_are_rounded_up_to_the_largest_stride():
    assert figures.insertion(subject("halo").yolo, imgsz=(1, 17)).done["imgsz"] == "8x24"
