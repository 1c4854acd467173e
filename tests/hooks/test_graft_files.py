"""A graft into a checkpoint is what is in its file: names, dates and neighbours decide nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import yolomix
from tests import fresh
from yolomix import files
from yolomix.host import weights

TINY = """nc: 2
scales: {n: [1.0, 1.0, 1024]}
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C3, [16]]
  - [-1, 1, C3x, [16]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [[2, 3], 1, Detect, [nc]]
"""
NAME = "base.pt+MLLABlock@1"


@pytest.fixture(autouse=True)
def _base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("base-n.yaml").write_text(TINY)
    weights.write(weights.from_yaml("base-n.yaml"), "base.pt")


def gates(model) -> int:
    return [type(layer).__name__ for layer in model.model.model].count("ZeroGate")


def test_two_names_that_differ_by_a_wildcard_are_two_files():
    both, one = yolomix.YOLO("base.pt+MLLABlock@C3*"), yolomix.YOLO("base.pt+MLLABlock@C3?")
    assert (gates(both), gates(one)) == (2, 1)
    assert both.ckpt_path != one.ckpt_path
    assert {"base+MLLABlock@C3~2A.pt", "base+MLLABlock@C3~3F.pt"} <= {file.name for file in Path().iterdir()}


def test_a_graft_is_made_once_and_found_again():
    file = Path(yolomix.YOLO(NAME).ckpt_path)
    before = file.stat().st_mtime_ns, file.read_bytes()
    os.utime("base.pt")  # newer than its graft, and the same
    yolomix.YOLO(NAME)
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before


def test_a_base_restored_from_a_backup_is_older_and_another():
    file = Path(yolomix.YOLO(NAME).ckpt_path)
    made = weights.read(file).state_dict()["model.0.conv.weight"]
    weights.write(weights.from_yaml("base-n.yaml"), "base.pt")
    os.utime("base.pt", (1e9, 1e9))
    now = yolomix.YOLO(NAME).model.state_dict()["model.0.conv.weight"]
    assert not now.equal(made)
    assert now.equal(weights.read("base.pt").state_dict()["model.0.conv.weight"])


@pytest.mark.parametrize("how", ["saved by hand", "its weights changed", "another model"])
def test_a_file_that_is_no_graft_as_written_is_refused_and_stays(how):
    model = yolomix.YOLO(NAME)
    file = Path(model.ckpt_path)
    if how == "saved by hand":
        model.model.model[0].conv.weight.data += 1
        model.save(file)
    elif how == "its weights changed":
        weights.write(model.model, file, {"base": "b"})
        assert weights.record_of(file)["base"] == "b"
        content = weights._loaded(file)[1]
        content["model"].model[0].conv.weight.data += 1
        model.ckpt = content
        model.model = content["model"]
        model.save(file)
    else:
        weights.write(weights.from_yaml("base-n.yaml"), file)
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match=r"exists, and is no graft as yolomix wrote it: it was trained, saved or"):
        yolomix.YOLO(NAME)
    assert file.read_bytes() == before


def test_several_processes_that_name_a_graft_at_once_all_get_it():
    code = f"import yolomix; print(len(yolomix.YOLO({NAME!r}).model.model))"
    said = [done.stdout.splitlines()[-1] for done in fresh.run_together([code] * 3)]
    assert said == ["6", "6", "6"]
    assert not [file for file in Path().iterdir() if files.ASIDE in file.name]


@pytest.mark.parametrize(
    ("kept", "act"),
    [
        ("new.yaml", lambda: yolomix.graft("base.pt", "MLLABlock", at=0).apply("new.pt")),
        ("start-transfer.txt", lambda: yolomix.transfer("base.pt", "base-n.yaml", save="start.pt")),
        ("my11.yaml", lambda: yolomix.graft("my11n.yaml", "MLLABlock", at=1).apply("my11.yaml")),
        ("my11.yaml", lambda: yolomix.graft("./my11.yaml", "MLLABlock", at=1).apply("link.yaml")),
        ("base.pt", lambda: yolomix.graft("base.pt", "MLLABlock", at=1).apply("hard.pt")),
        ("base.pt", lambda: yolomix.transfer("base.pt", "base-n.yaml", save="link.pt")),
        ("base.pt", lambda: yolomix.transfer(yolomix.YOLO("base.pt"), "base-n.yaml", save="./base.pt")),
        ("base.pt", lambda: yolomix.transfer(yolomix.YOLO("base.pt").model, "base-n.yaml", save="hard.pt")),
    ],
    ids=["edited YAML", "a user's report", "scale letter", "link", "hard link", "link of a source", "YOLO", "model"],
)
def test_files_that_nobody_named_stay(kept, act):
    Path("my11.yaml").write_text(TINY)
    Path("link.yaml").symlink_to("my11.yaml")
    Path("link.pt").symlink_to("base.pt")
    os.link("base.pt", "hard.pt")
    yolomix.graft("base.pt", "MLLABlock", at=1).apply("new.pt")
    with Path("new.yaml").open("a") as file:
        file.write("# an evening of work\n")
    Path("start-transfer.txt").write_text("my notes\n")
    before = {file.name: file.read_bytes() for file in Path().iterdir()}
    with pytest.raises(FileExistsError, match="give another file name: save="):
        act()
    assert {file.name: file.read_bytes() for file in Path().iterdir()} == before


def test_a_disk_without_room_leaves_what_was_there_and_the_next_call_works():
    Path("out.pt").write_bytes(Path("base.pt").read_bytes())
    code = """
import os, resource, yolomix
size = os.path.getsize("base.pt")
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, unlimited[1]))
acts = {
    "named": lambda: yolomix.YOLO("base.pt+MLLABlock@1"),
    "saved": lambda: yolomix.graft("base.pt", "MLLABlock", at=1).apply("out.pt"),
}
for act in acts.values():
    try:
        act()
    except OSError as error:
        print("said", error)
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
yolomix.YOLO("base.pt+MLLABlock@1")
"""
    before = Path("out.pt").read_bytes()
    done = fresh.run(code)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("said")]
    assert said == [
        "said [Errno 27] cannot write base+MLLABlock@1.pt: File too large",
        "said [Errno 27] cannot write out.pt: File too large",
    ]
    assert Path("out.pt").read_bytes() == before
