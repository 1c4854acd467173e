"""MLLA: reference outputs and gradients of the official code, parameter counts, what a row may give, errors."""

from __future__ import annotations

import pytest
import torch

from tests import golden
from yolomix.nn.common import Conv, DropPath
from yolomix.nn.mlla import C2PSAMLLA, MLLABlock, MLLAttention


def as_map(tokens: torch.Tensor, g: golden.Golden) -> torch.Tensor:
    """(B, L, C) as stored -> (B, C, H, W)."""
    return tokens.transpose(1, 2).unflatten(2, (g.meta["h"], g.meta["w"])).contiguous()


def compare(module: torch.nn.Module, g: golden.Golden) -> None:
    """Strict loading by the official names, then output and every gradient against the reference."""
    module.load_state_dict(g.under("param."), strict=True)
    x = as_map(g.tensors["input"], g).requires_grad_()
    out = module(x)
    golden.assert_close("output", out, as_map(g.tensors["output"], g))
    (out * as_map(g.tensors["cotangent"], g)).sum().backward()
    got = {"input": x.grad} | {k: p.grad for k, p in module.named_parameters()}
    stored = g.under("grad.")
    stored["input"] = as_map(stored["input"], g)
    assert got.keys() == stored.keys()
    for key, want in stored.items():
        if g.name == "linattn_1x1" and key.startswith("qk."):  # q.k / (q.k + 1e-6): a difference of equal values
            assert got[key].sub(want).abs().max() < 1e-5, key
        else:
            golden.assert_gradient(key, got[key], want)


@pytest.mark.parametrize("name", golden.names("mlla", "linattn_*"))
def test_attention_equals_the_official_code(name):
    g = golden.load("mlla", name)
    compare(MLLAttention(g.meta["dim"], g.meta["heads"], g.meta["qkv_bias"], residual=False), g)


@pytest.mark.parametrize("name", golden.names("mlla", "mllablock_*"))
def test_block_equals_the_official_code(name):
    g = golden.load("mlla", name)
    compare(MLLABlock(g.meta["dim"], g.meta["heads"], g.meta["mlp_ratio"]), g)


@pytest.mark.parametrize("c", [64, 128, 256])
def test_attention_has_the_blogs_count_with_and_without_residual(c):
    for residual in (True, False):
        module = MLLAttention(c, residual=residual)
        assert sum(p.numel() for p in module.parameters()) == 2 * c * c + 12 * c


def test_the_residual_is_the_input():
    torch.manual_seed(0)
    bare, x = MLLAttention(8, residual=False), torch.randn(1, 8, 3, 5)
    around = MLLAttention(8)
    around.load_state_dict(bare.state_dict())
    torch.testing.assert_close(around(x), x + bare(x))


def test_c2psa_weights_load_by_name():
    from ultralytics.nn.modules.block import C2PSA

    ours, theirs = C2PSAMLLA(128, 128, 2), C2PSA(128, 128, 2)
    mine, native = ours.state_dict(), theirs.state_dict()
    shared = {k for k in native if "attn" not in k}
    assert shared == {k for k in mine if "attn" not in k}
    assert all(mine[k].shape == native[k].shape for k in shared)


def test_everything_but_the_attention_equals_c2psa():
    from ultralytics.nn.modules.block import C2PSA

    torch.manual_seed(0)
    ours, theirs = C2PSAMLLA(128, 128).eval(), C2PSA(128, 128).eval()
    ours.load_state_dict(theirs.state_dict(), strict=False)
    for m in theirs.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.eps = 1e-3  # as Ultralytics sets it for every model
    ours.m[0].attn = torch.nn.Identity()
    theirs.m[0].attn = torch.nn.Identity()
    theirs.m[0].add = False
    x = torch.randn(1, 128, 5, 4)
    a, b = theirs.cv1(x).split((64, 64), 1)
    want = theirs.cv2(torch.cat([a, b + theirs.m[0].ffn(b)], 1))
    torch.testing.assert_close(ours(x), want)


def test_fused_convs_compute_the_same():
    torch.manual_seed(0)
    conv = Conv(6, 8, k=3)
    conv.bn.running_mean.normal_()
    conv.bn.running_var.uniform_(0.5, 2)
    conv.eval()
    x = torch.randn(2, 6, 5, 4)
    before = conv(x)
    conv.fuse()
    conv.fuse()
    assert [*conv.state_dict()] == ["conv.weight", "conv.bias"]
    torch.testing.assert_close(conv(x), before, rtol=1e-5, atol=1e-5)


def test_drop_path_drops_whole_images_in_training_only():
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(400, 2, 1, 1)
    assert torch.equal(drop.eval()(x), x)
    out = drop.train()(x)
    assert out.flatten(1).unique(dim=0).tolist() == [[0.0, 0.0], [pytest.approx(4 / 3)] * 2]
    assert 0.65 < (out > 0).float().mean() < 0.85
    with pytest.raises(ValueError, match="0 <= p < 1, got 1"):
        DropPath(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLLAttention(10), "multiple of 4 and of num_heads=4, got c=10. num_heads=4 fits every multiple"),
        (lambda: MLLAttention(8, 3), "of num_heads=3, got c=8"),
        (lambda: MLLABlock(6, 2), "of num_heads=2, got c=6"),
        (lambda: C2PSAMLLA(64, 32), "as many channels out as in, got c1=64, c2=32. Put a Conv before it"),
        (lambda: C2PSAMLLA(12, 12), "of num_heads=4, got c=6"),
    ],
)
def test_errors_say_what_was_needed(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("shape", [(2, 64, 3, 3), (1, 64, 20, 20), (3, 32, 1, 5)])
def test_a_frozen_block_is_bit_identical(shape):
    torch.manual_seed(0)
    module, x = MLLAttention(shape[1]).eval(), torch.randn(shape)
    with torch.no_grad():
        want = module(x)
        assert torch.equal(module.requires_grad_(False)(x), want)
