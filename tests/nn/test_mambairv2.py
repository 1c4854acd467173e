"""MambaIRv2: reference outputs, tables and gradients of the official code, routing, order, sizes, errors."""

from __future__ import annotations

from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import golden
from yolomix.nn.mambairv2 import ASSG, ASSGroup
from yolomix.nn.mambairv2_counting import chosen, permutation
from yolomix.nn.mambairv2_parts import ConvFFN, GatedMLP, WindowAttention, closed_pairs, relative_positions
from yolomix.nn.mambairv2_scan import ASSM, SelectiveScan, semantic_order
from yolomix.ops.tracing import sorting_at_most

CPU = torch.device("cpu")


def compare(module: nn.Module, g: golden.Golden, *inputs: Tensor, out: Tensor, want: Tensor) -> None:
    """The output, and the gradient of every parameter and of every input, against the reference."""
    golden.assert_close("output", out, want)
    out.backward(g.tensors["cotangent"].reshape(out.shape))
    got = {k: p.grad for k, p in module.named_parameters()}
    got |= dict(zip(("input", "prompt", "token.weight"), (x.grad for x in inputs), strict=False))
    assert got.keys() >= g.under("grad.").keys()
    for key, wanted in g.under("grad.").items():
        golden.assert_gradient(key, got[key].reshape(wanted.shape), wanted)


def leaf(t: Tensor, *shape: int) -> Tensor:
    return t.clone().reshape(shape or t.shape).requires_grad_()


def as_map(g: golden.Golden, key: str = "input") -> Tensor:
    """(B, L, C) as stored -> (B, H, W, C)."""
    return g.tensors[key].unflatten(1, (g.meta["h"], g.meta["w"]))


def options(g: golden.Golden) -> dict[str, Any]:
    """What the golden says about a layer's prompts."""
    return {"raster_prompt": g.meta["prompt_order"].startswith("raster")}


def widths(g: golden.Golden) -> dict[str, Any]:
    m = g.meta
    named = {k: m[k] for k in ("d_state", "inner_rank", "num_tokens", "mlp_ratio")}
    return named | {"num_heads": m["heads"], "window_size": m["window"]} | options(g)


def with_noise(module: nn.Module, g: golden.Golden) -> None:
    """The noise of the golden in place of a drawn one."""
    for part in module.modules():
        if isinstance(part, ASSM) and "gumbel" in g.tensors:
            part.noisy = MethodType(lambda self, logits: logits + g.tensors["gumbel"], part)


@pytest.mark.parametrize("name", golden.names("assg", "tables_*"))
def test_tables_are_the_official_ones(name):
    g, (H, W) = golden.load("assg", name), (8, 12) if "8x12" in name else (8, 8)
    assert torch.equal(relative_positions(4), g.tensors["rpi"])
    assert torch.equal(closed_pairs(H, W, 4, 2, CPU), g.tensors["attn_mask"] == -100)


@pytest.mark.parametrize("name", golden.names("assg", "window_attention_*"))
def test_window_attention_equals_the_official_code(name):
    g = golden.load("assg", name)
    shift = 2 if g.meta["shifted"] else 0
    module = WindowAttention(g.meta["dim"], window_size=g.meta["window"], num_heads=g.meta["heads"], shift=shift)
    module.load_state_dict(g.under("param."), strict=True)
    x = leaf(g.tensors["map"])
    rolled = module(x).roll((-shift, -shift), (1, 2))
    out = rolled.view(2, 2, 4, 3, 4, 16).permute(0, 1, 3, 2, 4, 5).reshape(12, 16, 16)
    golden.assert_close("output", out, g.tensors["output"])
    out.backward(g.tensors["cotangent"])
    stored = g.under("grad.")
    windows = x.grad.roll((-shift, -shift), (1, 2)).view(2, 2, 4, 3, 4, 48).permute(0, 1, 3, 2, 4, 5)
    golden.assert_gradient("input", windows.reshape(12, 16, 48), stored.pop("input"))
    for key, want in stored.items():
        golden.assert_gradient(key, module.get_parameter(key).grad, want)


@pytest.mark.parametrize("name", [*golden.names("assg", "convffn_*"), *golden.names("assg", "gatedmlp_*")])
def test_mlps_equal_the_official_code(name):
    g = golden.load("assg", name)
    make = ConvFFN if g.meta["kind"] == "ConvFFN" else GatedMLP
    module, x = make(g.meta["dim"], hidden_features=g.meta["hidden_features"]), as_map(g).clone().requires_grad_()
    module.load_state_dict(g.under("param."), strict=True)
    compare(module, g, x, out=module(x), want=as_map(g, "output"))


@pytest.mark.parametrize("name", golden.names("assg", "selective_scan_*"))
def test_scan_with_prompt_equals_the_official_code(name):
    g = golden.load("assg", name)
    module = SelectiveScan(g.meta["d_model"], d_state=g.meta["d_state"])
    module.load_state_dict(g.under("param."), strict=True)
    x, prompt = leaf(g.tensors["input"]), leaf(g.tensors["prompt"])
    compare(module, g, x, prompt, out=module(x, prompt), want=g.tensors["output"])


@pytest.mark.parametrize("name", golden.names("assg", "assm_*"))
def test_state_space_module_equals_the_official_code(name):
    g, m = golden.load("assg", name), golden.load("assg", name).meta
    sizes = {k: m[k] for k in ("d_state", "num_tokens", "inner_rank", "mlp_ratio")}
    module = ASSM(m["dim"], **sizes, **options(g))
    parameters = g.under("param.")
    token = leaf(parameters.pop("token.weight"))
    module.load_state_dict(parameters, strict=True)
    with_noise(module, g)
    x = as_map(g).clone().requires_grad_()
    classes, _ = module.prompts(x.flatten(1, 2), token)
    assert torch.equal(classes, g.tensors["route_index"].view_as(classes))
    assert torch.equal(semantic_order(classes, 64)[0], g.tensors["sort_index"].view_as(classes))
    out = module(x, token)
    golden.assert_close("output", out, as_map(g, "output"))
    out.backward(as_map(g, "cotangent"))
    got = {k: p.grad for k, p in module.named_parameters()} | {
        "input": x.grad.flatten(1, 2),
        "token.weight": token.grad,
    }
    assert got.keys() == g.under("grad.").keys()
    for key, want in g.under("grad.").items():
        golden.assert_gradient(key, got[key], want)


def compare_block(module: nn.Module, g: golden.Golden, dtype: torch.dtype = torch.float32) -> Tensor:
    """A block on feature maps (B, C, H, W) against reference tokens, strict loading included. Returns its output."""
    module.to(dtype).load_state_dict(g.under("param."), strict=True)
    with_noise(module, g)
    x = as_map(g).permute(0, 3, 1, 2).to(dtype).requires_grad_()
    out: Tensor = module(x)
    golden.assert_close("output", out, as_map(g, "output").permute(0, 3, 1, 2))
    out.backward(as_map(g, "cotangent").permute(0, 3, 1, 2).to(dtype))
    got = {k: p.grad for k, p in module.named_parameters()} | {"input": x.grad.flatten(2).transpose(1, 2)}
    assert got.keys() == g.under("grad.").keys()
    for key, want in g.under("grad.").items():
        golden.assert_gradient(key, got[key], want)
    return out.detach()


@pytest.mark.parametrize("name", [*golden.names("assg", "layer_*"), *golden.names("assg", "pad_*")])
def test_layer_equals_the_official_code(name):
    g = golden.load("assg", name)
    base = "layer_base" in name
    compare_block(ASSG(g.meta["dim"], shift=g.meta["shift"], conv_ffn=base, **widths(g)), g)


def test_group_equals_the_official_code():
    """Two layers whose outputs grow to 32: the float32 reference is 1.4e-5 off the exact one, as far as ours may be.

    So outputs in float64 are compared with the reference, and those in float32 with the ones in float64.
    """
    g = golden.load("assg", "assb_light_8x8_depth2")
    group = ASSGroup(g.meta["dim"], g.meta["depth"], **widths(g))
    exact = compare_block(group, g, torch.float64)
    with torch.no_grad():
        golden.assert_close("float32", group.float()(as_map(g).permute(0, 3, 1, 2)), exact)


def test_every_golden_is_used():
    prefixes = ("tables_", "window_attention_", "convffn_", "gatedmlp_", "selective_scan_", "assm_", "layer_", "pad_")
    rest = [name for name in golden.names("assg") if not name.startswith(prefixes)]
    assert rest == ["assb_light_8x8_depth2"]


def brute_force(qkv: Tensor, module: WindowAttention) -> Tensor:
    """Shifted window attention position by position, before the projection: which window one is in, by coordinates."""
    _, H, W, C = qkv.shape
    w, s, h = module.window_size, module.shift, module.num_heads
    Hp, Wp = (-(-n // w) * w for n in (H, W))
    q, k, v = qkv.double().unflatten(3, (3, h, -1)).unbind(3)
    table = module.relative_position_bias_table.double()
    positions = [(i, j) for i in range(H) for j in range(W)]
    rolled = {(i, j): ((i - s) % Hp, (j - s) % Wp) for i, j in positions}
    out = torch.zeros(*qkv.shape[:3], C // 3, dtype=torch.float64)
    for query in positions:
        a = rolled[query]
        keys = []
        for key in positions:
            b = rolled[key]
            same_window = (a[0] // w, a[1] // w) == (b[0] // w, b[1] // w)
            if same_window and (a[0] - b[0], a[1] - b[1]) == (query[0] - key[0], query[1] - key[1]):
                keys.append(key)
        lines = [(query[0] - i + w - 1) * (2 * w - 1) + query[1] - j + w - 1 for i, j in keys]
        index = tuple(torch.tensor(keys).T)
        logit = torch.einsum("bhd,bkhd->bhk", q[:, *query], k[:, *index]) * (C // 3 // h) ** -0.5 + table[lines].T
        out[:, *query] = torch.einsum("bhk,bkhd->bhd", logit.softmax(-1), v[:, *index]).flatten(1)
    return out


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 4), (5, 9), (3, 2)], ids=str)
def test_window_attention_takes_any_size_and_any_shift(size, shift):
    torch.manual_seed(0)
    module, qkv = (
        WindowAttention(4, window_size=4, num_heads=2, shift=shift).double(),
        torch.randn(2, *size, 12, dtype=torch.float64),
    )
    module.proj = nn.Identity()
    torch.testing.assert_close(module(qkv), brute_force(qkv, module), rtol=1e-10, atol=1e-10)


def made(**options: Any) -> ASSG:
    torch.manual_seed(0)
    layer = ASSG(12, 4, num_tokens=8, inner_rank=3, **options)
    for p in layer.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return layer


def test_padding_enters_neither_scan_nor_mlp():
    """Nothing but window attention knows of the padding: the scan gets the 35 tokens of the feature map."""
    layer, x = made(), torch.randn(1, 12, 5, 7)
    seen = []
    layer.assm.selectiveScan.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    layer(x)
    assert seen == [(1, 35, 12)]


def test_gumbel_noise_is_drawn_in_training_only_and_only_if_asked_for():
    x = torch.randn(1, 12, 6, 6)
    for gumbel, training, equal in ((False, True, True), (True, False, True), (True, True, False)):
        layer = made(gumbel=gumbel).train(training)
        with torch.no_grad():
            assert torch.equal(layer(x), layer(x)) == equal, (gumbel, training)


def test_gumbel_noise_samples_the_softmax():
    torch.manual_seed(0)
    assm, p = made(gumbel=True).assm, torch.tensor([0.7, 0.2, 0.1])
    drawn = assm.noisy(p.log().expand(20000, 3)).argmax(-1).bincount(minlength=3) / 20000
    torch.testing.assert_close(drawn, p, rtol=0, atol=0.015)


def test_prompts_are_exact_lines_of_the_table_with_or_without_gradients():
    layer = made()
    x = torch.randn(1, 30, 12)
    table = layer.assm.embeddingB.weight @ layer.embeddingA.weight
    classes, prompt = layer.assm.prompts(x, layer.embeddingA.weight)
    assert torch.equal(prompt, table[classes])
    with torch.no_grad():
        assert torch.equal(layer.assm.prompts(x, layer.embeddingA.weight)[1], prompt)


def test_aligned_prompts_differ_from_the_official_order():
    x = torch.randn(1, 12, 6, 6)
    aligned, official = made(), made(raster_prompt=True)
    assert not torch.allclose(aligned(x), official(x))
    assert [*aligned.state_dict()] == [*official.state_dict()]


def test_order_and_its_inverse():
    classes = torch.randint(0, 64, (3, 1600))
    order, inverse = semantic_order(classes, 64)
    assert torch.equal(order, classes.argsort(dim=1, stable=True))
    assert torch.equal(order.gather(1, inverse), torch.arange(1600).expand(3, -1))


def test_counting_sorts_as_sorting_does():
    logits = torch.randn(3, 41, 7)
    logits[0, 0], logits[1, 3, :4], logits[2, 5, 2] = 1.0, 5.0, 1e30  # ties, of which the first counts
    logits[2, 6, :2] = torch.tensor([3.0, 3.0000002])
    classes, tokens = chosen(logits), torch.randn(3, 41, 5)
    assert torch.equal(classes, nn.functional.one_hot(logits.argmax(-1), 7).float())
    order, inverse = semantic_order(logits.argmax(-1), 7)
    matrix = permutation(classes)
    assert torch.equal(matrix @ tokens, tokens.gather(1, order[..., None].expand(-1, -1, 5)))
    assert torch.equal(matrix.mT @ tokens, tokens.gather(1, inverse[..., None].expand(-1, -1, 5)))


@pytest.mark.parametrize("raster_prompt", [False, True])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_a_graph_without_sort_gives_what_the_layer_gives(raster_prompt):
    layer, x = made(raster_prompt=raster_prompt).eval(), torch.randn(2, 12, 5, 6)
    nn.init.normal_(layer.assm.route[2].weight)
    with sorting_at_most(29), torch.no_grad():  # of 30 tokens
        graph = torch.jit.trace(layer, x, check_trace=False)
        torch.testing.assert_close(graph(x), layer(x))
    kinds = {node.kind() for node in graph.inlined_graph.nodes()}
    assert not kinds & {"aten::argmax", "aten::argsort", "aten::scatter", "aten::index_select", "aten::embedding"}
    with sorting_at_most(30), torch.no_grad():
        graph = torch.jit.trace(layer, x, check_trace=False)
    assert "aten::argsort" in {node.kind() for node in graph.inlined_graph.nodes()}


def test_a_program_without_sort_gives_what_the_layer_gives():
    layer, x = made().eval(), torch.randn(1, 12, 5, 6)
    nn.init.normal_(layer.assm.route[2].weight)
    with sorting_at_most(0), torch.no_grad():
        program = torch.export.export(layer, (x,))
        torch.testing.assert_close(program.module()(x), layer(x))
    kinds = {str(node.target) for node in program.graph.nodes}
    assert not any("sort" in kind or "scatter" in kind for kind in kinds), kinds


def test_tokens_of_one_class_keep_their_order():
    """The scan is causal. With an unstable sort, ties change the output from machine to machine."""
    assm, token = made().assm, torch.zeros(3, 4)
    for p in assm.route.parameters():
        p.data.zero_()  # every token in class 0
    seen = []
    assm.selectiveScan.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = torch.randn(1, 40, 40, 12)
    assm(x, token)
    y = assm.in_proj(x.permute(0, 3, 1, 2))
    raster = (y * torch.sigmoid(assm.CPE(y))).flatten(2).transpose(1, 2)
    assert torch.equal(seen[0], raster)


@pytest.mark.parametrize(("c", "parameters"), [(256, 659_481), (512, 2_555_566)])
def test_row_of_the_yamls_has_their_count(c, parameters):
    assert sum(p.numel() for p in ASSG(c, 20).parameters()) == parameters


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ASSG(30, 20), "num_heads >= 1 that divides its channels, got num_heads=4 for c=30"),
        (lambda: ASSG(16, 4, num_heads=0), "got num_heads=0 for c=16"),
        (
            lambda: ASSG(16, 4, window_size=0),
            "window_size >= 1 and 0 <= shift < window_size, .* got window_size=0, shift=0",
        ),
        (lambda: ASSG(16, 4, shift=4), "got window_size=4, shift=4"),
        (lambda: ASSG(16, 4, shift=-1), "got window_size=4, shift=-1"),
        (lambda: ASSG(16, 0), "ASSM needs d_state >= 1, got 0"),
        (lambda: ASSG(16, -2), "ASSM needs d_state >= 1, got -2"),
        (lambda: ASSG(16, 4, num_tokens=0), "ASSM needs num_tokens >= 1, got 0"),
        (lambda: ASSG(16, 4, inner_rank=0), "ASSM needs inner_rank >= 1, got 0"),
        (lambda: ASSG(16, 4, mlp_ratio=0.01), r"ASSM needs c \* mlp_ratio >= 1, got 0.16"),
        (lambda: ASSG(2, 4, num_heads=2), "needs c >= 3, got 2"),
        (lambda: ASSG(16, 4, kernel_size=4), "needs an odd kernel_size, got 4"),
        (lambda: ASSG(16, 4, mlp_ratio=1.1), "hidden_features has to be even, got 17"),
        (lambda: ASSGroup(16, depth=0), "ASSGroup needs depth >= 1, got 0"),
    ],
)
def test_errors_say_what_was_needed(make, message):
    with pytest.raises(ValueError, match=message):
        make()
