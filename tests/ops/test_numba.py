"""The Numba kernels beyond parity: their mathematics, their bounds, their layouts, and PyTorch's view of them."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from yolomix.ops._numba import layout, pool, vecmath
from yolomix.ops._numba.jit import kernel
from yolomix.ops._numba.simd import LANES, load, store
from yolomix.ops.selective_scan import example as scan_example
from yolomix.ops.selective_scan import numba_cpu as scan_cpu
from yolomix.ops.selective_scan import selective_scan
from yolomix.ops.selective_scan.inputs import ScanInputs
from yolomix.ops.ss2d import example as ss2d_example
from yolomix.ops.ss2d import numba_cpu as ss2d_cpu
from yolomix.ops.ss2d import ss2d
from yolomix.ops.ss2d.inputs import SS2DInputs


def scan_inputs(D: int = 24, N: int = 6, L: int = 70, groups: int = 2, **changes: Tensor | None) -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes = {"u": (2, D, L), "delta": (2, D, L), "A": (D, N), "B": (2, groups, N, L), "C": (2, groups, N, L)}
    shapes |= {"D": (D,), "z": (2, D, L), "delta_bias": (D,)}
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    return tensors | {"A": -tensors["A"].exp()} | changes


def map_inputs(D: int = 24, H: int = 9, W: int = 8, N: int = 6, R: int = 3) -> list[Tensor]:
    torch.manual_seed(0)
    weights = [torch.randn(4, R + 2 * N, D) / D**0.5, torch.randn(4, D, R) / R**0.5, torch.randn(4, D) - 2]
    return [torch.randn(2, D, H, W), *weights, -torch.randn(4 * D, N).exp(), torch.randn(4 * D)]


def gradients(out: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    torch.manual_seed(1)
    return [out.detach(), *torch.autograd.grad((out * torch.randn(out.shape)).sum(), tensors)]


def run_scan(backend: str, tensors: dict[str, Tensor]) -> list[Tensor]:
    leaves = {name: x.detach().clone().requires_grad_() for name, x in tensors.items()}
    return gradients(selective_scan(**leaves, delta_softplus=True, backend=backend), [*leaves.values()])


def run_map(backend: str, tensors: list[Tensor]) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in tensors]
    return gradients(ss2d(*leaves, backend=backend), leaves)


@kernel
def apply_exp2(x, y):
    for i in range(0, x.size, LANES):
        store(y, i, vecmath.exp2(load(x, i)))


@kernel
def apply_softplus(x, y):
    for i in range(0, x.size, LANES):
        store(y, i, vecmath.softplus(load(x, i)))


@kernel
def apply_sigmoid(x, y):
    for i in range(0, x.size, LANES):
        store(y, i, vecmath.sigmoid(load(x, i)))


POINTS = np.concatenate([np.linspace(-120, 120, 1 << 14), 10.0 ** np.linspace(-30, 0, 1 << 10)]).astype(np.float32)


def applied(function, x: np.ndarray) -> np.ndarray:
    x = np.resize(x.astype(np.float32), -(-x.size // LANES) * LANES)
    y = np.empty_like(x)
    function(x, y)
    return y


@pytest.mark.parametrize(
    ("function", "right"),
    [
        (apply_exp2, np.exp2),
        (apply_softplus, lambda x: np.logaddexp(0, x)),
        (apply_sigmoid, lambda x: np.exp(-np.logaddexp(0, -x))),
    ],
    ids=["exp2", "softplus", "sigmoid"],
)
def test_functions_are_exact_to_a_few_units_in_the_last_place(function, right):
    x = POINTS if function is apply_exp2 else POINTS[np.abs(POINTS) < 80]
    want = right(np.resize(x, -(-x.size // LANES) * LANES).astype(np.float64))
    error = np.abs(applied(function, x) / want - 1)
    units = 1 if function is apply_exp2 else 1 + np.abs(np.resize(x, error.size)) / np.log(2)
    assert (error < 3e-7 * units).all(), "x / log(2) is rounded before its exponential is taken"


def test_decays_close_to_one_do_not_drift():
    """An error of 1e-7 that is always of one sign is an error of 1e-2 in a state that forgets 1e-5 per step."""
    x = -np.linspace(1e-6, 1e-3, 1 << 14, dtype=np.float32)
    error = applied(apply_exp2, x)[: x.size] / np.exp2(x.astype(np.float64)) - 1
    assert np.abs(error).max() < 6e-8
    assert np.abs(error.mean()) < 1e-9


def test_functions_at_the_ends_of_the_numbers():
    inf, nan = np.inf, np.nan
    far_below = np.array([-200.0, -1e4, -12345678.0, -1e12, -3e38])
    assert applied(apply_exp2, np.array([0.0, 200])).tolist()[:2] == [1, inf]
    assert applied(apply_exp2, far_below)[:5] == pytest.approx(0, abs=1.2e-38)
    x = np.array([inf, -inf, nan, 30.0, -200])
    assert applied(apply_softplus, x)[:5] == pytest.approx([inf, 0, nan, 30, 0], nan_ok=True, abs=1.2e-38)
    assert applied(apply_sigmoid, x)[:5] == pytest.approx([1, 0, nan, 1, 0], nan_ok=True, abs=1e-12)
    assert np.isnan(applied(apply_exp2, np.array([nan])))[0]


MARGIN = 64


def guarded(kernel, args, tasks):
    """Run the tasks with every array in the middle of a larger one; a number written beside it is an error.

    What lies beside is not a number, so that reading it spoils the results.
    """
    inside = []

    def moved(x):
        if isinstance(x, np.ndarray):
            room = np.full(x.size + 2 * MARGIN, np.nan, np.float32)
            room[MARGIN : MARGIN + x.size] = x
            inside.append((x, room))
            return room[MARGIN : MARGIN + x.size]
        return type(x)(*map(moved, x)) if isinstance(x, tuple) else x

    kernel(*map(moved, args), 0, tasks)
    for x, room in inside:
        assert np.isnan(room[:MARGIN]).all()
        assert np.isnan(room[MARGIN + x.size :]).all()
        x[...] = room[MARGIN : MARGIN + x.size]


@pytest.mark.parametrize(("D", "N", "L"), [(24, 6, 70), (16, 1, 1), (33, 5, 65), (8, 20, 15)])
def test_the_scan_touches_nothing_outside_its_arrays(D, N, L, monkeypatch):
    tensors = scan_inputs(D, N, L, groups=1)
    want = run_scan("numba", tensors)
    monkeypatch.setattr(pool, "run", guarded)
    for got, right in zip(run_scan("numba", tensors), want, strict=True):
        assert torch.equal(got, right)


@pytest.mark.parametrize(("D", "N", "H", "W", "R"), [(24, 6, 9, 8, 3), (16, 1, 1, 1, 1), (40, 9, 1, 70, 20)])
def test_the_map_scan_touches_nothing_outside_its_arrays(D, N, H, W, R, monkeypatch):
    tensors = map_inputs(D, H, W, N, R)
    want = run_map("numba", tensors)
    monkeypatch.setattr(pool, "run", guarded)
    for got, right in zip(run_map("numba", tensors), want, strict=True):
        assert torch.equal(got, right)


def test_the_guard_sees_what_is_written_outside():
    def careless(x, first, end):
        x.base[MARGIN - 1] = 0

    with pytest.raises(AssertionError):
        guarded(careless, (np.zeros(4, np.float32),), 1)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0)], ids=["steps", "channels", "neither"])
def test_any_memory_order_of_the_sequences(order):
    """Steps or channels side by side are read as they lie, anything else is copied; results and strides follow."""
    tensors = scan_inputs(D=32)
    want = run_scan("reference", tensors)
    for name in ("u", "delta", "z"):
        x = tensors[name].permute(*order).contiguous()
        tensors[name] = x.permute(*np.argsort(order).tolist())
        assert order == (0, 1, 2) or not tensors[name].is_contiguous()
    leaves = {name: x.requires_grad_() for name, x in tensors.items()}
    out = selective_scan(**leaves, delta_softplus=True, backend="numba")
    for got, right in zip(gradients(out, [*leaves.values()]), want, strict=True):
        torch.testing.assert_close(got, right.to(got), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["z", "D", "delta_bias"])
def test_expanded_and_sliced_inputs(name):
    tensors = scan_inputs(D=32)
    tensors[name] = tensors[name][:1].expand_as(tensors[name])
    tensors["u"] = torch.randn(2, 40, 80)[:, 3:35, 5:75]
    tensors["B"] = torch.randn(2, 70, 2, 6).permute(0, 2, 3, 1)
    got, want = (selective_scan(**tensors, backend=b, delta_softplus=True) for b in ("numba", "reference"))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [(2, 3), (6, 2), (1, 3)], ids=str)
def test_groups_of_b_and_c_may_differ(groups):
    changes = {name: torch.randn(2, G, 6, 70) for name, G in zip("BC", groups, strict=True)}
    tensors = scan_inputs(D=12, **changes)
    for got, right in zip(run_scan("numba", tensors), run_scan("reference", tensors), strict=True):
        torch.testing.assert_close(got, right.to(got), rtol=1e-4, atol=1e-4)


def test_a_vanishing_rate_of_minus_infinity_forgets():
    tensors = scan_inputs(D=16, groups=1)
    tensors["A"][3] = -torch.inf
    got, want = (selective_scan(**tensors, backend=b, delta_softplus=True) for b in ("numba", "reference"))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_slow_decay_does_not_drift():
    tensors = scan_inputs(D=16, N=4, L=6000, groups=1)
    tensors["A"] *= 1e-5
    got, want = (selective_scan(**tensors, backend=b, delta_softplus=True).double() for b in ("numba", "reference"))
    assert (got - want).norm() / want.norm() < 5e-6


def test_results_repeat_bit_by_bit():
    tensors, maps = scan_inputs(), map_inputs()
    for first, second in ((run_scan("numba", tensors), run_scan("numba", tensors)), (run_map("numba", maps),) * 2):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_float64_and_complex_are_refused_in_words():
    inputs = scan_inputs()
    scan = ScanInputs(**inputs, delta_softplus=True)
    assert scan_cpu.refusals(scan) == []
    doubles = ScanInputs(**{name: x.double() for name, x in inputs.items()})
    assert scan_cpu.refusals(doubles) == ["it computes in float32, which is less than torch.float64"]
    assert scan_cpu.refusals(scan._replace(A=torch.complex(scan.A, scan.A))) == [
        "it computes real states, and A is torch.complex64"
    ]
    x = torch.zeros(1, 4, 2, 2)
    assert ss2d_cpu.refusals(SS2DInputs(x, *[x] * 5)) == []
    assert ss2d_cpu.refusals(SS2DInputs(x.double(), *[x] * 5)) == [
        "it computes in float32, which is less than torch.float64"
    ]


def registered() -> dict[str, tuple[object, tuple[object, ...]]]:
    """Each operator with arguments as ``run`` gives them; the backward operators with those of autograd."""
    torch.manual_seed(0)
    D, N, L = 2 * LANES, 5, 20
    r = torch.randn
    scan_args = (r(1, D, L), r(1, D, L), -r(D, N).exp(), r(1, 2, N, L), r(1, 2, N, L), r(D), r(1, D, L), r(D))
    cells, *parameters = r(1, 3, 5, D), *map_inputs(D)[1:]
    needing = [tuple(x.clone().requires_grad_() for x in args) for args in (scan_args, (cells, *parameters))]
    *_, saved, ungated = scan_cpu.scan(*scan_args, True, True)
    _, states = ss2d_cpu.scan(cells, *parameters, True)
    return {
        "scan": (scan_cpu.scan, (*needing[0], True, True)),
        "scan_backward": (
            scan_cpu.scan_backward,
            (r(1, D, L), r(1, D, N), *scan_args, saved, ungated, True),
        ),
        "ss2d": (ss2d_cpu.scan, (*needing[1], True)),
        "ss2d_backward": (ss2d_cpu.scan_backward, (r(cells.shape), cells, *parameters, states)),
    }


@pytest.mark.parametrize("name", ["scan", "scan_backward", "ss2d", "ss2d_backward"])
def test_registered_operators_keep_pytorch_s_contract(name):
    operator, args = registered()[name]
    found = torch.library.opcheck(operator, args)
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("operator", [selective_scan, ss2d], ids=["scan", "ss2d"])
def test_one_compiled_graph_with_the_same_gradients(operator):
    torch._dynamo.reset()
    tensors = (scan_example if operator is selective_scan else ss2d_example).inputs("cpu")
    leaves = [x.requires_grad_() for x in tensors if isinstance(x, Tensor)]

    def model(*args):
        return operator(torch.tanh(args[0]), *args[1:]) * 2

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for got, want in zip(gradients(compiled(*leaves), leaves), gradients(model(*leaves), leaves), strict=True):
        assert torch.equal(got, want)


def test_a_second_derivative_is_refused():
    tensors = [x.requires_grad_() for x in map_inputs()]
    out = ss2d(*tensors, backend="numba").sum()
    with pytest.raises(NotImplementedError, match=r'numba ss2d has no second derivative.* take backend="reference"'):
        torch.autograd.grad(out, tensors[:1], create_graph=True)


def test_the_output_keeps_channels_last_memory():
    x, *parameters = map_inputs(D=32)
    out = ss2d(x, *parameters, backend="numba")
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_tiles_and_padding():
    assert [layout.tiles(n) for n in (1, 64, 65)] == [1, 1, 2]
    assert [layout.padded(n) for n in (1, LANES, LANES + 1)] == [LANES, LANES, 2 * LANES]
    matrix = torch.randn(2, 2 * LANES, 3)
    assert torch.equal(layout.unpack(layout.pack(matrix)), matrix)


OTHER_PROCESSOR = """
from yolomix.ops import selftest
from yolomix.ops._numba.simd import AVX512, LANES
assert not AVX512 and LANES == 8
assert (reason := selftest.refusal("yolomix.ops.selective_scan.numba_cpu", "cpu", False)) is None, reason
"""


@pytest.mark.skipif(sys.platform == "win32" or os.uname().machine != "x86_64", reason="it names x86 instructions")
def test_a_processor_without_avx512(tmp_path):
    names = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma", "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", OTHER_PROCESSOR], check=True, env=os.environ | names, timeout=300)
