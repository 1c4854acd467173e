"""Halo attention as a block: reference outputs and gradients, what the inverted mask of others breaks, errors."""

from __future__ import annotations

import pytest
import torch

from tests import golden
from yolomix.nn.halonet import HaloAttention


def from_golden(g: golden.Golden, **options: bool) -> HaloAttention:
    m = g.meta
    block = HaloAttention(m["dim"], m["block"], m["halo"], m["dim_head"], m["heads"], residual=False, **options)
    block.load_state_dict(g.under("param."), strict=True)
    return block


@pytest.mark.parametrize("name", golden.names("halo", "halo_*"))
def test_equals_the_reference_outputs(name):
    g = golden.load("halo", name)
    block, x = from_golden(g), g.tensors["input"].clone().requires_grad_()
    out = block(x)
    golden.assert_close("output", out, g.tensors["output"])
    (out * g.tensors["cotangent"]).sum().backward()
    got = {"input": x.grad} | {k: p.grad for k, p in block.named_parameters()}
    assert got.keys() == g.under("grad.").keys()
    for key, want in g.under("grad.").items():
        golden.assert_gradient(key, got[key], want)


def test_the_unmasked_option_equals_the_reference_outputs():
    g = golden.load("halo", "halo_8x12_b4h1")
    got = from_golden(g, mask_padding=False)(g.tensors["input"])
    golden.assert_close("unmasked", got, g.tensors["output_zero_padding_unmasked"])


def test_every_weight_changes_the_output():
    """The inverted mask leaves queries, keys and tables without effect and without gradient."""
    torch.manual_seed(0)
    block, x = HaloAttention(8, 2, 1, 4, 2), torch.randn(1, 8, 7, 5)
    block(x).square().sum().backward()
    for key, p in block.named_parameters():
        used = p.grad[2 * block.halo_size :] if "rel_pos_emb" in key else p.grad
        assert (used != 0).float().mean() > 0.9, key
        assert "rel_pos_emb" not in key or not p.grad[: 2 * block.halo_size].any(), key
    keys = block.to_kv.weight.grad[: block.to_q.weight.shape[0]]
    assert (keys != 0).all()


@pytest.mark.parametrize("c", [64, 256])
def test_the_blogs_row_has_the_blogs_count_with_and_without_residual(c):
    for residual in (True, False):
        block = HaloAttention(c, 2, 1, residual=residual)
        assert sum(p.numel() for p in block.parameters()) == 2049 * c + 896


def test_the_residual_is_the_input():
    torch.manual_seed(0)
    bare, x = HaloAttention(8, 2, 1, 4, 2, residual=False), torch.randn(1, 8, 3, 5)
    around = HaloAttention(8, 2, 1, 4, 2)
    around.load_state_dict(bare.state_dict())
    torch.testing.assert_close(around(x), x + bare(x))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((0, 1), "needs block >= 1 and halo >= 0, in positions, got block=0, halo=1"),
        ((2, -1), "got block=2, halo=-1"),
        ((2, 1, 4, 0), "needs num_heads >= 1 and dim_head >= 1, got num_heads=0, dim_head=4"),
        ((2, 1, 0, 2), "got num_heads=2, dim_head=0"),
    ],
)
def test_errors_say_what_was_needed(args, message):
    with pytest.raises(ValueError, match=message):
        HaloAttention(16, *args)
