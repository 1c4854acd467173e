"""Rows of rows, and what is known of layers before a model is built."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from ultralytics.nn import tasks

from tests.tiny import description
from yolomix.host.survey import survey
from yolomix.nn.gate import Chain
from yolomix.nn.registry import BLOCKS, register


class Measures(nn.Module):
    """Needs numbers to be built, which the meta device has not."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.scale = torch.ones(c).sum().item() / c

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


@pytest.fixture(autouse=True, scope="module")
def only_here() -> Iterator[None]:
    register(Measures)
    yield
    del BLOCKS["Measures"]


def chained(*inside: list) -> dict:
    """The tiny model with its layer 3 a chain, and readers of all kinds after it."""
    model = description()
    model["backbone"][3] = [-1, 1, "Chain", [*inside]]
    model["head"][2] = [[-2, 3, 6], 1, "Detect", ["nc"]]
    return model


CONV, BLOCK = [1, "Conv", [32, 3, 2]], [2, "MLLAttention", [4]]


def test_a_chain_is_one_layer_and_reads_as_its_first_row() -> None:
    layers, save = tasks.parse_model(chained(CONV, BLOCK), ch=3, verbose=False)
    plain, _ = tasks.parse_model(chained(CONV), ch=3, verbose=False)
    assert [(m.i, m.f) for m in layers] == [(i, m.f) for i, m in enumerate(plain)]
    assert save == [3, 5, 6]
    chain = layers[3]
    assert isinstance(chain, Chain)
    assert [type(m).__name__ for m in chain] == ["Conv", "Sequential"]
    assert chain.np == sum(p.numel() for p in chain.parameters()) > plain[3].np
    assert chain.type == "ultralytics.nn.modules.conv.Conv+yolomix.nn.mlla.MLLAttention"
    out = tasks.DetectionModel(chained(CONV, BLOCK), verbose=False).eval()(torch.rand(1, 3, 64, 64))
    assert out[0].isfinite().all()


@pytest.mark.parametrize(
    "row", [[-1, 2, "Chain", [CONV]], [-1, 1, "Chain", []], [-1, 1, "Chain", [[-1, *CONV]]], [-1, 1, "Chain", ["Conv"]]]
)
def test_a_chain_of_something_else_is_named(row: list) -> None:
    model = description()
    model["backbone"][3] = row
    with pytest.raises(
        ValueError, match=r"tiny.yaml, row 3 .*: a Chain is \[from, 1, Chain, \[\[repeats, module, args"
    ):
        tasks.parse_model(model, ch=3, verbose=False)


def test_a_survey_builds_nothing_and_knows_all() -> None:
    before = torch.get_rng_state()
    layers = survey(description())
    assert torch.equal(torch.get_rng_state(), before)
    assert [(x.channels, x.stride) for x in layers] == [
        *((8, 2), (16, 4), (16, 4), (16, 8), (16, 8), (16, 16), (16, 16)),
        (None, None),
    ]
    real, _ = tasks.parse_model(description(), ch=3, verbose=False)
    assert [x.parameters for x in layers] == [sum(p.numel() for p in m.parameters()) for m in real]
    assert [x.tensors for x in layers] == [len(m.state_dict()) for m in real]


def test_a_block_that_needs_numbers_is_surveyed_on_the_cpu() -> None:
    model = description()
    model["backbone"][2] = [-1, 1, "Measures", []]
    assert (survey(model)[2].channels, survey(model)[2].stride) == (16, 4)


def test_a_layer_that_cannot_take_what_it_reads_is_named() -> None:
    model = description()
    model["head"][1] = [[-1, 1], 1, "Concat", [1]]
    with pytest.raises(ValueError, match=r"layer 6 \(Concat\) cannot take what it reads: Sizes of tensors must match"):
        survey(model)
    assert [x.channels for x in survey(model, partial=True)][5:] == [16, None, None]
