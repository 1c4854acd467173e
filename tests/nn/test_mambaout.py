"""MambaOut's gated convolution: reference outputs, a float64 reference, the fit of its width, rows, grafts, errors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from ultralytics.nn import tasks

import yolomix
from tests import golden
from tests.nn import scan_blocks as check
from yolomix.host import official_layers, weights
from yolomix.nn import GatedConv
from yolomix.nn.registry import find

GOLDENS = golden.names("mambaout")
SIZES = [(1, 1), (1, 6), (7, 5), (13, 9)]
# hidden, convolved, kernel: the default, some convolved, all convolved, one convolved, a conv without neighbours
FORMS = [(None, None, 7), (21, 5, 3), (9, 9, 5), (4, 1, 7), (12, 8, 1)]


def of(g: golden.Golden) -> GatedConv:
    k = g.meta["kwargs"]
    dim = k["dim"]
    hidden = int(k.get("expansion_ratio", 8 / 3) * dim)
    convolved = int(k.get("conv_ratio", 1.0) * dim)
    block = GatedConv(dim, hidden, convolved, k.get("kernel_size", 7))
    block.load_state_dict(g.under("param."), strict=True)
    return block


def reference(block: GatedConv, x: Tensor) -> Tensor:
    """x + W2 (GELU(g) * [i | conv v]) + b2 with (g, i, v) = W1 LN(x) + b1, in float64: (B, C, H, W), the same out.

    The conv is a sum over the positions of its kernel. MambaOut, arXiv:2405.07992, section 4.1.
    """
    w = {name: p.double() for name, p in block.named_parameters()}
    x = x.double()
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).square().mean(1, keepdim=True)
    normed = (x - mean) / (variance + 1e-6).sqrt()
    normed = normed * w["norm.weight"][:, None, None] + w["norm.bias"][:, None, None]
    both = torch.einsum("oc,bchw->bohw", w["fc1.weight"], normed) + w["fc1.bias"][:, None, None]
    h, m = w["fc2.weight"].shape[1], w["conv.weight"].shape[0]
    gate, passed, local = both[:, :h], both[:, h : 2 * h - m], both[:, 2 * h - m :]
    k, (H, W) = w["conv.weight"].shape[-1], x.shape[2:]
    padded = nn.functional.pad(local, [k // 2] * 4)
    around = w["conv.bias"][:, None, None].expand_as(local)
    for row, column in itertools.product(range(k), range(k)):
        shifted = padded[:, :, row : row + H, column : column + W]
        around = around + w["conv.weight"][:, 0, row, column, None, None] * shifted
    gelu = gate * (1 + torch.erf(gate / math.sqrt(2))) / 2
    y = torch.einsum("ch,bhxy->bcxy", w["fc2.weight"], gelu * torch.cat([passed, around], 1))
    return x + y + w["fc2.bias"][:, None, None]


def made(c: int, form: tuple[int | None, int | None, int]) -> GatedConv:
    """The same weights every time, norms and biases included."""
    torch.manual_seed(0)
    block = GatedConv(c, *form)
    with torch.no_grad():
        for p in block.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return block


@pytest.mark.parametrize("name", GOLDENS)
def test_equals_the_official_code(name):
    g = golden.load("mambaout", name)
    block = of(g)
    call, x = check.ChannelsLast(block), g.tensors["input"].clone().requires_grad_()
    with torch.no_grad():
        golden.assert_close("eval", call.eval()(x), g.tensors["output_eval"])
    out = call.train()(x)
    golden.assert_close("train", out, g.tensors["output_eval"])
    (out * g.tensors["cotangent"]).sum().backward()
    got = {"input": x.grad} | {key: p.grad for key, p in block.named_parameters()}
    assert got.keys() == g.under("grad.").keys()
    for key, want in g.under("grad.").items():
        golden.assert_gradient(key, got[key], want)


def test_the_reference_outputs_see_the_eps():
    g = golden.load("mambaout", "gatedcnn_d16_small_7x5")
    block = of(g)
    block.norm.eps = 1e-5
    with pytest.raises(AssertionError, match="eps: error"):
        golden.assert_close("eps", check.ChannelsLast(block)(g.tensors["input"]), g.tensors["output_eval"])


@pytest.mark.parametrize("name", GOLDENS)
def test_the_reference_here_is_the_official_one(name):
    g = golden.load("mambaout", name)
    got = reference(of(g), g.tensors["input"].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(got, g.tensors["output_eval"].double(), rtol=0, atol=1e-6)


def test_weights_of_an_official_model_load_by_their_names():
    g = golden.load("mambaout", "gatedcnn_d24_1x6")
    block = GatedConv(24)
    said = official_layers.load_layer(block, {f"stages.1.0.{key}": t for key, t in g.under("param.").items()})
    assert said == "8 of 8 tensors loaded from 'stages.1.0.' into GatedConv, none missing"
    golden.assert_close("output", check.ChannelsLast(block)(g.tensors["input"]), g.tensors["output_eval"])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_equals_the_reference_with_every_gradient(form, size):
    block, x = made(8, form).double(), torch.randn(2, 8, *size, dtype=torch.float64, requires_grad=True)
    out, want = block(x), reference(block, x)
    inputs, cotangent = [x, *block.parameters()], torch.randn_like(want)
    names = ["input", *dict(block.named_parameters())]
    torch.testing.assert_close(out, want, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(y, inputs, cotangent) for y in (out, want)]
    for name, got, expected in zip(names, *gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("scale", [0.002, 1.0, 300.0])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)], ids=["fp16", "bf16"])
def test_half_precision_is_close_to_the_reference(dtype, bound, scale):
    block = made(16, FORMS[0]).to(dtype)
    x = (scale * torch.randn(2, 16, 7, 5)).to(dtype)
    got, want = block(x), reference(block, x)
    assert got.dtype == dtype
    assert (got.double() - want).norm() < bound * want.norm()


@pytest.mark.parametrize("autocast", [False, True], ids=["model in half", "autocast"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_the_layer_norm_is_computed_in_float32(dtype, autocast, monkeypatch):
    seen = []
    layer_norm = torch.layer_norm

    def watched(x, *rest):
        seen.append(x.dtype)
        return layer_norm(x, *rest)

    monkeypatch.setattr(torch, "layer_norm", watched)
    block = made(8, FORMS[0])
    if not autocast:
        block.to(dtype)
    with torch.autocast("cpu", dtype, enabled=autocast):
        assert block(torch.randn(1, 8, 3, 4).to(dtype)).dtype == dtype
    assert seen == [torch.float32]


@pytest.mark.parametrize("form", FORMS[1:], ids=str)
def test_other_forms_take_any_size_export_and_travel(form, tmp_path):
    for size in check.SIZES:
        check.assert_size(made(8, form), 8, size, size)
    check.assert_travels(made(8, form), 8)
    check.assert_exports(made(8, form), 8, tmp_path)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_an_exported_graph_has_plain_operations_on_at_most_five_dimensions(form):
    with torch.no_grad():
        program = torch.export.export(made(8, form).eval(), (torch.randn(1, 8, 6, 5),)).run_decompositions({})
    operations = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert operations
    assert [name for name in operations if "addcmul" in name or "view_as" in name] == []
    tensors = [node.meta["val"] for node in program.graph.nodes if isinstance(node.meta.get("val"), Tensor)]
    assert max(t.dim() for t in tensors) <= 5
    assert min(t.numel() for t in tensors) > 0, "no tensors without elements"


def test_an_adapter_on_any_layer_is_called():
    block, called = made(8, FORMS[0]), []
    layers = {name: module for name, module in block.named_children() if name != "drop_path"}
    for name, module in layers.items():
        module.register_forward_hook(lambda *_, name=name: called.append(name))
    want = made(8, FORMS[0])(x := torch.randn(1, 8, 3, 4))
    torch.testing.assert_close(block(x), want)
    assert called == ["norm", "fc1", "conv", "fc2"] == [*layers]


def test_stochastic_depth_leaves_the_branch_out_for_whole_images():
    torch.manual_seed(0)
    block, x = GatedConv(8, drop_path=0.5), torch.randn(64, 8, 3, 4)
    kept = (block(x) != x).flatten(1)
    assert kept.any(1).tolist() == kept.all(1).tolist()
    assert 16 < kept.any(1).sum() < 48
    assert (block.eval()(x) != x).flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("c", "hidden", "count"),
    [
        (48, 128, 21_232),
        (64, 170, 36_372),
        (96, 256, 79_328),
        (128, 341, 138_410),
        (192, 512, 306_112),
        (256, 682, 538_708),
    ],
)
def test_counts_are_the_official_ones(c, hidden, count):
    block = GatedConv(c)
    assert sum(p.numel() for p in block.parameters()) == count
    assert f"hidden={hidden}, convolved={c}, kernel=7, parameters={count}" in repr(block)


def test_operations_per_position_are_three_products_and_the_conv():
    block = GatedConv(16, 40, 12, kernel=5)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block(torch.zeros(2, 16, 3, 4))
    assert counter.get_total_flops() == 2 * (2 * 3 * 4) * (3 * 40 * 16 + 12 * 5**2)


def size_of(c: int, hidden: int, convolved: int, kernel: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in GatedConv(c, hidden, convolved, kernel).parameters())


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_the_fit_is_the_nearest_possible(data):
    c, kernel = data.draw(st.integers(1, 48)), data.draw(st.sampled_from([1, 3, 5, 7]))
    parameters = data.draw(st.integers(size_of(c, 1, 1, kernel), size_of(c, 3 * c + 2, c, kernel)))
    fit = GatedConv.fitted(c, parameters, kernel)
    assert fit.parameters == size_of(c, fit.hidden, fit.convolved, kernel)
    error = abs(fit.parameters - parameters)

    def off(hidden: int, convolved: int) -> int:
        return abs(hidden * (3 * c + 2) + convolved * (kernel**2 + 1) + 3 * c - parameters)

    full = min(off(hidden, c) for hidden in range(c, 4 * c + 9))
    if full <= (3 * c + 2) / 2:
        assert (fit.convolved, error) == (c, full)
        return
    pairs = [(h, m) for m in range(1, c + 1) for h in range(m, max(m, 8 * m // 3) + 1)]
    assert (fit.hidden, fit.convolved) in pairs, "no smaller share than in the paper"
    assert error == min(itertools.starmap(off, pairs))
    assert fit.convolved == max(m for h, m in pairs if off(h, m) == error)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 1024), st.sampled_from([1, 3, 5, 7, 11]), st.floats(0, 40))
def test_the_fit_is_within_half_a_step_of_the_hidden_width(c, kernel, expansion):
    least = size_of(c, 1, 1, kernel)
    parameters = max(least, round(expansion * c * (3 * c + 2)))
    fit = GatedConv.fitted(c, parameters, kernel)
    error = abs(fit.parameters - parameters)
    if parameters >= size_of(c, c, c, kernel):
        assert fit.hidden >= c == fit.convolved
    if fit.convolved == c:
        assert error <= (3 * c + 2) / 2
    assert error <= (3 * c + kernel**2 + 3) / 2  # where every hidden channel is convolved


@pytest.mark.parametrize("c", [32, 64, 128, 256])
@pytest.mark.parametrize(
    ("name", "args"), [("MLLABlock", ()), ("MLLAttention", ()), ("HaloAttention", (2, 1)), ("MambaLayer", ())]
)
def test_the_fit_is_within_one_percent_of_blocks_that_it_is_compared_with(name, args, c):
    wanted = sum(p.numel() for p in find(name).make(c, args=args).parameters())
    hidden, convolved, parameters = GatedConv.fitted(c, wanted)
    assert parameters == pytest.approx(wanted, rel=0.01)
    assert f"parameters={parameters})" in repr(GatedConv(c, hidden, convolved)).replace("\n", ")")


@pytest.mark.parametrize(
    ("row", "hidden", "convolved"),
    [
        ("[]", 42, 16),
        ("[30]", 30, 16),
        ("[{hidden: 10}]", 10, 10),
        ("[30, 4, 3]", 30, 4),
        ("[{hidden: 30, convolved: 4, kernel: 3}]", 30, 4),
    ],
)
def test_rows_build(row, hidden, convolved):
    d = yaml.safe_load(
        f"{{nc: 2, depth_multiple: 0.67, width_multiple: 0.25, backbone: [[-1, 1, Conv, [64, 3, 2]], "
        f"[-1, 3, GatedConv, {row}]], head: [[-1, 1, Classify, [nc]]]}}"
    )
    layers, _ = tasks.parse_model(d, ch=3, verbose=False)
    assert [(m.hidden, m.convolved) for m in layers[1]] == [(hidden, convolved)] * 2
    assert layers(torch.randn(2, 3, 8, 8)).shape == (2, 2)


@pytest.mark.parametrize(
    ("graft", "found"),
    [
        ("GatedConv@p5", [(682, 256)]),
        ("GatedConv(hidden=170)@p4,p5", [(170, 128), (170, 170)]),
        ("GatedConv(170,64)@p5:plain", [(170, 64)]),
        ("GatedConv@p5:wrap", [(682, 256)]),
        ("C3k2(GatedConv)(hidden=20)@4:replace", [(20, 20)]),
    ],
)
def test_names_of_grafts_build(graft, found):
    model = tasks.DetectionModel(f"yolo11n+{graft}.yaml", nc=2, verbose=False)
    blocks = [m for m in model.modules() if isinstance(m, GatedConv)]
    assert [(m.hidden, m.convolved) for m in blocks] == found


def test_a_graft_changes_nothing_at_init_and_a_plain_one_does(tmp_path):
    torch.manual_seed(0)
    weights.write(weights.from_yaml("yolo11n.yaml"), tmp_path / "stock.pt")
    x, outputs = torch.rand(1, 3, 64, 64), []
    for name in ("stock", "stock+GatedConv@p4,p5", "stock+GatedConv@p4,p5:plain"):
        model = yolomix.YOLO(tmp_path / f"{name}.pt").model.eval()
        with torch.inference_mode():
            outputs.append(model(x)[0])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GatedConv(16, kernel=4), "GatedConv needs an odd kernel, so that the feature map .* got kernel=4"),
        (lambda: GatedConv(16, kernel=-1), "got kernel=-1"),
        (lambda: GatedConv.fitted(16, 9999, kernel=2), "needs an odd kernel, .* got kernel=2"),
        (lambda: GatedConv(16, 0), "GatedConv needs hidden >= 1, got 0. Without it, the width is 8/3 of the channels"),
        (
            lambda: GatedConv(16, 20, 21),
            "needs 1 <= convolved <= hidden, got convolved=21 for hidden=20. Without it, as many are convolved as",
        ),
        (lambda: GatedConv(16, convolved=0), "got convolved=0 for hidden=42"),
        (lambda: GatedConv(16, drop_path=1), "0 <= p < 1, got 1"),
        (
            lambda: GatedConv.fitted(64, 435),
            "the smallest GatedConv of 64 channels with kernel=7 has 436 parameters, got parameters=435. "
            "Fit one at fewer insertion points, or with a smaller kernel",
        ),
    ],
)
def test_errors_say_what_was_needed(make, message):
    with pytest.raises(ValueError, match=message):
        make()
