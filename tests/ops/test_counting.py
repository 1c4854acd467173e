"""Operations by formula: the same whichever backend would compute, forward and backward, and shapes as ever."""

from __future__ import annotations

import importlib
import logging
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import yolomix.nn as blocks
from yolomix.ops import counting, halo_attention, linear_attention, selective_scan, ss2d, use_backend
from yolomix.ops.selective_scan.counted import papers_operations

B, D, L, N = 2, 8, 35, 4
BLOCKS = {
    "VSSBlock": (blocks.VSSBlock, (16, 16)),
    "MambaLayer": (blocks.MambaLayer, (16,)),
    "ASSG": (blocks.ASSG, (16,)),
    "MLLABlock": (blocks.MLLABlock, (16,)),
    "HaloAttention": (blocks.HaloAttention, (16, 2, 1)),
}


def counted(call) -> tuple[int, int]:
    """Operations of a call, and of its backward pass."""
    with counting(), FlopCounterMode(display=False) as counter:
        out = call()
        forward = counter.get_total_flops()
        out.sum().backward()
    return forward, counter.get_total_flops() - forward


def leaf(*shape: int, **options) -> torch.Tensor:
    return torch.rand(*shape, **options).requires_grad_()


def ss2d_inputs(height: int = 5, width: int = 7, rank: int = 3) -> list[torch.Tensor]:
    x = leaf(B, D, height, width)
    return [x, leaf(4, rank + 2 * N, D), leaf(4, D, rank), leaf(4, D), leaf(4 * D, N), leaf(4 * D)]


@pytest.mark.parametrize("matrix", [(D, N), (B, N, L), (B, 2, N, L)], ids=["constant", "variable", "grouped"])
def test_a_scan_counts_its_recurrence(matrix):
    u, A, m = leaf(B, D, L), leaf(D, N), leaf(*matrix)
    call = lambda: selective_scan(u, u, A, m, m, D=leaf(D), z=leaf(B, D, L), delta_bias=leaf(D), delta_softplus=True)  # noqa: E731
    assert counted(call) == (6 * B * D * L * N, 19 * B * D * L * N)
    assert papers_operations(u, A) == 9 * B * D * L * N + B * D * L


def test_a_complex_state_is_four_real_ones():
    u, A, m = leaf(B, D, L), leaf(D, N, dtype=torch.complex64), leaf(D, N, dtype=torch.complex64)
    assert counted(lambda: selective_scan(u, u, A, m, m)) == (24 * B * D * L * N, 76 * B * D * L * N)


def test_ss2d_counts_its_projections_and_its_recurrence():
    inputs = ss2d_inputs()
    products = 2 * B * L * 4 * D * (3 + 2 * N) + 2 * B * L * 4 * D * 3
    assert counted(lambda: ss2d(*inputs)) == (products + 6 * B * 4 * D * L * N, 2 * products + 19 * B * 4 * D * L * N)


def test_attention_counts_its_products():
    q = [leaf(B, 8, 5, 7) for _ in range(3)]
    products = 2 * B * L * 8 * (4 + 4 + 1)  # keys with values, queries with their sum, the denominator; width 4
    assert counted(lambda: linear_attention(*q, num_heads=2))[0] == products
    tables = leaf(7, 4), leaf(7, 4)  # a window of 4 x 4
    made = 2 * B * 12 * 4 * 8 * (2 * 16 + 2 * (7 - 2))  # 12 blocks of 2 x 2: logits and values, both tables
    assert counted(lambda: halo_attention(*q, *tables, num_heads=2, block=2, halo=1))[0] == made


@pytest.mark.parametrize("backend", ["auto", "numba", "eager", "reference"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", BLOCKS)
def test_the_count_does_not_depend_on_the_backend_or_the_device(name, device, backend):
    cls, args = BLOCKS[name]
    want = counted(lambda: cls(*args)(leaf(1, 16, 6, 9)))
    with use_backend(backend):
        assert counted(lambda: cls(*args).to(device)(leaf(1, 16, 6, 9, device=device))) == want
    assert want[1] > want[0] > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_outputs_and_gradients_have_the_shapes_and_types_of_ever(dtype):
    u, A, m = leaf(B, D, L, dtype=dtype), leaf(D, N), leaf(B, N, L, dtype=dtype)
    A = A.detach().to(torch.float64 if dtype == torch.float64 else torch.float32).requires_grad_()

    def results():
        for t in (u, A, m):
            t.grad = None
        out, last = selective_scan(u, u, A, m, m, return_last_state=True)
        (out.float().sum() + last.float().sum()).backward()
        return [(t.shape, t.dtype) for t in (out, last, u.grad, A.grad, m.grad)]

    want = results()
    with counting():
        assert results() == want


def test_what_comes_out_is_zero_inside_the_block_only(caplog):
    inputs = ss2d_inputs()
    with torch.no_grad():
        inputs[-1].zero_()  # without the skip
        with counting(), caplog.at_level(logging.INFO, "yolomix"):
            assert ss2d(*inputs).count_nonzero() == 0
        assert not caplog.text  # no backend is said to run
        assert ss2d(*inputs).count_nonzero() > 0


def test_the_formulas_survive_an_import_anew():
    name = "yolomix.ops.selective_scan.counted"
    importlib.import_module(name)
    kept = sys.modules.pop(name)
    try:
        u, A, m = leaf(B, D, L), leaf(D, N), leaf(D, N)
        assert counted(lambda: selective_scan(u, u, A, m, m))[0] == 6 * B * D * L * N
    finally:
        sys.modules[name] = kept


def test_other_modules_count_as_ever():
    layer = nn.Conv2d(3, 5, 3)
    with FlopCounterMode(display=False) as plain:
        layer(torch.zeros(1, 3, 8, 8))
    with counting(), FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, 3, 8, 8))
    assert counter.get_total_flops() == plain.get_total_flops() > 0
