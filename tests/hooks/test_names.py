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


def test_the_folder_of_an_exported_graft_is_no_graft(tmp_path):
    folder = tmp_path / "yolo11n+VSSBlock@p5_openvino_model"
    assert resolve(folder).grafts
    folder.mkdir()
    assert not resolve(folder).grafts


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
    with pytest.raises(FileNotFoundError, match=r"no model file 'yolo11n-mla.yaml' .*did you mean yolo11n-mlla.yaml"):
        yolomix.YOLO("yolo11n-mla.yaml")


def test_yolo_builds_a_packaged_model_of_its_task():
    assert (yolomix.YOLO("yolo11n-halo.yaml").task, yolomix.YOLO("mamba-yolo-t-seg.yaml").task) == ("detect", "segment")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "yolo11nn.pt",
            r"no checkpoint 'yolo11nn\.pt' on disk or among those that Ultralytics offers; did you mean yolo11n",
        ),
        ("beste.pt", r"no checkpoint 'beste\.pt' .*; did you mean best\.pt"),
        ("nowhere", r"no checkpoint 'nowhere' .*"),
        ("gone.onnx", r"no file 'gone\.onnx' on disk .*; here is none"),
        ("x" * 3000 + ".pt", r"no checkpoint 'xxx.*"),
    ],
)
def test_a_model_that_is_nowhere_is_not_asked_for_in_the_network(name, said, tmp_path, monkeypatch):
    def asked(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("ultralytics.utils.downloads.safe_download", asked)
    monkeypatch.setattr("ultralytics.utils.downloads.get_github_assets", asked)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.pt").touch()
    with pytest.raises(FileNotFoundError, match=said):
        yolomix.YOLO(name)


def test_grafts_behind_the_suffix_of_a_yaml():
    with pytest.raises(ValueError, match=r"such a name ends in \.yaml: yolo11n\+MLLABlock@p5\.yaml"):
        yolomix.YOLO("yolo11n.yaml+MLLABlock@p5")


def test_without_a_connection_the_address_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def asked(url, **_):
        raise ConnectionError(f"Download failure for {url}. Environment may be offline.")

    monkeypatch.setattr("ultralytics.utils.downloads.safe_download", asked)
    with pytest.raises(
        ConnectionError, match=r"yolo11n\.pt is not on disk .*; fetch https://.*/yolo11n\.pt on a machine"
    ):
        yolomix.YOLO("yolo11n.pt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"backbone: [", r"yolo0-own\.yaml cannot be read as a model YAML: while parsing a flow node"),
        (b"a: b: c", r"cannot be read as a model YAML: .*mapping values are not allowed"),
        (b"- 1\n- 2", r"it needs 'backbone' and 'head', each a list of rows"),
        (b"nc: 2", r"it needs 'backbone' and 'head', each a list of rows"),
        (b"\xff\xfe\x00", r"cannot be read as a model YAML|it needs 'backbone' and 'head'"),
    ],
)
@pytest.mark.parametrize("name", ["yolo0-own.yaml", "yolo0n-own.yaml"])
def test_what_is_no_yaml_is_told_with_file_and_place(name, text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yolo0-own.yaml").write_bytes(text)
    with pytest.raises(ValueError, match=said.replace("yolo0-own", name[:-5])) as found:
        yolomix.YOLO(name)
    assert "ray.run" not in str(found.value)
