"""The Numba kernels at the width that they are compiled for: mathematics, bounds, layouts, sizes, repeatability.

``test_numba_widths`` runs this file again at other widths. So it takes B and C that vary in time alone: kernels for
constant ones take as long to compile again.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.ops.numba_cases import (
    assert_near,
    gradients,
    map_inputs,
    right_map,
    right_scan,
    run_map,
    run_scan,
    scan_inputs,
)
from yolomix.ops._numba import pool, vecmath
from yolomix.ops._numba.jit import kernel
from yolomix.ops._numba.processor import LANES
from yolomix.ops._numba.simd import load, store
from yolomix.ops.selective_scan import selective_scan


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
    """Run the tasks with every array in the middle of a larger one of NaN; a value written outside is an error.

    A value read outside spoils the results.
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


SCANS = [(24, 6, 70), (16, 1, 1), (33, 5, 65), (8, 20, 15), (7, 4, 64), (40, 16, 130)]
MAPS = [(24, 6, 9, 8, 3), (16, 1, 1, 1, 1), (40, 9, 1, 70, 20), (7, 4, 8, 8, 2), (33, 16, 13, 5, 4)]


@pytest.mark.parametrize(("D", "N", "L"), SCANS)
def test_the_scan_equals_the_reference(D, N, L):
    tensors = scan_inputs(D, N, L, groups=1)
    assert_near(run_scan("numba", tensors), right_scan(tensors))


@pytest.mark.parametrize(("D", "N", "H", "W", "R"), MAPS)
def test_the_map_scan_equals_the_reference(D, N, H, W, R):
    tensors = map_inputs(D, H, W, N, R)
    assert_near(run_map("numba", tensors), right_map(tensors))


def test_the_comparison_sees_an_error_of_a_hundredth_of_a_percent():
    tensors = scan_inputs()
    want = right_scan(tensors)
    tensors["A"] = tensors["A"] * 1.0001
    with pytest.raises(AssertionError, match="errors of the largest value"):
        assert_near(run_scan("numba", tensors), want)


@pytest.mark.parametrize(("D", "N", "L"), SCANS)
def test_the_scan_touches_nothing_outside_its_arrays(D, N, L, monkeypatch):
    tensors = scan_inputs(D, N, L, groups=1)
    want = run_scan("numba", tensors)
    monkeypatch.setattr(pool, "run", guarded)
    for got, right in zip(run_scan("numba", tensors), want, strict=True):
        assert torch.equal(got, right)


@pytest.mark.parametrize(("D", "N", "H", "W", "R"), MAPS)
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
    """Contiguous time steps or channels are read as they lie, anything else is copied; results and strides follow."""
    tensors = scan_inputs(D=32)
    want = right_scan(tensors)
    for name in ("u", "delta", "z"):
        x = tensors[name].permute(*order).contiguous()
        tensors[name] = x.permute(*np.argsort(order).tolist())
        assert order == (0, 1, 2) or not tensors[name].is_contiguous()
    leaves = {name: x.requires_grad_() for name, x in tensors.items()}
    out = selective_scan(**leaves, delta_softplus=True, backend="numba")
    assert_near(gradients(out, [*leaves.values()]), want)


@pytest.mark.parametrize("name", ["z", "D", "delta_bias"])
def test_expanded_and_sliced_inputs(name):
    tensors = scan_inputs(D=32)
    tensors[name] = tensors[name][:1].expand_as(tensors[name])
    tensors["u"] = torch.randn(2, 40, 80)[:, 3:35, 5:75]
    tensors["B"] = torch.randn(2, 70, 2, 6).permute(0, 2, 3, 1)
    assert_near([selective_scan(**tensors, backend="numba", delta_softplus=True)], right_scan(tensors)[:1])


@pytest.mark.parametrize("groups", [(2, 3), (6, 2), (1, 3)], ids=str)
def test_groups_of_b_and_c_may_differ(groups):
    changes = {name: torch.randn(2, G, 6, 70) for name, G in zip("BC", groups, strict=True)}
    tensors = scan_inputs(D=12, **changes)
    assert_near(run_scan("numba", tensors), right_scan(tensors))


def test_a_vanishing_rate_of_minus_infinity_forgets():
    tensors = scan_inputs(D=16, groups=1)
    tensors["A"][3] = -torch.inf
    assert_near([selective_scan(**tensors, backend="numba", delta_softplus=True)], right_scan(tensors)[:1])


def test_slow_decay_does_not_drift():
    tensors = scan_inputs(D=16, N=4, L=6000, groups=1)
    tensors["A"] *= 1e-5
    got, want = (selective_scan(**tensors, backend=b, delta_softplus=True).double() for b in ("numba", "reference"))
    assert (got - want).norm() / want.norm() < 5e-6


def test_results_repeat_bit_by_bit():
    tensors, maps = scan_inputs(), map_inputs()
    for first, second in ((run_scan("numba", tensors), run_scan("numba", tensors)), (run_map("numba", maps),) * 2):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
