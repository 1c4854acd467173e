"""Weights of single official layers come into our blocks by name, all of them or none."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from tests import golden
from yolomix.host import official_layers
from yolomix.nn import mamba_yolo_parts, mambairv2, vim, vmamba


def test_vmambas_first_keys_are_todays(tmp_path: Path) -> None:
    g = golden.load("vmamba", "vssblock_v0_16_7x5")
    names = {"norm": "ln_1", "op": "self_attention"}
    parts = {k: k.split(".", 1) for k in g.under("param.")}
    old = {f"layers.0.blocks.1.{names[a]}.{b}": g.tensors[f"param.{k}"] for k, (a, b) in parts.items()}
    torch.save({"model": old}, tmp_path / "vmamba.pth")
    block = vmamba.VMambaBlock(16, "v0")
    said = official_layers.load_layer(block, tmp_path / "vmamba.pth")
    assert said == "13 of 13 tensors loaded from 'layers.0.blocks.1.' into VMambaBlock, none missing"
    y = block(g.tensors["input"].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    golden.assert_close("output", y, g.tensors["output_eval"])


def test_a_block_of_vim_and_its_mixer_alone() -> None:
    g = golden.load("vim", "vimblock_L7")
    source = {"model": {f"layers.3.{k}": v for k, v in g.under("param.").items()}}
    layer, mixer = (
        vim.MambaLayer(12, d_state=4, if_divide_out=True, residual=False),
        vim.BidirectionalMamba(12, d_state=4),
    )
    assert "from 'layers.3.' into MambaLayer" in official_layers.load_layer(layer, source)
    tokens = g.tensors["input"] + g.tensors["residual_in"]
    y = layer(tokens.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
    golden.assert_close("output", y, g.tensors["output"])
    official_layers.load_layer(mixer, source, "layers.3.mixer.")
    assert torch.equal(mixer.A_b_log, layer.mamba.A_b_log)


def test_a_layer_of_mambairv2() -> None:
    g = golden.load("assg", "layer_light_8x8_shift0")
    m = g.meta
    named = {k: m[k] for k in ("d_state", "inner_rank", "num_tokens", "mlp_ratio")}
    named |= {"num_heads": m["heads"], "window_size": m["window"]}
    layer = mambairv2.ASSG(m["dim"], shift=0, raster_prompt=True, **named)
    place = "layers.0.residual_group.layers.2."
    official_layers.load_layer(layer, {"params_ema": {place + k: v for k, v in g.under("param.").items()}})
    x = g.tensors["input"].unflatten(1, (8, 8)).permute(0, 3, 1, 2)
    golden.assert_close("output", layer(x).flatten(2).transpose(1, 2), g.tensors["output"])


def test_1x1_weights_come_in_two_or_four_dimensions() -> None:
    source = mamba_yolo_parts.MambaYoloSS2D(8).state_dict()
    block = vmamba.VMambaSS2D(8, variant="v0")
    official_layers.load_layer(block, source, "")
    assert torch.equal(block.in_proj.weight, source["in_proj.weight"].flatten(1))


def test_several_fitting_layers_are_named() -> None:
    block = vmamba.VMambaBlock(8)
    source = {f"{i}.{k}": v for i in (0, 1) for k, v in block.state_dict().items()}
    with pytest.raises(ValueError, match=r"2 layers of the source fit; give prefix=, one of '0\.', '1\.'"):
        official_layers.load_layer(block, source)
    assert "from '1.'" in official_layers.load_layer(block, source, "1.")


def test_what_is_missing_is_named_and_nothing_is_loaded() -> None:
    block = vmamba.VMambaBlock(8)
    before = copy.deepcopy(block.state_dict())
    source = {f"a.{k}": torch.zeros_like(v) for k, v in before.items()} | {"a.op.Ds": torch.zeros(3)}
    del source["a.norm2.bias"]
    with pytest.raises(ValueError) as error:
        official_layers.load_layer(block, source, "a.")
    assert "no layer of the source fits VMambaBlock: at 'a.' it lacks op.Ds (64,) (it has (3,)); norm2.bias" in str(
        error.value
    )
    assert all(torch.equal(v, before[k]) for k, v in block.state_dict().items())
    with pytest.raises(ValueError, match="its keys are like none"):
        official_layers.load_layer(block, {})
