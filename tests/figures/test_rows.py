"""What a position reads: rows times values are what the operator gives, in every kind of mixer."""

from __future__ import annotations

import pytest
import torch

from tests.figures.models import ROWS, image, subject
from yolomix.figures import mixers, rows
from yolomix.ops import selective_scan
from yolomix.ops.selective_scan.inputs import ScanInputs

NAMES = {
    "ss2d": ("ss2d", ["along rows", "along columns", "rows backwards", "columns backwards", rows.ALL]),
    "vim": ("selective_scan", ["forwards", "backwards", rows.ALL]),
    "assg": ("selective_scan", ["sorted by class"]),
    "halo": ("halo_attention", [rows.WEIGHTS]),
    "linear": ("linear_attention", [rows.WEIGHTS]),
}


def found(kind: str) -> mixers.Mixer:
    every = mixers.mixers(subject(kind), image().pixels)
    return next(mixer for mixer in every if mixer.operator == NAMES[kind][0])


@pytest.mark.parametrize("kind", ROWS)
def test_every_mixer_is_found_with_its_map_and_directions(kind):
    mixer = found(kind)
    assert mixer.size == (5, 7)
    assert [*rows.of_mixer(mixer, 17)] == NAMES[kind][1]


@pytest.mark.parametrize("cell", [0, 17, 34])
@pytest.mark.parametrize("kind", ["ss2d", "vim", "assg"])
def test_a_row_of_a_scan_gives_its_output(kind, cell):
    for path in found(kind).paths:
        scan = path.scan
        want = selective_scan(
            *(value.double() if isinstance(value, torch.Tensor) else value for value in scan[:9]), backend="reference"
        )
        values = torch.zeros_like(scan.u[0])
        values[:, path.order] = scan.u[0]
        time = int((path.order == cell).nonzero())
        got = (rows.of_path(path, cell) * values).sum(1)
        torch.testing.assert_close(got, want[0, :, time], rtol=1e-5, atol=1e-5)


def test_all_directions_give_what_the_operator_gives():
    small = subject("ss2d")
    mixer = next(one for one in mixers.mixers(small, image().pixels) if one.operator == "ss2d")
    inputs = mixer.inputs[0]
    row = rows.of_mixer(mixer, 17)[rows.ALL]
    from yolomix.ops import ss2d

    want = ss2d(*inputs, backend="reference")[0].flatten(1)[:, 17]
    torch.testing.assert_close((row * inputs.x[0].flatten(1)).sum(1), want.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["halo", "linear"])
def test_weights_of_attention_give_its_output(kind):
    mixer = found(kind)
    inputs = mixer.inputs[0]
    weights = rows.of_mixer(mixer, 17)[rows.WEIGHTS]  # (heads, L)
    values = torch.unflatten(inputs.v[0].double().flatten(1), 0, (inputs.num_heads, -1))  # (heads, d, L)
    got = (weights[:, None] * values).sum(-1).flatten()
    operator = rows.OPERATORS[mixer.operator]
    want = operator(*inputs, backend="reference")[0].flatten(1)[:, 17]
    torch.testing.assert_close(got, want.double(), rtol=1e-5, atol=1e-5)


def test_weights_of_windows_are_those_of_a_softmax_inside_the_window():
    every = mixers.mixers(subject("assg"), image().pixels)
    mixer = next(one for one in every if one.operator == "window_attention")
    weights = rows.of_mixer(mixer, 17)[rows.WEIGHTS].reshape(-1, *mixer.size)  # of (2, 3); windows of 4 start at 2
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(len(weights), dtype=torch.float64))
    outside = torch.ones(mixer.size, dtype=torch.bool)
    outside[2:6, 2:6] = False
    assert weights[:, outside].abs().max() == 0
    assert (weights >= 0).all()


def test_a_scan_without_values_for_every_step_has_no_row():
    u = torch.ones(1, 2, 3)
    with pytest.raises(ValueError, match=r"^a row is made of scans with a real A and with B and C of "):
        rows.of_scan(ScanInputs(u, u, -torch.ones(2, 4), torch.ones(2, 4), torch.ones(2, 4)), 1)


def test_routes_are_those_that_the_scan_takes():
    small = subject("assg")
    route = mixers.routes(small, image().pixels)[0]
    assert len(route.classes.unique()) > 1
    assert route.classes[route.order].diff().min() >= 0
    assert sorted(route.order.tolist()) == [*range(35)]
    path = found("assg").paths[0]
    assert torch.equal(path.order, route.order)
