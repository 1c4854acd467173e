"""Vim: reference outputs, both directions, counts, older YAML rows, precisions, sizes, export, errors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

import yolomix
from tests import golden
from tests.nn import scan_blocks as check
from yolomix.nn.registry import find
from yolomix.nn.vim import BidirectionalMamba, MambaLayer

FILE = Path(yolomix.__file__).parent / "models" / "yolov8-vim.yaml"
AT_2_CLASSES = {
    "n": 3_144_358, "s": 11_377_014, "d": 12_727_158, "m": 27_733_318, "l": 48_051_990, "x": 74_614_694,
}  # fmt: skip


def of(g: golden.Golden) -> nn.Module:
    """The module of a golden file, with its weights."""
    if g.name.startswith("mambalayer"):
        module: nn.Module = MambaLayer(12, d_state=4, residual=False)
    else:
        gamma = 1.0 if "gamma" in g.name else None
        module = BidirectionalMamba(12, d_state=4, if_divide_out="divide" in g.name, init_layer_scale=gamma)
    module.load_state_dict(g.under("param."))
    return module


@pytest.mark.parametrize("name", golden.names("vim", "bimamba*") + golden.names("vim", "mambalayer*"))
def test_golden(name):
    g = golden.load("vim", name)
    module, x = of(g), g.tensors["input"].clone().requires_grad_()
    y, want = module(x), g.tensors["output"]
    # Outputs of the long file reach 214. There float32 values are 1.5e-5 apart, and the reference is 1e-4 from exact.
    scale = want.abs().max().clamp(min=1) if name == "bimamba_v2_L64" else 1
    golden.assert_close(name, y / scale, want / scale)
    y.backward(g.tensors["cotangent"])
    gradients = g.under("grad.")
    assert gradients.keys() == {"input", *dict(module.named_parameters())}
    golden.assert_gradient("input", x.grad, gradients["input"])
    for key, parameter in module.named_parameters():
        golden.assert_gradient(key, parameter.grad, gradients[key])


@pytest.mark.parametrize("name", golden.names("vim", "mambalayer*"))
def test_the_residual_is_there_by_default(name):
    g = golden.load("vim", name)
    layer = MambaLayer(12, d_state=4)
    layer.load_state_dict(g.under("param."))
    golden.assert_close(name, layer(g.tensors["input"]), g.tensors["output_with_residual"])


def test_a_block_of_the_official_model():
    g = golden.load("vim", "vimblock_L7")
    layer = MambaLayer(12, d_state=4, if_divide_out=True, residual=False)
    layer.load_state_dict({k.replace("mixer.", "mamba."): v for k, v in g.under("param.").items()})
    stream = (g.tensors["input"] + g.tensors["residual_in"]).requires_grad_()
    golden.assert_close("stream", stream, g.tensors["residual_out"])
    y = layer(stream.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
    golden.assert_close("output", y, g.tensors["output"])
    y.backward(g.tensors["cotangent"])
    golden.assert_gradient("input", stream.grad, g.tensors["grad.input"])
    for key, parameter in layer.named_parameters():
        golden.assert_gradient(key, parameter.grad, g.tensors["grad." + key.replace("mamba.", "mixer.")])


def last_token_moves_first(mixer: nn.Module) -> Tensor:
    """How far the first token's result goes when the last token is changed."""
    x = torch.randn(1, 6, 16)
    moved = x.clone()
    moved[:, -1] += 1
    return (mixer(moved) - mixer(x))[:, 0].abs().max()


def test_both_directions_run():
    torch.manual_seed(0)
    mixer = BidirectionalMamba(16)
    with torch.no_grad():
        assert last_token_moves_first(mixer) > 0
        x = torch.randn(2, 6, 16)
        swapped = BidirectionalMamba(16)
        swapped.load_state_dict({
            k.replace("_b", "") if "_b" in k else k.replace("A_log", "A_b_log").replace("1d.", "1d_b.")
            .replace("x_proj.", "x_proj_b.").replace("dt_proj.", "dt_proj_b.") + ("_b" if k == "D" else ""): v
            for k, v in mixer.state_dict().items()
        })  # fmt: skip
        torch.testing.assert_close(swapped(x.flip(1)).flip(1), mixer(x))


def test_halving_and_layer_scale():
    torch.manual_seed(0)
    whole, x = BidirectionalMamba(8), torch.randn(1, 5, 8)
    half = BidirectionalMamba(8, if_divide_out=True, init_layer_scale=0.5)
    assert half.gamma is not None
    half.load_state_dict(whole.state_dict() | {"gamma": half.gamma})
    torch.testing.assert_close(4 * half(x), whole(x))


@pytest.mark.parametrize(("c", "options", "E", "R"), [
    (32, {}, 64, 2), (8, {"d_state": 4, "d_conv": 1}, 16, 1), (40, {"expand": 1.5}, 60, 3),
])  # fmt: skip
def test_number_of_parameters(c, options, E, R):
    count = sum(p.numel() for p in MambaLayer(c, **options).parameters())
    N, K = options.get("d_state", 16), options.get("d_conv", 4)
    assert count == 3 * c * E + 2 * E * (K + 3 + 2 * R + 3 * N) + 2 * c


def test_init():
    torch.manual_seed(0)
    mixer = BidirectionalMamba(64)
    for end, rates, skip_weight in (("", mixer.A_log, mixer.D), ("_b", mixer.A_b_log, mixer.D_b)):
        delta = torch.nn.functional.softplus(getattr(mixer, f"dt_proj{end}").bias.detach())
        assert delta.min() >= 1e-3 * 0.999
        assert delta.max() <= 1e-1 * 1.001
        assert math.isclose(delta.log().mean().exp(), 0.01, rel_tol=0.3)
        assert getattr(mixer, f"dt_proj{end}").weight.abs().max() <= 0.5  # R = 4
        torch.testing.assert_close(rates.exp(), torch.arange(1.0, 17).expand(128, 16))
        assert (skip_weight == 1).all()


@pytest.mark.parametrize("row", [[], [128], [64], [None], [256, 16]], ids=str)
def test_the_state_size_is_never_the_width(row):
    assert MambaLayer(32, *row).mamba.A_log.shape == (64, 16)
    assert find("MambaLayer").rule.keeps_channels


# The widths that the rows of the blog repeat are ignored.
BUILDS = [(scale, []) for scale in AT_2_CLASSES] + [("n", [128, 256, 512, 1024])]


@pytest.mark.parametrize(("scale", "widths"), BUILDS, ids=str)
def test_published_counts(scale, widths):
    from ultralytics.nn import tasks

    text = FILE.read_text(encoding="utf-8")
    for width in widths:
        text = text.replace("MambaLayer, []", f"MambaLayer, [{width}]", 1)
    with torch.device("meta"):  # counted, not filled
        model, _ = tasks.parse_model(yaml.safe_load(text) | {"scale": scale, "nc": 2}, ch=3, verbose=False)
    assert sum(p.numel() for p in model.parameters()) == AT_2_CLASSES[scale]
    layers = [m for m in model.modules() if isinstance(m, MambaLayer)]
    assert {layer.mamba.d_state for layer in layers} == {16}
    assert all(layer.residual for layer in layers)


@pytest.mark.parametrize("size", check.SIZES, ids=str)
def test_sizes(size):
    check.assert_size(MambaLayer(16), 16, size, size)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "autocast float16", "autocast bfloat16"])
def test_stays_finite(kind, scale):
    torch.manual_seed(0)
    check.assert_finite_everywhere(MambaLayer(16), 16, kind, scale)


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    check.assert_gradients(MambaLayer(16), 16, set())


def test_a_copy_and_a_pickle_compute_the_same():
    check.assert_travels(MambaLayer(16), 16)


def test_the_result_depends_on_which_side_is_long():
    torch.manual_seed(0)
    layer, x = MambaLayer(8), torch.randn(1, 8, 5, 7)
    assert not torch.allclose(layer(x.transpose(2, 3)).transpose(2, 3), layer(x))


ERRORS = [
    (lambda: BidirectionalMamba(8, d_state=0), "needs d_state >= 1, got 0"),
    (lambda: BidirectionalMamba(8, d_state=-16), "needs d_state >= 1, got -16"),
    (lambda: BidirectionalMamba(8, d_conv=0), "needs d_conv >= 1, got 0"),
    (lambda: BidirectionalMamba(8, expand=0), r"needs expand \* d_model >= 1, got 0"),
    (lambda: BidirectionalMamba(8, dt_rank=0), "needs dt_rank >= 1, got 0"),
    (
        lambda: MambaLayer(8, 0.5),
        r"is a width, which is ignored, or null; got 0.5\. Write \[null, 16\] for a state size",
    ),
    (lambda: MambaLayer(8, 0), "is a width, which is ignored, or null; got 0"),
]


@pytest.mark.parametrize(("make", "text"), ERRORS, ids=[text[:25] for _, text in ERRORS])
def test_what_does_not_fit_is_refused_in_words(make, text):
    with pytest.raises(ValueError, match=text):
        make()
