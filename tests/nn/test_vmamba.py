"""VMamba's block against reference outputs of the official code."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from ultralytics.nn import tasks

from tests import golden
from tests.nn import scan_blocks as check
from yolomix import models
from yolomix.nn import mamba_yolo, registry, vmamba


def of(g: golden.Golden) -> nn.Module:
    k = g.meta["kwargs"]
    state = k.get("d_state", k.get("ssm_d_state"))
    if g.meta["class"] == "SS2D":
        return vmamba.VMambaSS2D(k["d_model"], d_state=state, ssm_ratio=k["ssm_ratio"], variant=k["forward_type"])
    return vmamba.VMambaBlock(k["hidden_dim"], k["forward_type"], k["ssm_ratio"], d_state=state)


@pytest.mark.parametrize("name", golden.names("vmamba"))
def test_golden(name: str) -> None:
    g = golden.load("vmamba", name)
    check.assert_golden(g, of(g))


@pytest.mark.parametrize("size", check.SIZES, ids=str)
def test_any_size_in_the_first_form_too(size: tuple[int, int]) -> None:
    check.assert_size(vmamba.VMambaBlock(8, "v0", d_state=2), 8, size, size)


@pytest.mark.parametrize("variant", ["v0", "v05_noz"])
def test_every_parameter_gets_a_gradient(variant: str) -> None:
    check.assert_gradients(vmamba.VMambaBlock(8, variant), 8, set())


@pytest.mark.parametrize("kind", check.KINDS)
def test_finite_in_every_precision(kind: str) -> None:
    for scale in (1e-4, 1e4):
        for variant in ("v0", "v05_noz"):
            check.assert_finite_everywhere(vmamba.VMambaBlock(8, variant), 8, kind, scale)


def test_the_first_form_can_be_copied_pickled_and_exported(tmp_path: Path) -> None:
    check.assert_travels(vmamba.VMambaBlock(8, "v0", drop_path=0.1), 8)
    check.assert_exports(vmamba.VMambaBlock(8, "v0", d_state=2), 8, tmp_path)


def test_init_is_the_released_one() -> None:
    block = vmamba.VMambaSS2D(48, variant="v0")
    assert torch.allclose(block.A_logs.exp(), torch.arange(1.0, 17).expand(4 * 96, 16))
    assert (block.Ds == 1).all()
    delta = nn.functional.softplus(block.dt_projs_bias)
    assert 0.0009 < delta.min() < delta.max() < 0.11
    assert abs(delta.log().mean() - math.log(0.01)) < 0.25
    assert 0.5 < block.dt_projs_weight.abs().max() < 3**-0.5


@pytest.mark.parametrize(
    ("c", "variant", "ratio", "count"),
    [(96, "v0", 2.0, 105_408), (96, "v05_noz", 1.0, 100_608), (96, "v05_noz", 2.0, 126_624), (24, "v0", 2.0, 14_448)],
)
def test_counts_are_the_official_ones(c: int, variant: str, ratio: float, count: int) -> None:
    assert sum(p.numel() for p in vmamba.VMambaBlock(c, variant, ratio).parameters()) == count


def test_with_gelu_it_is_mamba_yolos_scan() -> None:
    g = golden.load("mamba_yolo", "ss2d_d16_n16_7x5")
    block = vmamba.VMambaSS2D(16, variant="v0")
    block.act = nn.GELU()
    block.load_state_dict({k: v.flatten(1) if "_proj.weight" in k else v for k, v in g.under("param.").items()})
    golden.assert_close("output", block(g.tensors["input"]), g.tensors["output_eval"])


def test_names_in_a_yaml() -> None:
    assert registry.find("VMambaBlock").cls is vmamba.VMambaBlock
    assert registry.find("VSSBlock").cls is mamba_yolo.VSSBlock


@pytest.mark.parametrize("row", ["[]", "[v0]", "[128]", "[128, v05_noz, 1.0]", "[{ssm_ratio: 1.0}]"])
def test_rows_build(row: str) -> None:
    d = yaml.safe_load(
        f"{{nc: 2, depth_multiple: 0.67, width_multiple: 0.25, backbone: [[-1, 1, Conv, [64, 3, 2]], "
        f"[-1, 3, VMambaBlock, {row}]], head: [[-1, 1, Classify, [nc]]]}}"
    )
    layers, _ = tasks.parse_model(d, ch=3, verbose=False)
    assert [type(m) for m in layers[1]] == [vmamba.VMambaBlock] * 2
    assert layers(torch.randn(2, 3, 8, 8)).shape == (2, 2)


def test_the_zoo_model_runs_on_an_image_that_is_no_square() -> None:
    d = yaml.safe_load((models.FOLDER / "yolov8-vmamba.yaml").read_text(encoding="utf-8"))
    layers, _ = tasks.parse_model({**d, "scale": "n", "nc": 2}, ch=3, verbose=False)
    with torch.no_grad():
        assert layers[:10].eval()(torch.rand(1, 3, 96, 64)).shape == (1, 256, 3, 2)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: vmamba.VMambaBlock(8, "v2"), "VMamba's variant is v0 or v05_noz, got 'v2'"),
        (lambda: vmamba.VMambaSS2D(8, d_state=0), "SS2D needs d_state >= 1, got 0"),
        (lambda: vmamba.VMambaBlock(8, ssm_ratio=0.01), "SS2D needs d_expand >= 1, got 0"),
    ],
)
def test_errors_say_what_was_needed(make: object, text: str) -> None:
    with pytest.raises(ValueError) as error:
        make()
    assert text in str(error.value)
