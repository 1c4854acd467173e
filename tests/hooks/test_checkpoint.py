"""Checkpoints under weights-only loading, and what a file that is none is called."""

from __future__ import annotations

import pickle
import sys
import types
import zipfile

import pytest
import torch
import ultralytics
from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn import tasks

import yolomix
from tests.hooks import blocks
from yolomix.hooks import checkpoint
from yolomix.host import weights

OLDEST = ultralytics.__version__.startswith("8.3.")


@pytest.mark.skipif(OLDEST, reason="ULTRALYTICS_SAFE_LOAD came with Ultralytics 8.4")
def test_predict_and_train_under_weights_only_loading(trained, dataset, settings, python, tmp_path):
    code = f"""
import yolomix
from ultralytics import YOLO
model = YOLO({str(trained)!r})
model.predict({str(dataset.parent / "images/val/0.png")!r}, imgsz=64, project={str(tmp_path)!r})
model.train(**{settings | {"epochs": 1, "val": False, "project": str(tmp_path)}!r})
"""
    python(code, ULTRALYTICS_SAFE_LOAD="1")


def test_classes_that_are_allowed():
    classes = set(checkpoint.module_classes())
    names = {c.__qualname__ for c in classes}
    assert {"HaloAttention", "MLLAttention", "C2PSAMLLA", "PSABlockMLLA", "Conv"} <= names
    assert {blocks.Keeps, blocks.Joins} <= classes
    assert all(issubclass(c, nn.Module) and not c.__module__.startswith(("torch", "ultralytics")) for c in classes)


def test_a_block_with_every_part_loads_with_weights_only(tmp_path):
    from yolomix.nn.mlla import C2PSAMLLA

    checkpoint.allow_classes()
    torch.save(C2PSAMLLA(16, 16).state_dict() | {"kind": C2PSAMLLA}, tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True)["kind"] is C2PSAMLLA


class OfTheTest(nn.Linear):
    """Saved in a checkpoint, then gone."""


def files(folder):
    """Files that are no checkpoint, and what is said about each."""
    torch.save(nn.Linear(1, 1).state_dict(), folder / "weights.pt")
    torch.save({"model": nn.Linear(1, 1).state_dict(), "epoch": 1}, folder / "nested.pt")
    torch.save({"epoch": 3, "names": {}}, folder / "empty_dict.pt")
    (folder / "text.pt").write_text("not a checkpoint")
    (folder / "empty.pt").write_bytes(b"")
    (folder / "cut.pt").write_bytes((folder / "nested.pt").read_bytes()[:300])
    torch.save([torch.zeros(1)], folder / "list.pt")
    (folder / "pickle.pt").write_bytes(pickle.dumps({"a": 1}))
    for name, entry in (("zip", "x/data.pkl"), ("other_zip", "readme")):
        with zipfile.ZipFile(folder / f"{name}.pt", "w") as archive:
            archive.writestr(entry, b"junk")
    whole = bytearray((folder / "nested.pt").read_bytes())
    at = whole.index(b"collections") - 4
    whole[at : at + 30] = bytes(30)
    (folder / "flipped.pt").write_bytes(whole)
    return {
        "weights": r"weights.pt holds no model but 2 tensors \(a state dict\): build the model from its YAML",
        "nested": r"nested.pt holds no model but 2 tensors \(a state dict\): build the model from its YAML",
        "empty_dict": r"empty_dict.pt holds no model but dict with epoch, names; a checkpoint is a file that training",
        "text": r"text.pt cannot be read as a checkpoint: UnpicklingError",
        "empty": r"empty.pt cannot be read as a checkpoint: EOFError: Ran out of input",
        "cut": r"cut.pt cannot be read as a checkpoint: RuntimeError: PytorchStreamReader failed",
        "pickle": r"pickle.pt cannot be read as a checkpoint: RuntimeError: Invalid magic number; corrupt file",
        "zip": r"zip.pt cannot be read as a checkpoint: RuntimeError: ",
        "other_zip": r"other_zip.pt cannot be read as a checkpoint: RuntimeError: ",
        "flipped": r"flipped.pt is damaged: nested/data.pkl inside it is not what was saved",
        "list": r"list.pt cannot be read as a checkpoint: AttributeError: 'list' object has no attribute 'model'",
    }


NAMES = ("weights", "nested", "empty_dict", "text", "empty", "cut", "list", "pickle", "zip", "other_zip", "flipped")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_no_checkpoint(tmp_path, name):
    said = files(tmp_path)[name]
    for open_it in (yolomix.YOLO, yolomix.edit):
        with pytest.raises(TypeError, match=said) as error:
            open_it(tmp_path / f"{name}.pt")
        assert "official Ultralytics model" not in str(error.value)


def test_a_folder_is_no_checkpoint(tmp_path):
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(TypeError, match=r"folder\.pt is a folder; a checkpoint is a file that training wrote"):
        yolomix.YOLO(tmp_path / "folder.pt")


def test_a_class_that_cannot_be_imported(tmp_path, monkeypatch):
    torch.save({"model": OfTheTest(1, 1)}, tmp_path / "gone.pt")
    monkeypatch.delattr(f"{__name__}.OfTheTest")
    with pytest.raises(TypeError, match=r"Can't get attribute 'OfTheTest'.*move it to a module and import that first"):
        yolomix.YOLO(tmp_path / "gone.pt")


@pytest.mark.skipif(OLDEST, reason="Ultralytics 8.3.0 looks for it on GitHub even offline")
def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        yolomix.YOLO(tmp_path / "none.pt")


def test_a_module_that_is_not_here(tmp_path, monkeypatch):
    module = types.ModuleType("of_the_test")
    module.Gone = type("Gone", (nn.Linear,), {"__module__": "of_the_test"})
    monkeypatch.setitem(sys.modules, "of_the_test", module)
    torch.save({"model": module.Gone(1, 1)}, tmp_path / "gone.pt")
    monkeypatch.delitem(sys.modules, "of_the_test")
    with pytest.raises(ModuleNotFoundError, match=r"gone\.pt has a block from the module 'of_the_test', which is not"):
        yolomix.YOLO(tmp_path / "gone.pt")


def rotten(file, name):
    """Let one bit of an entry fall over, and leave its checksum as it is."""
    with zipfile.ZipFile(file) as archive:
        inside = archive.read(name)
    raw = file.read_bytes()
    at = raw.index(inside) + len(inside) // 2
    file.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])


def test_a_bit_that_fell_over_in_a_weight_is_found(tiny, tmp_path):
    weights.write(yolomix.YOLO(tiny).model, tmp_path / "a.pt")
    assert yolomix.YOLO(tmp_path / "a.pt").task == "detect"
    rotten(tmp_path / "a.pt", "archive/data/0")
    for open_it in (yolomix.YOLO, ultralytics.YOLO, yolomix.edit):
        with pytest.raises(
            TypeError, match=r"a\.pt is damaged: archive/data/0 inside it is not what was saved\. Copy it"
        ):
            open_it(tmp_path / "a.pt")


def test_two_archives_in_one_file_are_refused(tiny, tmp_path):
    """PyTorch reads the first, whose bytes no checksum that we see is of."""
    raw = weights.write(yolomix.YOLO(tiny).model, tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(raw + raw)
    with pytest.raises(TypeError, match=r"a\.pt is damaged: what stands in front of its archive is not what was saved"):
        yolomix.YOLO(tmp_path / "a.pt")


def test_a_file_saved_without_checksums_opens(tiny, tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        weights.write(yolomix.YOLO(tiny).model, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert yolomix.YOLO(tmp_path / "a.pt").task == "detect"


def without_layers(model):
    model._modules["model"] = nn.Identity()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(train_args=3), "its train_args are 3, and have to map names to values"),
        (lambda c: c.update(epoch=""), "its epoch is '', and has to be a whole number"),
        (lambda c: c.update(model=c["model"].model), "it holds layers (Sequential) and no model"),
        (lambda c: c.update(ema=float("nan")), "its ema is nan, and has to be a model or None"),
        (lambda c: c["model"].yaml.update(scale="z"), "no scale 'z'; its scales are n, s"),
        (lambda c: c["model"].yaml.update(scales={"n": [1, 64]}), "scales: n is [1, 64]; a scale is [depth"),
        (lambda c: c["model"].yaml["head"].append([1, 2]), "a row of its yaml is [1, 2], and a row is [from, repeats"),
        (lambda c: vars(c["model"]).pop("save"), "its save is None, and has to be a list of layer indices"),
        (lambda c: c["model"].__dict__.pop("yaml"), "its yaml is None, and has to be a model dictionary"),
        (lambda c: vars(c["model"]).update(names=[1]), "its names are [1], and have to map class indices to names"),
        (lambda c: vars(c["model"]).update(task="fly"), "its task is 'fly', and has to be one of classify"),
        (lambda c: vars(c["model"]).update(stride=8), "its stride is 8, and has to be a tensor"),
        (lambda c: vars(c["model"]).update(save={}), "its save is {}, and has to be a list of layer indices"),
        (lambda c: without_layers(c["model"]), "its layers are Identity(), and have to be a Sequential"),
        (lambda c: vars(c["model"].model[1]).update(f=7), "layer 1 (Conv) reads 7, and has to read layers before it"),
        (lambda c: vars(c["model"].model[1]).update(i=0), "layer 1 (Conv) says that it is layer 0"),
        (lambda c: vars(c["model"].model[-1]).update(nc=0), "nc of its Detect is 0, and has to be a whole number from"),
        (lambda c: vars(c["model"].model[-1]).update(stride=1), "stride of its Detect is 1, and has to be a tensor"),
        (
            lambda c: c["model"].model[0]._modules.update(conv=3),
            "its part 'conv' of a Conv is 3, and has to be a module",
        ),
        (lambda c: c["model"].model[0].conv._parameters.update(weight=3), "its 'weight' of a Conv2d is 3, and has to"),
    ],
)
def test_a_model_that_is_not_as_it_was_saved(tiny, tmp_path, change, said):
    content = {"model": yolomix.YOLO(tiny).model, "train_args": {}}
    change(content)
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(TypeError) as error:
        yolomix.YOLO(tmp_path / "odd.pt")
    assert f"odd.pt cannot be used: {said}" in str(error.value)
    assert "a checkpoint is a file that training wrote" in str(error.value)


def test_a_state_that_does_not_fit_is_told_with_its_file(tiny, settings, tmp_path):
    class Enough(Exception):  # noqa: N818
        pass

    def stop(trainer):
        raise Enough

    model = yolomix.YOLO(tiny)
    run = {**settings, "epochs": 3, "project": str(tmp_path), "name": "run"}
    model.add_callback("on_model_save", stop)
    with pytest.raises(Enough):
        model.train(**run)
    last = tmp_path / "run" / "weights" / "last.pt"
    found = torch.load(last, weights_only=False)
    found["optimizer"]["param_groups"] = found["optimizer"]["param_groups"][:1]
    torch.save(found, last)
    with pytest.raises(
        ValueError, match=r"last\.pt cannot be resumed, .* does not fit: ValueError: loaded state dict has"
    ):
        yolomix.YOLO(last).train(resume=True)


def test_settings_that_cannot_be_used_are_told_with_the_file_to_resume(tiny, settings, tmp_path):
    model = yolomix.YOLO(tiny).model
    content = {"epoch": 0, "model": model, "ema": None, "train_args": {**settings, "exist_ok": 3.5}}
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt cannot be resumed, the settings of its training .* 'exist_ok=3\.5'"):
        DetectionTrainer(overrides={"data": settings["data"], "model": tiny, "resume": str(tmp_path / "a.pt")})


def test_a_damaged_file_to_resume_is_not_called_missing(tiny, settings, tmp_path):
    file = weights.write(yolomix.YOLO(tiny).model, tmp_path / "last.pt")
    rotten(file, "archive/data/0")
    with pytest.raises(TypeError, match=r"last\.pt is damaged"):
        DetectionTrainer(overrides={**settings, "model": tiny, "resume": str(file)})


def test_a_file_to_resume_that_is_not_there_is_not_replaced_by_another(tiny, settings, tmp_path, monkeypatch):
    weights.write(yolomix.YOLO(tiny).model, tmp_path / "last.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.pt cannot be resumed, it is not there"):
        DetectionTrainer(overrides={**settings, "model": tiny, "resume": "none.pt"})


class Calls:
    """Pickled as a call of a class that Ultralytics allows."""

    def __init__(self, cls, *args):
        self.call = cls, args

    def __reduce__(self):
        return self.call


@pytest.mark.skipif(OLDEST, reason="ULTRALYTICS_SAFE_LOAD came with Ultralytics 8.4")
def test_weights_only_loading_calls_no_class(tiny, tmp_path, monkeypatch):
    from ultralytics.nn.modules import TorchVision

    asked = []
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *args, **kwargs: asked.append(args))
    content = {"model": yolomix.YOLO(tiny).model, "optimizer": Calls(TorchVision, "resnet18", "DEFAULT")}
    torch.save(content, tmp_path / "calls.pt")
    native = nn.Module.__init__
    monkeypatch.setattr(tasks, "SAFE_LOAD", True)
    with pytest.raises(TypeError, match=r"calls\.pt cannot be read as a checkpoint: .*it calls TorchVision, which no"):
        yolomix.YOLO(tmp_path / "calls.pt")
    assert nn.Module.__init__ is native
    assert asked == []
    torch.save({"model": yolomix.YOLO(tiny).model}, tmp_path / "good.pt")
    assert yolomix.YOLO(tmp_path / "good.pt").task == "detect"
