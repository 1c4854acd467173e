"""Files of the official Mamba-YOLO fork and of other official code, made here from stand-ins of their classes."""

from __future__ import annotations

import copy
import functools
import logging
import os
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks

from tests import golden
from yolomix import models
from yolomix.host import foreign
from yolomix.nn import common, mamba_yolo, mamba_yolo_parts, mambairv2, vim, vmamba

BLOCKS = "ultralytics.nn.modules.mamba_yolo"
UTILS = "ultralytics.nn.modules.common_utils_mbyolo"
TIMM = "timm.layers.drop"


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
    model.model = nn.Sequential(mamba_yolo.SS2D(8), nn.Identity())
    model.__dict__.update(attributes)
    return model


def forward_corev2(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return x


def fork() -> dict[type, type]:
    """The fork's classes by ours."""
    classes = {
        mamba_yolo.SS2D: type("SS2D", (nn.Module,), {"__module__": BLOCKS, "forward_corev2": forward_corev2}),
        mamba_yolo_parts.LayerNorm2d: type("LayerNorm2d", (nn.Module,), {"__module__": UTILS}),
        common.DropPath: type("DropPath", (nn.Module,), {"__module__": TIMM}),
        mamba_yolo_parts.ConvNormAct: nn.Sequential,
    }
    for name in ("RGBlock", "LSBlock", "VSSBlock", "XSSBlock", "SimpleStem", "VisionClueMerge"):
        classes[getattr(mamba_yolo, name)] = type(name, (nn.Module,), {"__module__": BLOCKS})
    return classes


def importable(classes: dict[type, type], patch: pytest.MonkeyPatch) -> None:
    """Put the fork's classes where the fork has them."""
    for module in ("timm", "timm.layers", TIMM, BLOCKS, UTILS):
        content = types.ModuleType(module)
        for cls in classes.values():
            if cls.__module__ == module:
                setattr(content, cls.__name__, cls)
        patch.setitem(sys.modules, module, content)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a model as the fork would; afterwards nobody can import the fork's classes."""

    def save(model: nn.Module, protocol: int = 2, **more: object) -> Path:
        theirs, classes = copy.deepcopy(model), fork()
        for module in theirs.modules():
            module.__class__ = classes.get(type(module), type(module))
            if isinstance(module, classes[mamba_yolo.SS2D]):
                module.forward_core = functools.partial(module.forward_corev2, force_fp32=None)
        args = {"imgsz": 320, "data": "bccd.yaml", "save_dir": Path("runs")}
        content = {"epoch": 7, "model": theirs.half(), "ema": None, "train_args": args, **more}
        with monkeypatch.context() as patch:
            importable(classes, patch)
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


def test_the_host_opens_it_like_any_checkpoint(saved: Callable[..., Path]) -> None:
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
    file = saved(nn.Sequential(mamba_yolo.SS2D(8)), optimizer=Evil(marker))
    with pytest.raises(foreign.RefusedError) as error:
        foreign.checkpoint(file)
    assert f"loading it would run {os.system.__module__}.system" in str(error.value)
    assert "Nothing was run" in str(error.value)
    assert not marker.exists()


def test_a_pickle_of_another_protocol_is_refused(saved: Callable[..., Path], tmp_path: Path) -> None:
    file = saved(nn.Sequential(mamba_yolo.SS2D(8)), protocol=4, optimizer=Evil(tmp_path / "was_run"))
    with pytest.raises(foreign.RefusedError, match=r"best\.pt is refused: it is no pickle that torch\.save writes"):
        foreign.read(file)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"backbone": [[-1, 1, "check_file", ["x"]]]}, "row [-1, 1, 'check_file', ['x']] of the YAML inside it names"),
        ({"backbone": [[-1, 1, "nn.functional", []]]}, "names no layer"),
        ({"backbone": [[-1, 1]]}, "row [-1, 1] of the YAML inside it names no layer"),
        ({"nc": Path("x")}, "the YAML inside it is not plain data"),
    ],
)
def test_a_yaml_that_is_more_than_a_description_is_refused(
    saved: Callable[..., Path], change: dict[str, Any], text: str
) -> None:
    with pytest.raises(foreign.RefusedError) as error:
        foreign.read(saved(shell(yaml={"nc": 1, "backbone": [], "head": [], **change})))
    assert text in str(error.value)


def test_an_activation_inside_a_file_is_not_evaluated(saved: Callable[..., Path], tmp_path: Path) -> None:
    model = model_t()
    model.yaml["activation"] = f"__import__('os').system('touch {tmp_path / 'was_run'}')"
    foreign.checkpoint(saved(model))
    assert not (tmp_path / "was_run").exists()


def test_weights_that_do_not_fit_their_yaml_are_an_error(saved: Callable[..., Path]) -> None:
    model = model_t()
    model.yaml["nc"] = 4
    with pytest.raises(ValueError, match="do not fit the model that its YAML describes") as error:
        foreign.checkpoint(saved(model))
    assert "model.21.cv3.0.2.weight" in str(error.value)


def test_files_without_a_model_are_an_error(saved: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"holds no model of the Mamba-YOLO fork but Sequential; it has to be a Det"):
        foreign.read(saved(nn.Sequential(mamba_yolo.SS2D(8))))
    with pytest.raises(TypeError, match="holds no YAML of its model"):
        foreign.read(saved(shell()))


def test_other_files_are_not_foreign(tmp_path: Path) -> None:
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(BLOCKS))
    assert not any(foreign.is_foreign(tmp_path / name) for name in ("a.pt", "b.pt", "none.pt"))


# Layers by name


def test_vmambas_first_keys_are_todays(tmp_path: Path) -> None:
    g = golden.load("vmamba", "vssblock_v0_16_7x5")
    names = {"norm": "ln_1", "op": "self_attention"}
    parts = {k: k.split(".", 1) for k in g.under("param.")}
    old = {f"layers.0.blocks.1.{names[a]}.{b}": g.tensors[f"param.{k}"] for k, (a, b) in parts.items()}
    torch.save({"model": old}, tmp_path / "vmamba.pth")
    block = vmamba.VSSBlock(16, "v0")
    said = foreign.load_layer(block, tmp_path / "vmamba.pth")
    assert said == "13 of 13 tensors loaded from 'layers.0.blocks.1.' into VSSBlock, none missing"
    y = block(g.tensors["input"].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    golden.assert_close("output", y, g.tensors["output_eval"])


def test_a_block_of_vim_and_its_mixer_alone() -> None:
    g = golden.load("vim", "vimblock_L7")
    source = {"model": {f"layers.3.{k}": v for k, v in g.under("param.").items()}}
    layer, mixer = vim.MambaLayer(12, d_state=4, if_divide_out=True, residual=False), vim.BidirectionalMamba(12, 4)
    assert "from 'layers.3.' into MambaLayer" in foreign.load_layer(layer, source)
    tokens = g.tensors["input"] + g.tensors["residual_in"]
    y = layer(tokens.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
    golden.assert_close("output", y, g.tensors["output"])
    foreign.load_layer(mixer, source, "layers.3.mixer.")
    assert torch.equal(mixer.A_b_log, layer.mamba.A_b_log)


def test_a_layer_of_mambairv2() -> None:
    g = golden.load("assg", "layer_light_8x8_shift0")
    m = g.meta
    named = {k: m[k] for k in ("d_state", "heads", "window", "inner_rank", "num_tokens", "mlp_ratio")}
    layer = mambairv2.ASSG(m["dim"], shift=0, raster_prompt=True, **named)
    place = "layers.0.residual_group.layers.2."
    foreign.load_layer(layer, {"params_ema": {place + k: v for k, v in g.under("param.").items()}})
    x = g.tensors["input"].unflatten(1, (8, 8)).permute(0, 3, 1, 2)
    golden.assert_close("output", layer(x).flatten(2).transpose(1, 2), g.tensors["output"])


def test_1x1_weights_come_in_two_or_four_dimensions() -> None:
    source = mamba_yolo.SS2D(8).state_dict()
    block = vmamba.SS2D(8, variant="v0")
    foreign.load_layer(block, source, "")
    assert torch.equal(block.in_proj.weight, source["in_proj.weight"].flatten(1))


def test_several_fitting_layers_are_named() -> None:
    block = vmamba.VSSBlock(8)
    source = {f"{i}.{k}": v for i in (0, 1) for k, v in block.state_dict().items()}
    with pytest.raises(ValueError, match=r"2 layers of the source fit; give prefix=, one of '0\.', '1\.'"):
        foreign.load_layer(block, source)
    assert "from '1.'" in foreign.load_layer(block, source, "1.")


def test_what_is_missing_is_named_and_nothing_is_loaded() -> None:
    block = vmamba.VSSBlock(8)
    before = copy.deepcopy(block.state_dict())
    source = {f"a.{k}": torch.zeros_like(v) for k, v in before.items()} | {"a.op.Ds": torch.zeros(3)}
    del source["a.norm2.bias"]
    with pytest.raises(ValueError) as error:
        foreign.load_layer(block, source, "a.")
    assert "no layer of the source fits VSSBlock: at 'a.' it lacks op.Ds (64,) (it has (3,)); norm2.bias" in str(
        error.value
    )
    assert all(torch.equal(v, before[k]) for k, v in block.state_dict().items())
    with pytest.raises(ValueError, match="its keys are like none"):
        foreign.load_layer(block, {})
