"""Linear attention: reference rotations of the official code, the quadratic form in float64, sizes, types, errors."""

from __future__ import annotations

import pytest
import torch

from tests import golden
from yolomix.ops.linear_attention import linear_attention
from yolomix.ops.linear_attention.rope import rotate, turns

SIZES = [(1, 1), (1, 7), (7, 5), (20, 15), (21, 16)]


def tensors(B: int, C: int, H: int, W: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    torch.manual_seed(H * 100 + W)
    return [torch.randn(B, C, H, W).to(dtype) for _ in range(3)]


def test_rotation_is_the_official_one():
    g = golden.load("mlla", "rope_4x6_c16")
    pairs = g.tensors["input"].permute(0, 3, 1, 2).reshape(2, 8, 2, 24)
    cos, sin = turns(16, 4, 6, pairs)
    golden.assert_close("rotations", torch.stack([cos.T, sin.T], -1).view(4, 6, 8, 2), g.tensors["rotations"])
    turned = rotate(pairs, cos, sin).reshape(2, 16, 4, 6)
    golden.assert_close("rotated", turned.permute(0, 2, 3, 1), g.tensors["output"])


@pytest.mark.parametrize(("H", "W"), SIZES)
def test_output_and_gradients_equal_the_reference(H, W):
    results = []
    for dtype, backend in ((torch.float32, "eager"), (torch.float64, "reference")):
        qkv = [t.to(dtype).requires_grad_() for t in tensors(2, 12, H, W)]
        out = linear_attention(*qkv, 3, backend=backend)
        grads = torch.autograd.grad((out * out.detach().cos()).sum(), qkv)
        results.append((out, *grads))
    for what, got, want in zip(("out", "q", "k", "v"), *results, strict=True):
        worst = (got.double() - want).abs().max().item()
        # With one position the weight is q.k / (q.k + 1e-6): its derivative is a difference of equal values.
        assert worst <= 1e-6 * max(1.0, want.abs().max().item()), f"{what} at {H}x{W}: {worst:.1e}"


def test_a_head_that_splits_a_channel_pair():
    qkv = tensors(1, 12, 3, 4, torch.float64)
    got, want = (linear_attention(*qkv, 12, backend=b) for b in ("eager", "reference"))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_gradients_by_finite_differences():
    qkv = tuple(t.requires_grad_() for t in tensors(1, 4, 2, 3, torch.float64))
    assert torch.autograd.gradcheck(lambda q, k, v: linear_attention(q, k, v, 2), qkv)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_half_precision_computes_in_float32(dtype, scale):
    qkv = [t * scale for t in tensors(1, 8, 5, 6, dtype)]
    out = linear_attention(*qkv, 2)
    assert out.dtype == dtype
    assert torch.equal(out, linear_attention(*(t.float() for t in qkv), 2).to(dtype))
    assert out.isfinite().all()


def test_queries_of_zero_give_no_nan():
    q, k, v = tensors(1, 8, 4, 4, torch.float16)
    assert linear_attention(q - 30, k - 30, v, 2).isfinite().all()


def test_autocast_is_off_inside():
    qkv = tensors(1, 8, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        got = linear_attention(*qkv, 2)
    assert torch.equal(got, linear_attention(*qkv, 2))


@pytest.mark.parametrize(
    ("q", "v", "heads", "message"),
    [
        ((4, 2, 2), (4, 2, 2), 1, r"needs q, k and v of one shape \(B, C, H, W\) with all sizes >= 1, got \(4, 2, 2\)"),
        ((1, 4, 2, 0), (1, 4, 2, 0), 1, r"got \(1, 4, 2, 0\), \(1, 4, 2, 0\) and \(1, 4, 2, 0\)"),
        ((1, 4, 2, 3), (1, 4, 2, 2), 1, r"got \(1, 4, 2, 3\), \(1, 4, 2, 2\) and \(1, 4, 2, 2\)"),
        ((1, 6, 2, 2), (1, 6, 2, 2), 1, "multiple of 4 and of num_heads=1, got C=6; 4 heads fit"),
        ((1, 8, 2, 2), (1, 8, 2, 2), 3, "multiple of 4 and of num_heads=3, got C=8"),
        ((1, 8, 2, 2), (1, 8, 2, 2), 0, "of num_heads=0, got C=8"),
    ],
)
def test_errors_say_what_was_needed(q, v, heads, message):
    with pytest.raises(ValueError, match=message):
        linear_attention(torch.zeros(q), torch.zeros(v), torch.zeros(v), heads)
