"""Linear attention: stored rotations of the official code, the quadratic form in float64, sizes, types, errors."""

from __future__ import annotations

import pytest
import torch

from tests import golden
from yolomix.ops.linear_attention import linear_attention
from yolomix.ops.linear_attention.rope import rotate, turns

SIZES = [(1, 1), (1, 7), (7, 5), (20, 15), (21, 16)]


def tensors(B: int, C: int, H: int, W: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(H * 100 + W)
    return torch.randn(B, 2 * C, H, W).to(dtype), torch.randn(B, C, H, W).to(dtype)


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
        qk, v = (t.to(dtype).requires_grad_() for t in tensors(2, 12, H, W))
        out = linear_attention(qk, v, 3, backend=backend)
        grads = torch.autograd.grad((out * out.detach().cos()).sum(), (qk, v))
        results.append((out, *grads))
    for what, got, want in zip(("out", "qk", "v"), *results, strict=True):
        worst = (got.double() - want).abs().max().item()
        # With one cell the weight is q.k / (q.k + 1e-6): its derivative is a difference of equal numbers.
        assert worst <= 1e-6 * max(1.0, want.abs().max().item()), f"{what} at {H}x{W}: {worst:.1e}"


def test_a_head_that_splits_a_channel_pair():
    qk, v = tensors(1, 12, 3, 4, torch.float64)
    got, want = (linear_attention(qk, v, 12, backend=b) for b in ("eager", "reference"))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_double_gradients():
    qk, v = (t.requires_grad_() for t in tensors(1, 4, 2, 3, torch.float64))
    assert torch.autograd.gradcheck(lambda a, b: linear_attention(a, b, 2), (qk, v))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_half_precision_computes_in_float32(dtype, scale):
    qk, v = (t * scale for t in tensors(1, 8, 5, 6, dtype))
    out = linear_attention(qk, v, 2)
    assert out.dtype == dtype
    torch.testing.assert_close(out, linear_attention(qk.float(), v.float(), 2).to(dtype), rtol=0, atol=0)
    assert out.isfinite().all()


def test_queries_of_zero_give_no_nan():
    qk, v = tensors(1, 8, 4, 4, torch.float16)
    assert linear_attention(qk - 30, v, 2).isfinite().all()


def test_autocast_is_off_inside():
    qk, v = tensors(1, 8, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        got = linear_attention(qk, v, 2)
    assert torch.equal(got, linear_attention(qk, v, 2))


@pytest.mark.parametrize(
    ("qk", "v", "heads", "message"),
    [
        ((1, 8, 2, 2), (4, 2, 2), 1, r"needs v of shape \(B, C, H, W\) with all sizes >= 1, got \(4, 2, 2\)"),
        ((1, 8, 2, 2), (1, 4, 2, 0), 1, r"got \(1, 4, 2, 0\)"),
        ((1, 8, 2, 3), (1, 4, 2, 2), 1, r"needs qk of shape \(1, 8, 2, 2\) for this v, got \(1, 8, 2, 3\)"),
        ((1, 12, 2, 2), (1, 6, 2, 2), 1, "multiple of 4 and of heads=1, got C=6; 4 heads fit"),
        ((1, 16, 2, 2), (1, 8, 2, 2), 3, "multiple of 4 and of heads=3, got C=8"),
        ((1, 16, 2, 2), (1, 8, 2, 2), 0, "of heads=0, got C=8"),
    ],
)
def test_errors_say_what_was_needed(qk, v, heads, message):
    with pytest.raises(ValueError, match=message):
        linear_attention(torch.zeros(qk), torch.zeros(v), heads)
