"""Halo attention: reference outputs, every backend against the reference, sizes, types, errors."""

from __future__ import annotations

import pytest
import torch

from tests import golden
from yolomix.ops.halo_attention import OPERATOR, halo_attention

FAST = [row.name for row in OPERATOR.backends if row.automatic]
# (H, W, block, halo): before, on and after a block's edge; smaller than a block; a halo wider than the map; no halo
SIZES = [(1, 1, 2, 1), (1, 7, 2, 1), (7, 5, 4, 1), (8, 4, 4, 1), (5, 9, 4, 2), (3, 2, 4, 3), (5, 4, 3, 0)]


def tensors(H: int, W: int, block: int, halo: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    torch.manual_seed(H * 1000 + W * 100 + block * 10 + halo)
    table = (2 * (block + 2 * halo) - 1, 4)
    return [torch.randn(s).to(dtype) for s in (*[(2, 8, H, W)] * 3, table, table)]


def from_golden(g: golden.Golden) -> tuple[list[torch.Tensor], tuple[int, int, int]]:
    """The operator's arguments for a stored case of either source."""
    p, x = g.under("param."), g.tensors["input"]
    heads, d = g.meta["heads"], g.meta["dim_head"]
    if "to_q.weight" in p:
        q, (k, v) = p["to_q.weight"], p["to_kv.weight"].chunk(2)
        tables = p["rel_pos_emb.rel_height"], p["rel_pos_emb.rel_width"]
    else:  # timm: keys and values interleaved per head, relative logits scaled or not
        q = p["q.weight"].flatten(1)
        k, v = (t.flatten(0, 1) for t in p["kv.weight"].flatten(1).unflatten(0, (heads, 2, d)).unbind(1))
        scale = 1.0 if g.meta["scale_pos_embed"] else d**0.5
        tables = p["pos_embed.height_rel"] * scale, p["pos_embed.width_rel"] * scale
    maps = [torch.einsum("oc,bchw->bohw", w, x) for w in (q, k, v)]
    return [*maps, *tables], (heads, g.meta["block"], g.meta["halo"])


# The stored results with and without positions outside the map; "without" is stored where blocks divide the map.
RESULTS = {
    "halo": {True: "output", False: "output_zero_padding_unmasked"},
    "timm": {True: "output_masked", False: "output"},
}
STORED = [
    (name, masked, key)
    for name in golden.names("halo")
    for masked, key in RESULTS[name[:4]].items()
    if key in golden.load("halo", name).tensors
]


def test_every_stored_file_is_compared_and_the_whole_blocks_twice():
    assert len({name for name, *_ in STORED}) == 15
    assert len(STORED) == 28


@pytest.mark.parametrize("backend", [row.name for row in OPERATOR.backends])
@pytest.mark.parametrize(("name", "masked", "key"), STORED)
def test_reference_outputs(name, masked, key, backend):
    g = golden.load("halo", name)
    args, sizes = from_golden(g)
    got = halo_attention(*args, *sizes, masked, backend=backend)
    if "param.to_out.weight" in g.tensors:
        w, b = g.tensors["param.to_out.weight"], g.tensors["param.to_out.bias"]
        got = torch.einsum("oc,bchw->bohw", w, got) + b[:, None, None]
    golden.assert_close(name, got, g.tensors[key])


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_output_and_gradients_equal_the_reference(size, masked, backend):
    _, _, block, halo = size
    results = []
    for dtype, name in ((torch.float32, backend), (torch.float64, "reference")):
        args = [t.to(dtype).requires_grad_() for t in tensors(*size)]
        out = halo_attention(*args, 2, block, halo, masked, backend=name)
        results.append((out, *torch.autograd.grad((out * out.detach().cos()).sum(), args)))
    for what, got, want in zip(("out", "q", "k", "v", "rel_height", "rel_width"), *results, strict=True):
        worst = (got.double() - want).abs().max().item()
        assert worst <= 2e-6 * max(1.0, want.abs().max().item()), f"{what} at {size}: {worst:.1e}"


def test_a_block_depends_on_its_window_and_on_nothing_else():
    args = tensors(12, 12, 2, 1)
    changed = [t.clone() for t in args]
    for t in changed[:3]:
        t[:, :, :3], t[:, :, 7:], t[:, :, :, :3], t[:, :, :, 7:] = 9.0, 9.0, 9.0, 9.0
    a, b = (halo_attention(*t, 2, 2, 1) for t in (args, changed))  # the block at rows and columns 4, 5 sees 3 to 6
    assert torch.equal(a[:, :, 4:6, 4:6], b[:, :, 4:6, 4:6])
    assert not torch.equal(a, b)


def test_the_corner_depends_on_the_corner():
    args = tensors(6, 6, 2, 1)
    changed = [t.clone() for t in args]
    changed[2][:, :, 0, 0] += 1
    assert (halo_attention(*args, 2, 2, 1) != halo_attention(*changed, 2, 2, 1))[:, :, 0, 0].any()


def test_one_block_over_the_map_is_global_attention():
    q, k, v, rel_height, rel_width = tensors(5, 5, 8, 0, torch.float64)
    got = halo_attention(q, k, v, rel_height * 0, rel_width * 0, 2, 8, 0)
    heads = [t.unflatten(1, (2, 4)).flatten(3).mT for t in (q, k, v)]
    want = torch.nn.functional.scaled_dot_product_attention(*heads).mT.reshape(q.shape)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_half_precision_computes_in_float32(dtype, scale):
    args = tensors(5, 6, 2, 1, dtype)
    args[:3] = [t * scale for t in args[:3]]
    out = halo_attention(*args, 2, 2, 1)
    assert out.dtype == dtype
    assert out.isfinite().all()
    torch.testing.assert_close(out, halo_attention(*(t.float() for t in args), 2, 2, 1).to(dtype), rtol=0, atol=0)


def test_autocast_is_off_inside():
    args = tensors(5, 6, 2, 1)
    with torch.autocast("cpu", torch.bfloat16):
        got = halo_attention(*args, 2, 2, 1)
    assert torch.equal(got, halo_attention(*args, 2, 2, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": 0}, "needs block >= 1 and halo >= 0, in positions, got block=0, halo=1"),
        ({"halo": -1}, "got block=2, halo=-1"),
        ({"num_heads": 3}, "needs num_heads that divides the channels, got 3 for 8"),
        ({"q": torch.zeros(2, 8, 5)}, r"needs q, k and v of one shape \(B, I, H, W\).*got \(2, 8, 5\), \(2, 8, 5, 6\)"),
        ({"k": torch.zeros(2, 8, 5, 5)}, r"got \(2, 8, 5, 6\), \(2, 8, 5, 5\) and \(2, 8, 5, 6\)"),
        ({"rel_width": torch.zeros(5, 4)}, r"needs tables of shape \(7, 4\) for block=2, halo=1 and 2 heads.*\(5, 4\)"),
    ],
)
def test_errors_say_what_was_needed(change, message):
    names = ("q", "k", "v", "rel_height", "rel_width")
    args = dict(zip(names, tensors(5, 6, 2, 1), strict=True)) | {"num_heads": 2, "block": 2, "halo": 1}
    with pytest.raises(ValueError, match=message):
        halo_attention(**(args | change))
