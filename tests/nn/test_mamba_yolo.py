"""Mamba-YOLO's blocks and the whole T model against reference outputs of the official code."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn
from ultralytics.nn import tasks
from ultralytics.nn.tasks import DetectionModel

from tests import golden
from tests.nn import scan_blocks as check
from yolomix import models
from yolomix.nn import mamba_yolo, mamba_yolo_parts, registry
from yolomix.nn.mamba_yolo_parts import ConvNormAct, LSBlock, RGBlock
from yolomix.ops.ss2d import ss2d

STATE = Path(__file__).parents[3] / "shared" / "goldens" / "mamba_yolo" / "T_state.safetensors"
RAW = 1e-4  # the raw outputs of the whole model
MODULES = [name for name in golden.names("mamba_yolo") if not name.startswith("T_")]
OURS = {"in_channels": "c1", "hidden_dim": "c2", "inp": "c1", "embed_dim": "c2", "dim": "c1", "out_dim": "c2"}
CLASSES = {
    "LSBlock": mamba_yolo_parts.LSBlock,
    "LayerNorm2d": mamba_yolo_parts.NestedLayerNorm2d,
    "RGBlock": mamba_yolo_parts.RGBlock,
    "SS2D": mamba_yolo_parts.MambaYoloSS2D,
    "SimpleStem": mamba_yolo.SimpleStem,
    "VSSBlock": mamba_yolo.VSSBlock,
    "VisionClueMerge": mamba_yolo.VisionClueMerge,
    "XSSBlock": mamba_yolo.XSSBlock,
}  # by the official names
VSS_ZERO = {"proj_conv.0.bias", "lsblock.fc1.bias"}


def of(g: golden.Golden) -> nn.Module:
    kwargs = dict(g.meta["kwargs"])
    if kwargs.pop("forward_type", "v2") == "v2noz":
        kwargs["gate"] = False
    return CLASSES[g.meta["class"]](**{OURS.get(k, k): v for k, v in kwargs.items()})


@pytest.mark.parametrize("name", MODULES)
def test_golden(name: str) -> None:
    g = golden.load("mamba_yolo", name)
    check.assert_golden(g, of(g))


def test_fused_blocks_compute_the_same() -> None:
    for name in ["vssblock_16_16_7x5", "xssblock_24_16_n1_7x5", "simplestem_3_16_13x10", "visionclue_8_16_8x8"]:
        g = golden.load("mamba_yolo", name)
        block = of(g)
        block.load_state_dict(g.under("param."))
        for part in [*block.eval().modules()] * 2:
            if isinstance(part, (ConvNormAct, LSBlock)):
                part.fuse()
        assert not any(isinstance(m, nn.BatchNorm2d) for m in block.modules())
        with torch.no_grad():
            golden.assert_close(name, block(g.tensors["input"]), g.tensors["output_eval"])


# The whole T model


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    if not STATE.is_file():
        pytest.skip(f"THE WEIGHTS OF MAMBA-YOLO-T ARE NOT HERE: {STATE} not found; the whole model was NOT compared")
    return {name.removeprefix("param."): tensor for name, tensor in load_file(STATE).items()}


def model_t() -> DetectionModel:
    d = yaml.safe_load((models.FOLDER / "mamba-yolo.yaml").read_text(encoding="utf-8"))
    return DetectionModel({**d, "scale": "t"}, verbose=False)


def raw(head: dict[str, Tensor], shapes: list[torch.Size]) -> list[Tensor]:
    """The feature maps cat(boxes, classes) of the three strides, from what the head returns in training."""
    both = torch.cat([head["boxes"], head["scores"]], dim=1)
    parts = both.split([s[2] * s[3] for s in shapes], dim=2)
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def test_keys_and_shapes_of_t_are_the_official_ones() -> None:
    lines = (golden.FOLDER / "mamba_yolo" / "keys_T.txt").read_text().splitlines()[1:]
    want = {line.split("\t")[0]: line.split("\t")[2] for line in lines}
    assert {name: str(tuple(tensor.shape)) for name, tensor in model_t().state_dict().items()} == want


def test_t_reproduces_the_official_outputs(state: dict[str, Tensor]) -> None:
    g, layers = (golden.load("mamba_yolo", f"T_{kind}_64x96") for kind in ("eval", "layers"))
    model = model_t().eval()
    model.load_state_dict(state)
    seen: dict[str, Tensor] = {}
    for i, layer in enumerate(model.model[:-1]):
        layer.register_forward_hook(lambda _m, _x, y, i=i: seen.update({f"layer.{i}": y}))
    with torch.no_grad():
        decoded, head = model(g.tensors["input"])
    for name, want in layers.tensors.items():
        assert (seen[name] - want).abs().max() < RAW, name
    wanted = [g.tensors[f"raw.{i}"] for i in range(3)]
    for got, want in zip(raw(head, [w.shape for w in wanted]), wanted, strict=True):
        assert (got - want).abs().max() < RAW
    with torch.no_grad():
        fused = raw(model.fuse(verbose=False)(g.tensors["input"])[1], [w.shape for w in wanted])
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == 0
    for got, want in zip(fused, wanted, strict=True):
        assert (got - want).abs().max() < RAW
    boxes, scores = decoded.split([4, 80], dim=1)
    assert (scores - g.tensors["output"][:, 4:]).abs().max() < golden.OUTPUT
    assert (boxes - g.tensors["output"][:, :4]).abs().max() < 0.01  # pixels; the official code in float64: 0.0004


def test_t_reproduces_the_official_training_step(state: dict[str, Tensor]) -> None:
    g = golden.load("mamba_yolo", "T_train_64x96")
    model = model_t().train()
    model.load_state_dict(state)
    x = g.tensors["input"].clone().requires_grad_()
    wanted = [g.tensors[f"raw.{i}"] for i in range(3)]
    maps = raw(model(x), [w.shape for w in wanted])
    for got, want in zip(maps, wanted, strict=True):
        assert (got - want).abs().max() < RAW
    torch.autograd.backward(maps, [g.tensors[f"grad_raw.{i}"] for i in range(3)])
    golden.assert_gradient("input", x.grad, g.tensors["grad.input"])
    parameters = {name: p for name, p in model.named_parameters() if "dfl" not in name}
    for name, want in g.under("grad.").items():
        if name != "input":
            golden.assert_gradient(name, parameters[name].grad, want)
    assert set(g.meta["grad_names"]) == parameters.keys()
    largest = max(g.tensors["grad_norm"]).item()
    for name, norm, probe in zip(g.meta["grad_names"], g.tensors["grad_norm"], g.tensors["grad_probe"], strict=True):
        gradient = parameters[name].grad.double().flatten()
        if name in g.meta["zero_grad"]:
            assert gradient.norm() < check.ZERO * largest, name
            continue
        got = (gradient * torch.cos(0.1 * torch.arange(gradient.numel(), dtype=torch.float64))).sum()
        assert abs(gradient.norm() - norm) <= golden.GRADIENT * norm, name
        assert abs(got - probe) <= golden.GRADIENT * norm, name
    for name, want in g.under("after_train.").items():
        assert (model.get_buffer(name) - want).abs().max() < RAW, name


# What every block has to be


@pytest.mark.parametrize("size", check.SIZES, ids=str)
def test_sides_that_shrink_round_up(size: tuple[int, int]) -> None:
    H, W = size
    check.assert_size(mamba_yolo.VisionClueMerge(8, 16), 8, size, ((H + 1) // 2, (W + 1) // 2))
    check.assert_size(mamba_yolo.SimpleStem(3, 8), 3, size, ((H + 3) // 4, (W + 3) // 4))


def test_merging_an_odd_feature_map_is_merging_it_padded_with_zeros() -> None:
    block, x = mamba_yolo.VisionClueMerge(4, 8).eval(), torch.randn(1, 4, 5, 7)
    with torch.no_grad():
        assert torch.equal(block(x), block(torch.nn.functional.pad(x, [0, 1, 0, 1])))


def test_every_parameter_gets_a_gradient_except_biases_before_a_batch_norm() -> None:
    check.assert_gradients(mamba_yolo.VSSBlock(8, 16), 8, VSS_ZERO)
    check.assert_gradients(mamba_yolo.VSSBlock(8, 16, local=False), 8, {"proj_conv.0.bias"})
    check.assert_gradients(mamba_yolo.XSSBlock(8, 16, 2), 8, {"lsblock.fc1.bias"})
    check.assert_gradients(mamba_yolo.VisionClueMerge(8, 16), 8, {"pw_linear.0.bias"})
    check.assert_gradients(mamba_yolo.SimpleStem(3, 16), 3, set())


@pytest.mark.parametrize("kind", check.KINDS)
def test_finite_in_every_precision(kind: str) -> None:
    for scale in (1e-4, 1e4):
        check.assert_finite_everywhere(mamba_yolo.VSSBlock(8, 16), 8, kind, scale)
        check.assert_finite_everywhere(mamba_yolo.XSSBlock(16, 16, 2, ssm_d_state=4), 16, kind, scale)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_the_whole_model_is_finite_in_half_precision(kind: str) -> None:
    dtype, model = getattr(torch, kind), model_t()
    for scale in (1e-4, 1e4):
        x = scale * torch.rand(1, 3, 64, 32)
        with torch.autocast("cpu", dtype):
            for head in (model.train()(x), model.eval()(x)[1]):
                assert all(head[name].isfinite().all() for name in ("boxes", "scores"))
    with torch.no_grad():
        for scale in (1e-4, 1e4):
            _, head = model.to(dtype)((scale * torch.rand(1, 3, 64, 32)).to(dtype))
            assert all(head[name].isfinite().all() for name in ("boxes", "scores"))
            assert head["boxes"].dtype == dtype


def test_half_precision_stays_near_full_precision() -> None:
    g = golden.load("mamba_yolo", "vssblock_16_16_8x8")
    block = of(g).eval()
    block.load_state_dict(g.under("param."))
    with torch.no_grad():
        y = block.half()(g.tensors["input"].half()).float()
    assert (y - g.tensors["output_eval"]).abs().max() < 5e-3 * g.tensors["output_eval"].abs().max()


def test_decay_rates_and_the_projection_to_delta_have_no_weight_decay() -> None:
    block = mamba_yolo_parts.MambaYoloSS2D(16)
    assert {"A_logs", "Ds", "dt_projs_weight", "dt_projs_bias"} == set(block.no_weight_decay)
    assert set(block.no_weight_decay) <= dict(block.named_parameters()).keys()


# Init and options


def test_init_is_the_official_one() -> None:
    torch.manual_seed(0)
    block = mamba_yolo_parts.MambaYoloSS2D(64)
    assert (block.A_logs == 0).all()
    assert (block.Ds == 1).all()
    for p in (block.dt_projs_weight, block.dt_projs_bias):
        assert abs(p.mean()) < 0.15
        assert 0.9 < p.std() < 1.1
    assert block.x_proj_weight.abs().max() <= 128**-0.5


def test_closed_forms_of_the_parameter_counts() -> None:
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    assert count(mamba_yolo_parts.MambaYoloSS2D(32)) == 20_736
    assert count(LSBlock(32, hidden_features=32)) == 2_496
    assert count(RGBlock(32, hidden_features=128)) == 9_212
    assert count(mamba_yolo.VSSBlock(32, 32)) == 33_692
    assert count(mamba_yolo.VSSBlock(32, 32, local=False)) == 33_692 - 2_496
    assert count(mamba_yolo.XSSBlock(32, 32, 1)) == 32_572


@pytest.mark.parametrize("kind", ["plain", "conv", "resconv", "gated", "rg"])
def test_ffns_of_the_ablation(kind: str) -> None:
    torch.manual_seed(0)
    branch, x = RGBlock(8, hidden_features=12, kind=kind).double(), torch.randn(2, 8, 5, 4, dtype=torch.float64)
    a = branch.fc1(x)
    v = torch.ones_like(a)
    if kind in ("gated", "rg"):
        a, v = a.chunk(2, dim=1)
    if kind in ("conv", "resconv", "rg"):
        around = branch.dwconv(a)
        a = around + a if kind != "conv" else around
    else:
        assert isinstance(branch.dwconv, nn.Identity)
    want = branch.fc2(nn.functional.gelu(a) * v)
    assert torch.allclose(branch(x), want, rtol=0, atol=1e-12)
    y = mamba_yolo.VSSBlock(8, 8, mlp=kind)(x.float())
    assert y.shape == x.shape


def test_a_bounded_rank_projects_down_before_the_scan_and_up_after_it() -> None:
    block = mamba_yolo_parts.MambaYoloSS2D(16, ssm_ratio=3.0, d_state=2)
    assert block.in_rank.weight.shape == (32, 48, 1, 1)
    assert block.out_rank.weight.shape == (48, 32)
    assert block.A_logs.shape == (4 * 32, 2)
    assert mamba_yolo_parts.MambaYoloSS2D(16, ssm_ratio=3.0, ssm_rank_ratio=0).in_rank is None
    check.assert_size(block, 16, (7, 5), (7, 5))
    check.assert_gradients(block, 16, set())
    x = torch.randn(1, 16, 4, 3, dtype=torch.float64)
    u, z = block.in_proj(x).chunk(2, dim=1)
    u = block.in_rank(nn.functional.gelu(block.conv2d(u)))
    y = ss2d(u, block.x_proj_weight, block.dt_projs_weight, block.dt_projs_bias, -block.A_logs.exp(), block.Ds)
    y = block.out_rank(block.out_norm(y.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
    assert torch.allclose(block(x), block.out_proj(y * nn.functional.gelu(z)), rtol=0, atol=1e-12)


def test_a_conv_of_kernel_size_1_is_left_out() -> None:
    assert "conv2d.weight" not in mamba_yolo_parts.MambaYoloSS2D(8, d_conv=1).state_dict()
    check.assert_size(mamba_yolo_parts.MambaYoloSS2D(8, d_conv=1), 8, (4, 5), (4, 5))


def test_dropped_branches_leave_the_projection() -> None:
    torch.manual_seed(0)
    block, x = mamba_yolo.VSSBlock(8, 8, drop_path=0.999).train(), torch.randn(2, 8, 4, 4)
    assert torch.allclose(block(x), block.proj_conv(x), rtol=0, atol=1e-5)


# Rows as people write them


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("VSSBlock", "[128, directions]"),
        ("XSSBlock", "[128, directions]"),
        ("ODSSBlock", "[128]"),
        ("VSSBlock", "[128, {local: false, mlp: conv}]"),
        ("SimpleStem", "[128, 3]"),
        ("VisionClueMerge", "[256]"),
        ("Conv", "[256, 3, 2]"),
    ],
)
def test_rows_build(name: str, row: str) -> None:
    d = yaml.safe_load(
        f"{{nc: 2, depth_multiple: 0.33, width_multiple: 0.25, backbone: [[-1, 1, Conv, [64, 3, 2]], "
        f"[-1, 3, {name}, {row}]], head: [[-1, 1, Classify, [nc]]]}}"
    )
    layers, _ = tasks.parse_model(d, ch=3, verbose=False)
    if name in registry.BLOCKS:
        assert isinstance(layers[1], registry.find(name).cls)
    assert layers(torch.randn(2, 3, 32, 32)).shape == (2, 2)


def test_directions_are_ignored_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    mamba_yolo._say_directions_are_ignored.cache_clear()
    with caplog.at_level(logging.WARNING, "yolomix"):
        for cls in (mamba_yolo.VSSBlock, mamba_yolo.XSSBlock, mamba_yolo.VSSBlock):
            assert cls.row_arguments([128, "directions"]) == [128]
    said = [r.getMessage() for r in caplog.records if "directions" in r.getMessage()]
    assert len(said) == 1
    assert "all four directions" in said[0]


# Errors


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: mamba_yolo_parts.MambaYoloSS2D(8, d_conv=4),
            "SS2D needs an odd d_conv, so that the feature map keeps its size, got 4. Use 5",
        ),
        (lambda: mamba_yolo_parts.MambaYoloSS2D(8, d_conv=0), "SS2D needs d_conv >= 1, got 0"),
        (lambda: mamba_yolo_parts.MambaYoloSS2D(8, d_state=-1), "SS2D needs d_state >= 1, got -1"),
        (lambda: mamba_yolo.VSSBlock(8, 8, ssm_ratio=0), "SS2D needs d_expand >= 1, got 0"),
        (lambda: mamba_yolo_parts.MambaYoloSS2D(8, dt_rank=0), "SS2D needs dt_rank >= 1, got 0"),
        (lambda: LSBlock(8, hidden_features=3), "in_features that hidden_features divides, got 8 and 3"),
        (lambda: RGBlock(8, hidden_features=8, kind="rgb"), "mlp is one of plain, conv, resconv, gated, rg, got 'rgb'"),
        (lambda: mamba_yolo.XSSBlock(8, 8, 1, -1.0), "0 to leave it out, got -1.0"),
        (lambda: mamba_yolo.VSSBlock(8, 8, 1.0), "0 <= p < 1, got 1.0"),
        (lambda: mamba_yolo.SimpleStem(3, 8, 2), "SimpleStem needs an odd ks >= 1, got 2"),
    ],
)
def test_errors_say_what_was_needed(make: object, text: str) -> None:
    with pytest.raises(ValueError) as error:
        make()
    assert text in str(error.value)


# The zoo


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("mamba-yolo", [6_131_704, 21_828_000, 57_631_024]),
        ("mamba-yolo-nolocal", [5_668_920, 20_013_600, 52_945_072]),
        ("yolo-mamba-seg", [6_385_048, 22_483_648, 66_397_904, 127_224_208, 196_854_872]),
    ],
)
def test_counts_are_those_of_the_official_code(name: str, counts: list[int]) -> None:
    d = yaml.safe_load((models.FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    with torch.device("meta"):
        built = [tasks.parse_model({**d, "scale": scale}, ch=3, verbose=False)[0] for scale in d["scales"]]
    assert [sum(p.numel() for p in layers.parameters()) for layers in built] == counts


def test_scale_letters_stand_at_the_end_of_names_without_digits() -> None:
    d = tasks.yaml_model_load("yolo-mamba-seg-s.yaml")
    assert d["scale"] == "s"
    assert d["head"][-1][2] == "Segment"
    with pytest.raises(ValueError, match="no scale 'q'; its scales are t, b, l"):
        DetectionModel("mamba-yolo-q.yaml", verbose=False)


OFFICIAL_SEG = """
nc: 80
scales: {n: [0.33, 0.25, 1024], m: [0.67, 0.75, 768]}
directions: default
backbone:
  - [-1, 1, SimpleStem, [128, 3]]
  - [-1, 3, VSSBlock, [128, directions]]
  - [-1, 1, VisionClueMerge, [256]]
  - [-1, 3, VSSBlock, [256, directions]]
  - [-1, 1, VisionClueMerge, [512]]
  - [-1, 9, VSSBlock, [512, directions]]
  - [-1, 1, VisionClueMerge, [1024]]
  - [-1, 3, VSSBlock, [1024, directions]]
  - [-1, 1, SPPF, [1024, 5]]
head:
  - [-1, 1, nn.Upsample, [None, 2, 'nearest']]
  - [[-1, 5], 1, Concat, [1]]
  - [-1, 3, VSSBlock, [512, directions]]
  - [-1, 1, nn.Upsample, [None, 2, 'nearest']]
  - [[-1, 3], 1, Concat, [1]]
  - [-1, 3, VSSBlock, [256, directions]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [[-1, 11], 1, Concat, [1]]
  - [-1, 3, VSSBlock, [512, directions]]
  - [-1, 1, Conv, [512, 3, 2]]
  - [[-1, 8], 1, Concat, [1]]
  - [-1, 3, VSSBlock, [1024, directions]]
  - [[14, 17, 20], 1, Segment, [nc, 32, 256]]
"""


@pytest.mark.parametrize(("scale", "count"), [("n", 6_385_048), ("m", 66_397_904)])
def test_the_official_segmentation_file_builds_unchanged(scale: str, count: int) -> None:
    with torch.device("meta"):
        layers, _ = tasks.parse_model({**yaml.safe_load(OFFICIAL_SEG), "scale": scale}, ch=3, verbose=False)
    assert sum(p.numel() for p in layers.parameters()) == count
