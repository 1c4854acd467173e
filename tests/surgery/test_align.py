"""Which layers correspond: by what fits and in order, heads with heads, chains with what they were made around."""

from __future__ import annotations

from copy import deepcopy
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from yolomix.nn.gate import Chain
from yolomix.surgery.align import align, kind, plain, seated, shapes


def layer(*sizes: int) -> nn.Module:
    """A layer with one weight per size."""
    return nn.ModuleList([nn.Linear(s, 1, bias=False) for s in sizes])


def test_alignment_is_by_what_fits_and_in_order() -> None:
    source = [layer(1), layer(2), layer(2), nn.Flatten(), layer(9)]
    target = [layer(1), layer(7), layer(2), layer(2), layer(5), nn.Flatten(), layer(4)]
    assert align(source, target) == [0, None, 1, 2, None, 3, 4]
    assert align(target, source) == [0, 2, 3, 5, 6]
    assert align(source, [deepcopy(m) for m in source]) == [0, 1, 2, 3, 4]


def test_of_equal_layers_the_earlier_is_taken() -> None:
    assert align([layer(2), layer(9)], [layer(2), layer(2), layer(9)]) == [0, None, 1]


def test_the_heads_always_correspond() -> None:
    assert align([layer(3), layer(1)], [layer(1), layer(2), layer(8)]) == [0, None, 1]
    assert align([layer(3), layer(8)], [layer(8), layer(2), layer(5)]) == [0, None, 1]


def test_one_layer_of_the_same_type_is_worth_more_than_one_that_fits_whole() -> None:
    source = [nn.Linear(2, 2), nn.Conv2d(1, 1, 1)]
    target = [nn.Bilinear(1, 2, 2), nn.Linear(3, 2), nn.Conv2d(1, 1, 1)]
    assert align(source, target) == [None, 0, 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), st.lists(st.integers(1, 4), min_size=2, max_size=5))
def test_no_other_order_has_more_that_fits(source: list[int], target: list[int]) -> None:
    """Against every order that keeps heads together; all layers are of one type, so the fit alone decides."""
    models = [layer(k) for k in source], [layer(k) for k in target]
    order = align(*models)
    chosen = [(j, k) for j, k in enumerate(order) if k is not None]
    assert [k for _, k in chosen] == sorted({k for _, k in chosen})
    assert chosen[-1] == (len(target) - 1, len(source) - 1)
    body = range(len(target) - 1)
    pairs = max(
        sum(source[k] == target[j] for j, k in zip(js, ks, strict=True))
        for n in range(min(len(source), len(target)))
        for js in combinations(body, n)
        for ks in combinations(range(len(source) - 1), n)
        if n == min(len(source), len(target)) - 1  # of one type: as many layers as can be
    )
    fits = sum(len(shapes(models[0][k]) & shapes(models[1][j])) for j, k in chosen)
    assert fits == pairs + (source[-1] == target[-1])


def test_a_layer_without_tensors_is_known_by_its_type() -> None:
    assert shapes(nn.Upsample(scale_factor=2)) == set()
    assert align([nn.Upsample(), layer(2)], [nn.Flatten(), nn.Upsample(), layer(2)]) == [None, 0, 1]


def test_seats_look_inside_chains() -> None:
    inner = layer(1)
    chain = Chain(layer(1), layer(6))
    (seat,) = seated([inner], [chain], [0])
    assert [*seat.state_dict()] == ["0.0.weight"]
    (seat,) = seated([chain], [inner], [0])
    assert seat is chain[0]
    assert [plain(chain, k) for k in chain.state_dict()] == ["0.weight", "~1.0.weight"]
    assert kind(chain) is kind(inner) is nn.ModuleList


def test_seats_that_stay_are_the_layers_themselves_and_holes_are_empty() -> None:
    source = [layer(1), layer(2)]
    seats = seated(source, [layer(1), layer(5), layer(2)], [0, None, 1])
    assert [*seats][::2] == source
    assert type(seats[1]) is nn.Identity


@pytest.mark.parametrize("name", ["0.weight", "1.weight"])
def test_only_chains_have_plain_names(name: str) -> None:
    assert plain(nn.Sequential(nn.Linear(1, 1)), name) == name
