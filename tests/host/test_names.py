"""What a model name means, as a table: packaged, file, scale letter, checkpoint, exported, address, with grafts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from yolomix import models
from yolomix.host.names import Kind, described, near, resolve
from yolomix.surgery.grammar import GraftNameError

FILES = ("my11.yaml", "mine.yaml", "yolo11-own.yaml", "yolo8n-a.yml", "best.pt", "a+b.pt", "best.onnx")
FOLDERS = ("best_openvino_model",)

# name: kind, file (relative; ZOO: packaged; None: only Ultralytics can know), scale letter, blocks that are grafted
TABLE = {
    "yolo11n-mlla.yaml": (Kind.PACKAGED, "ZOO/yolo11-mlla.yaml", "n", []),
    "yolo11-mlla.yaml": (Kind.PACKAGED, "ZOO/yolo11-mlla.yaml", "", []),
    "Mamba-YOLO-T.yaml": (Kind.PACKAGED, "ZOO/mamba-yolo.yaml", "t", []),
    "yolov8x-vim.yml": (Kind.PACKAGED, "ZOO/yolov8-vim.yaml", "x", []),
    "folder/yolo11n-mlla.yaml": (Kind.YAML, None, "", []),
    "mine.yaml": (Kind.YAML, "mine.yaml", "", []),
    "yolo11s-own.yaml": (Kind.YAML, "yolo11-own.yaml", "s", []),
    "my11s.yaml": (Kind.YAML, "my11.yaml", "s", []),
    "yolo11n.yaml": (Kind.YAML, None, "", []),
    "nothing.yaml": (Kind.YAML, None, "", []),
    "best.pt": (Kind.CHECKPOINT, "best.pt", "", []),
    "yolo11n.pt": (Kind.CHECKPOINT, None, "", []),
    "yolo11n": (Kind.CHECKPOINT, None, "", []),
    "a+b.pt": (Kind.CHECKPOINT, "a+b.pt", "", []),
    "best.onnx": (Kind.EXPORTED, "best.onnx", "", []),
    "gone.engine": (Kind.EXPORTED, None, "", []),
    "best_openvino_model": (Kind.EXPORTED, "best_openvino_model", "", []),
    "https://example.org/a+b.pt": (Kind.REMOTE, None, "", []),
    "yolo11n+MLLABlock@p5.yaml": (Kind.YAML, None, "", ["MLLABlock"]),
    "yolo11n-mlla+HaloAttention(2,1)@p4,p5+ASSG@neck:wrap.yaml": (
        Kind.PACKAGED,
        "ZOO/yolo11-mlla.yaml",
        "n",
        ["HaloAttention", "ASSG"],
    ),
    "yolo11s-own+MLLABlock@3.yaml": (Kind.YAML, "yolo11-own.yaml", "s", ["MLLABlock"]),
    "best+MLLABlock@p5": (Kind.CHECKPOINT, "best.pt", "", ["MLLABlock"]),
    "best.pt+MLLABlock@p5": (Kind.CHECKPOINT, "best.pt", "", ["MLLABlock"]),
}


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        (tmp_path / name).write_text("backbone: []\nhead: []\n")
    for name in FOLDERS:
        (tmp_path / name).mkdir()


@pytest.mark.parametrize("name", TABLE)
def test_what_a_name_means(name: str) -> None:
    kind, file, scale, blocks = TABLE[name]
    expected = None
    if file is not None:
        expected = models.FOLDER / file[4:] if file.startswith("ZOO/") else Path(file)
    found = resolve(name)
    assert (found.text, found.kind, found.file, found.scale) == (name, kind, expected, scale)
    assert [part.block for part in found.grafts] == blocks
    if kind is not Kind.REMOTE:  # a Path drops a slash of an address
        assert resolve(Path(name)).kind is kind
    assert found.has_weights is (kind is Kind.CHECKPOINT)


def test_the_base_is_the_name_without_its_grafts() -> None:
    assert resolve("best+MLLABlock@p5").base == "best.pt"
    assert resolve("yolo11n+MLLABlock@p5.yaml").base == "yolo11n.yaml"


def test_a_name_that_is_no_graft_and_no_file() -> None:
    with pytest.raises(GraftNameError, match="needed"):
        resolve("yolo11n+.yaml")


def test_a_described_model_keeps_the_name_and_the_scale() -> None:
    assert {"scale": "s", "yaml_file": "yolo11s-own.yaml"}.items() <= described("yolo11s-own.yaml").items()
    assert described("yolo11n.yaml")["scale"] == "n"  # by Ultralytics


def test_a_name_that_nobody_has_shows_near_ones() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no model file 'yolo11n-mla\.yaml' .*; did you mean yolo11n-mlla\.yaml "
    ):
        described("yolo11n-mla.yaml")
    with pytest.raises(
        FileNotFoundError, match=r"in Ultralytics or in yolomix; `yolomix models` lists those of yolomix$"
    ):
        described("unlike-anything-else.yaml")
    assert near("mamba-yolo-seq-x.yaml")[0] == "mamba-yolo-seg-t.yaml"  # which has no scale x


@pytest.mark.parametrize("task", ["seg", "pose", "obb", "cls"])
def test_a_packaged_model_for_another_task_is_a_graft(task: str) -> None:
    name = f"yolo11s-{task}+HaloAttention(2,1)@8:plain.yaml"
    with pytest.raises(
        FileNotFoundError,
        match=re.escape(f"no model file 'yolo11s-halo-{task}.yaml'; a graft gives it: model='{name}'"),
    ):
        described(f"yolo11s-halo-{task}.yaml")
    with pytest.raises(FileNotFoundError, match=r"no model file 'yolov8n-vim-seg\.yaml' on disk"):  # no graft gives it
        described("yolov8n-vim-seg.yaml")


@pytest.mark.parametrize(
    ("text", "has"),
    [("nc: 2\n", "nc"), ("", "nothing"), ("backbone: []\nnc: 1\n", "backbone, nc"), ("head: 3\n", "head")],
)
def test_a_yaml_that_describes_no_model(text: str, has: str) -> None:
    Path("other.yaml").write_text(text)
    with pytest.raises(
        ValueError, match=rf"other\.yaml is no model YAML: it needs 'backbone' and 'head', .* has {has}"
    ):
        described("other.yaml")
