"""The Triton kernels on a GPU. Without one every check here is skipped, and the summary counts them."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="GPU checks did not run: Triton has no wheel here")

from tests.ops import triton_cases
from tests.ops.test_triton_interpreted import TOLERANCE
from yolomix.ops.selective_scan import selective_scan
from yolomix.ops.ss2d import ss2d

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU check did not run: no GPU on this machine")

LARGE = {
    "scan": {"shape": (2, 96, 1000, 16, 1), "gate": True, "last": True},
    "map": {"shape": (2, 64, 31, 33, 16, 4)},
}
NAMES = [f"scan {name}" for name in triton_cases.SCANS] + [f"map {name}" for name in triton_cases.MAPS]


def parameters(batch=2, channels=40, height=13, width=9, states=16, rank=3, device="cuda"):
    return triton_cases.map_leaves({"shape": (batch, channels, height, width, states, rank)}, device)


def gradients(leaves):
    args = [x.detach().clone().requires_grad_() for x in leaves]
    out = ss2d(*args, backend="triton")
    return [out.detach(), *torch.autograd.grad(out.square().sum(), args)]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients(name):
    kind, _, which = name.partition(" ")
    row = (triton_cases.SCANS if kind == "scan" else triton_cases.MAPS)[which]
    errors = triton_cases.measure(name, "cuda")
    assert max(errors) <= TOLERANCE[row.get("dtype", "float32")], errors


@pytest.mark.parametrize("kind", LARGE)
def test_outputs_and_gradients_over_many_chunks(kind, monkeypatch):
    monkeypatch.setitem(triton_cases.SCANS if kind == "scan" else triton_cases.MAPS, "large", LARGE[kind])
    errors = triton_cases.measure(f"{kind} large", "cuda")
    assert max(errors) <= 1e-5, errors


def test_results_are_the_same_bits_every_time():
    leaves = parameters()
    for one, other in zip(gradients(leaves), gradients(leaves), strict=True):
        assert torch.equal(one, other)


def test_compiled_with_inductor_into_one_graph():
    assert max(triton_cases.compiled("cuda", "inductor")) <= 1e-3


def test_a_captured_graph_replays_on_new_values():
    leaves = parameters()
    with torch.no_grad():
        ss2d(*leaves, backend="triton")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = ss2d(*leaves, backend="triton")
        leaves[0].copy_(torch.randn_like(leaves[0]))
        graph.replay()
        torch.testing.assert_close(out, ss2d(*leaves, backend="triton"), rtol=0, atol=0)


def test_autocast_changes_nothing():
    leaves = parameters()
    want = ss2d(*leaves, backend="triton")
    with torch.autocast("cuda", torch.float16):
        assert torch.equal(ss2d(*leaves, backend="triton"), want)


def test_gradients_inside_autocast_are_the_same():
    assert triton_cases.inside_autocast("cuda") == [0.0] * 6


def test_a_captured_training_step_replays_on_new_values():
    leaves = [x.detach().clone().requires_grad_() for x in parameters()]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # on another stream, as PyTorch asks for before a capture
        torch.autograd.grad(ss2d(*leaves, backend="triton").square().sum(), leaves)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = torch.autograd.grad(ss2d(*leaves, backend="triton").square().sum(), leaves)
    with torch.no_grad():
        leaves[0].copy_(torch.randn_like(leaves[0]))
    graph.replay()
    for got, want in zip(found, gradients(leaves)[1:], strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="GPU check did not run: it needs two GPUs")
def test_a_second_device_is_used_while_the_first_is_current():
    want = ss2d(*parameters(), backend="triton")
    got = ss2d(*[x.to("cuda:1") for x in parameters()], backend="triton")
    assert got.device.index == 1
    torch.testing.assert_close(got.cpu(), want.cpu())


def test_offsets_beyond_32_bits():
    if torch.cuda.get_device_properties(0).total_memory < 64 << 30:
        pytest.skip("GPU check did not run: it needs 64 GB of memory")
    channels, length = 4096, 2**19 + 64
    u = torch.randn(length, channels, device="cuda", dtype=torch.bfloat16)
    B, A = torch.randn(1, 2, length, device="cuda"), -torch.rand(channels, 2, device="cuda") - 1
    found = []
    for first in (0, channels - 32):
        part = u[:, first:].detach().clone().requires_grad_()
        sequences = part.t()[None]
        out = selective_scan(sequences, sequences, A[first:], B, B, delta_softplus=True, backend="triton")
        (gradient,) = torch.autograd.grad(out.float().square().sum(), part)
        found.append((out[0, -32:, -1000:], gradient[-1000:, -32:]))
    for whole, alone in zip(*found, strict=True):
        torch.testing.assert_close(whole, alone, rtol=1e-2, atol=1e-2)
