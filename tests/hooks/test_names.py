"""Model names: packaged ones with their scale letter, files in odd folders, and what an unknown name says."""

from __future__ import annotations

import pytest
from ultralytics.engine import model as engine
from ultralytics.nn import tasks

import yolomix
from tests.tiny import TINY
from yolomix import models
from yolomix.host.names import Kind, resolve


@pytest.mark.parametrize(
    ("name", "file", "scale"),
    [
        ("yolo11n-mlla.yaml", "yolo11-mlla", "n"),
        ("yolo11x-halo.yaml", "yolo11-halo", "x"),
        ("yolo11-c2psa-mlla.yaml", "yolo11-c2psa-mlla", ""),
        ("mamba-yolo-t.yaml", "mamba-yolo", "t"),
        ("Mamba-YOLO-T.yaml", "mamba-yolo", "t"),
        ("mamba-yolo-t-seg.yaml", "mamba-yolo-seg", "t"),
        ("yolo-mamba-seg-n.yaml", "yolo-mamba-seg", "n"),
    ],
)
def test_packaged_names(name, file, scale):
    found = resolve(name)
    assert (found.kind, found.file, found.scale) == (Kind.PACKAGED, models.FOLDER / f"{file}.yaml", scale)
    assert tasks.yaml_model_load(name)["scale"] == scale


@pytest.mark.parametrize(
    "name", ["yolo11n.yaml", "yolo11n-mlla", "a/yolo11n-mlla.yaml", "yolo11n-mlla.pt", "nothing.yaml"]
)
def test_names_that_are_not_packaged(name):
    assert resolve(name).kind is not Kind.PACKAGED


def test_every_packaged_file_is_listed():
    assert models.names() == sorted(file.stem for file in models.FOLDER.glob("*.yaml"))
    assert "yolo11-mlla" in models.names()


def test_the_name_travels_with_the_description():
    d = engine.yaml_model_load("yolo11s-halo.yaml")
    assert (d["yaml_file"], d["scale"], d["nc"]) == ("yolo11s-halo.yaml", "s", 80)


def test_a_file_of_the_user_comes_before_a_packaged_one(tmp_path, monkeypatch):
    (tmp_path / "yolo11n-mlla.yaml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    assert tasks.yaml_model_load("yolo11n-mlla.yaml")["nc"] == 2


@pytest.mark.parametrize("folder", ["plain", "env3s", "v8x/11n"])
def test_a_scale_letter_in_any_folder(tmp_path, folder):
    path = tmp_path / folder / "yolo11s-mine.yaml"
    path.parent.mkdir(parents=True)
    path.with_name("yolo11-mine.yaml").write_text(TINY)
    d = tasks.yaml_model_load(path)
    assert (d["scale"], d["nc"], d["yaml_file"]) == ("s", 2, str(path))


def test_the_hosts_own_names_stay_its_own():
    d = tasks.yaml_model_load("yolo11s.yaml")
    assert (d["scale"], d["nc"]) == ("s", 80)


def test_an_unknown_name_lists_near_ones():
    with pytest.raises(FileNotFoundError, match=r"no model file 'yolo11n-mla.yaml' .*which has yolo11-mlla"):
        yolomix.YOLO("yolo11n-mla.yaml")


def test_yolo_builds_a_packaged_model_of_its_task():
    assert (yolomix.YOLO("yolo11n-halo.yaml").task, yolomix.YOLO("mamba-yolo-t-seg.yaml").task) == ("detect", "segment")
