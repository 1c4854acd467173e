"""Checkpoints of the official Mamba-YOLO fork, made here from stand-ins of its classes."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks

from tests import fork_files
from tests.fork_files import BLOCKS, TIMM, UTILS
from yolomix import models
from yolomix.host import foreign
from yolomix.nn import mamba_yolo_parts


def model_t() -> nn.Module:
    d = yaml.safe_load((models.FOLDER / "mamba-yolo.yaml").read_text(encoding="utf-8"))
    d["scales"] = {"T": d["scales"]["t"]}  # as the fork writes it
    torch.manual_seed(0)
    model = tasks.DetectionModel({**d, "scale": "T"}, nc=3, verbose=False)
    model.names = {0: "red cell", 1: "white cell", 2: "platelet"}
    return model


def shell(**attributes: object) -> nn.Module:
    """A model of one block, not built from a YAML."""
    model = tasks.DetectionModel.__new__(tasks.DetectionModel)
    nn.Module.__init__(model)
    model.model = nn.Sequential(mamba_yolo_parts.MambaYoloSS2D(8), nn.Identity())
    model.__dict__.update(attributes)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model as the fork would; afterwards nobody can import the fork's classes."""

    def save(model: nn.Module, protocol: int = 2, **more: object) -> Path:
        args = {"imgsz": 320, "data": "bccd.yaml", "save_dir": Path("runs")}
        theirs = fork_files.as_theirs(copy.deepcopy(model))
        content = {"epoch": 7, "model": theirs, "ema": None, "train_args": args, **more}
        with fork_files.in_place():
            torch.save(content, tmp_path / "best.pt", pickle_protocol=protocol)
        return tmp_path / "best.pt"

    return save


def test_a_checkpoint_of_the_fork_becomes_our_model(
    saved: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    model = model_t()
    file = saved(model)
    assert foreign.is_foreign(file)
    with caplog.at_level(logging.INFO, "yolomix"):
        found = foreign.checkpoint(file)
    assert not {BLOCKS, UTILS, TIMM} & sys.modules.keys()
    ours = found["model"]
    assert type(ours) is tasks.DetectionModel
    want = model.half().float().state_dict()
    got = ours.state_dict()
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)
    assert ours.names == model.names
    assert found["train_args"] == {"imgsz": 320, "data": "bccd.yaml"}
    with torch.no_grad():
        x = torch.rand(1, 3, 64, 32)
        assert torch.equal(ours.eval()(x)[0], model.float().eval()(x)[0])
    said = caplog.text
    assert f"{len(want)} tensors loaded by name, none missing, none left over" in said
    assert "SS2D" in said
    assert "DropPath" in said


def test_a_bit_that_fell_over_in_a_weight_is_found(saved):
    file = saved(model_t())
    with zipfile.ZipFile(file) as archive:
        inside = archive.read("best/data/0")
    raw = file.read_bytes()
    at = raw.index(inside)
    file.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    with pytest.raises(TypeError, match=r"best\.pt is damaged: best/data/0 inside it"):
        YOLO(file)


def test_what_this_process_allowed_to_be_constructed_is_not(saved):
    """Safe loading allows its classes for the life of the process."""
    torch.serialization.add_safe_globals([tasks.DetectionModel])
    found = foreign.read(saved(model_t()))
    assert "ultralytics.nn.tasks.DetectionModel" in found.stand_ins
    assert tasks.DetectionModel in torch.serialization.get_safe_globals()


def test_ultralytics_opens_it_like_any_checkpoint(saved: Callable[..., Path]) -> None:
    file = saved(model_t())
    checkpoint, name = tasks.torch_safe_load(str(file))
    assert name == str(file)
    model = YOLO(file)
    assert model.names == {0: "red cell", 1: "white cell", 2: "platelet"}
    assert model.overrides["imgsz"] == 320
    for one in (checkpoint["model"], model.model):
        assert sum(p.numel() for p in one.parameters()) == 5_985_937


class Evil:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_a_file_that_runs_a_command_is_refused(saved: Callable[..., Path], tmp_path: Path) -> None:
    marker = tmp_path / "was_run"
    file = saved(nn.Sequential(mamba_yolo_parts.MambaYoloSS2D(8)), optimizer=Evil(marker))
    with pytest.raises(foreign.RefusedError) as error:
        foreign.checkpoint(file)
    assert f"loading it would run {os.system.__module__}.system" in str(error.value)
    assert "Nothing was run" in str(error.value)
    assert not marker.exists()


def test_a_pickle_of_another_protocol_is_refused(saved: Callable[..., Path], tmp_path: Path) -> None:
    file = saved(nn.Sequential(mamba_yolo_parts.MambaYoloSS2D(8)), protocol=4, optimizer=Evil(tmp_path / "was_run"))
    with pytest.raises(foreign.RefusedError, match=r"best\.pt is refused: it is no pickle that torch\.save writes"):
        foreign.read(file)
    assert not (tmp_path / "was_run").exists()


CONV, DETECT = [-1, 1, "Conv", [8, 3, 2]], [[0, 0, 0], 1, "Detect", ["nc"]]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"backbone": [[-1, 1, "check_file", ["x"]]]}, "names 'check_file', which is no layer of the fork"),
        ({"backbone": [[-1, 1, "nn.functional", []]]}, "names 'nn.functional', which is no layer"),
        ({"backbone": [[-1, 1, "DetectionModel", [{"activation": "exit()"}]]]}, "names 'DetectionModel', which"),
        ({"backbone": [[-1, 1, "TorchVision", [512, "resnet18", "DEFAULT"]]]}, "names 'TorchVision', which is no"),
        ({"backbone": [[-1, 1]]}, "row 0 [-1, 1] is not [from, repeats, module, args]"),
        ({"backbone": [[-1, 1, "Conv", [8, "exit()"]]]}, "has arguments that are not at most 12 numbers"),
        ({"backbone": [[-1, 1, "Conv", [{"c": 1}]]]}, "has arguments that are not at most 12 numbers"),
        ({"backbone": [[-1, 1, "Conv", [10**9, 3, 2]]]}, "has arguments that are not at most 12 numbers up to 8192"),
        ({"backbone": [[-1, 10**9, "Conv", [8]]]}, "has repeats of 1000000000"),
        ({"backbone": [[-1, 301, "Conv", [8]]]}, "its rows repeat 301 layers, more than 300"),
        ({"backbone": 101 * [CONV]}, "it has 101 rows, more than 100"),
        ({"backbone": {"0": CONV}}, "backbone and head have to be lists of rows"),
        ({"backbone": [["x", 1, "Conv", [8]]]}, "reads 'x', and has to read layers by index"),
        ({"scales": {"n": [1e9, 1.0, 1024]}}, "scale 'n' is [1000000000.0, 1.0, 1024]"),
        ({"scales": {"n": [1.0, 1.0, 64]}, "scale": "x"}, "its scale is 'x', and its scales are ['n']"),
        ({"nc": Path("x")}, "nc is <yolomix.host.foreign.PosixPath object"),
        ({"kpt_shape": "exit()"}, "kpt_shape is 'exit()', and has to be two whole numbers"),
        ({"depth_multiple": "3"}, "depth_multiple is '3'"),
    ],
)
def test_a_yaml_that_is_more_than_a_description_is_refused(
    saved: Callable[..., Path], change: dict[str, Any], text: str
) -> None:
    with pytest.raises(foreign.RefusedError) as error:
        foreign.read(saved(shell(yaml={"nc": 1, "backbone": [], "head": [], **change})))
    assert text in str(error.value)
    assert "Nothing was built" in str(error.value)


def test_an_activation_inside_a_file_is_not_evaluated(saved: Callable[..., Path], tmp_path: Path) -> None:
    model = model_t()
    model.yaml["activation"] = f"__import__('os').system('touch {tmp_path / 'was_run'}')"
    foreign.checkpoint(saved(model))
    assert not (tmp_path / "was_run").exists()


def twice(value: object, times: int = 40) -> object:
    """A list of a list of a list, each of them twice: a line to write, 2**40 items to print."""
    for _ in range(times):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"yaml": {"backbone": [[-1, 1, "Conv", twice(1)]], "head": []}}, "row 0 [-1, 1, 'Conv', [[["),
        ({"yaml": {"backbone": twice(1), "head": []}}, "row 0 [[[[["),
        ({"yaml": {"backbone": [], "head": [], "nc": "9" * 10**6}}, "nc is '99999"),
        ({"names": twice("a")}, "its names are [[[[["),
        ({"names": {"a": "b"}}, "its names are {'a': 'b'}, and have to map class indices to names"),
    ],
)
def test_what_a_stranger_wrote_is_told_in_a_line(
    saved: Callable[..., Path], attributes: dict[str, Any], text: str
) -> None:
    model = shell(**{"yaml": {"nc": 1, "backbone": [], "head": []}, **attributes})
    with pytest.raises(foreign.RefusedError) as error:
        foreign.read(saved(model))
    assert text in str(error.value)
    assert len(str(error.value)) < 600


def test_modules_without_end_are_refused(saved: Callable[..., Path]) -> None:
    model = shell(yaml={"nc": 1, "backbone": [], "head": []})
    inner = model.model
    for _ in range(40):
        inner = nn.Sequential(inner, inner)
    model.model = inner
    with pytest.raises(foreign.RefusedError, match="its modules are no tree"):
        foreign.read(saved(model))


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9])
def test_a_pickle_of_the_fork_that_is_cut_is_refused(saved: Callable[..., Path], cut: float) -> None:
    file = saved(shell())
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, inside in entries.items():
            end = int(cut * len(inside)) if name.endswith("data.pkl") else None
            archive.writestr(name, inside[:end] + (BLOCKS.encode() if end else b""))
    with pytest.raises(
        foreign.RefusedError, match=r"it is no pickle that torch\.save writes .*Copy it again from where"
    ):
        foreign.checkpoint(file)


@pytest.mark.parametrize("how", ["compressed", "twice", "a bare pickle", "no index"])
def test_what_the_fork_never_writes_is_refused_and_not_taken_for_an_ordinary_file(
    saved: Callable[..., Path], tmp_path: Path, how: str
) -> None:
    marker = tmp_path / "was_run"
    file = saved(shell(), optimizer=Evil(marker))
    with zipfile.ZipFile(file) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    pickled = next(inside for name, inside in entries if name.endswith("data.pkl"))
    if how == "a bare pickle":
        file.write_bytes(pickled)
    elif how == "no index":
        file.write_bytes(file.read_bytes()[:-30])
    else:
        kind = zipfile.ZIP_DEFLATED if how == "compressed" else zipfile.ZIP_STORED
        with zipfile.ZipFile(file, "w", kind) as archive:
            for name, inside in entries + (entries[:1] if how == "twice" else []):
                archive.writestr(name, inside)
    with pytest.raises(foreign.RefusedError, match=r"best\.pt is refused: it is no pickle that torch\.save writes"):
        YOLO(file)
    assert not marker.exists()


def test_addresses_among_the_arguments_of_the_training_are_left_out(saved: Callable[..., Path]) -> None:
    file = saved(model_t(), train_args={"imgsz": 64, "data": "https://example.com/data.zip", "model": "a.yaml"})
    assert foreign.read(file).train_args == {"imgsz": 64, "model": "a.yaml"}


def test_weights_that_do_not_fit_their_yaml_are_an_error(saved: Callable[..., Path]) -> None:
    model = model_t()
    model.yaml["nc"] = 4
    with pytest.raises(ValueError, match="do not fit the model that its YAML describes") as error:
        foreign.checkpoint(saved(model))
    assert "model.21.cv3.0.2.weight" in str(error.value)


def test_files_without_a_model_are_an_error(saved: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"holds no model of the Mamba-YOLO fork but Sequential; it has to be a Det"):
        foreign.read(saved(nn.Sequential(mamba_yolo_parts.MambaYoloSS2D(8))))
    with pytest.raises(TypeError, match="holds no YAML of its model"):
        foreign.read(saved(shell()))


def test_other_files_are_not_foreign(tmp_path: Path) -> None:
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps("ultralytics.nn.modules"))
    assert not any(foreign.is_foreign(tmp_path / name) for name in ("a.pt", "b.pt", "none.pt"))
