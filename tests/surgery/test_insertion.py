"""Insertion points: what their names mean, and which row makes a block fit there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import yolomix.nn  # noqa: F401 (registers the blocks)
from tests.surgery.models import layers, model
from yolomix.nn.registry import find
from yolomix.surgery.insertion import known, levels, of_type, resolve, row_behind, row_instead, scaled

LAYERS = layers()


@pytest.mark.parametrize(
    ("at", "found"),
    [
        (4, [4]),
        ("4", [4]),
        ([7, 2, 7], [2, 7]),
        ("p2", [2]),
        ("P3", [4]),
        ("backbone", [2, 4]),
        ("neck", [7, 10]),
        ("head-inputs", [7, 10]),
        ("C3k2", [2, 4, 7, 10]),
        ("C3*", [2, 4, 7, 10]),
        ("nn.Upsample", [5]),
        ("*", list(range(11))),
        (["p3", "head-inputs", 0], [0, 4, 7, 10]),
    ],
)
def test_insertion_points(at, found: list[int]) -> None:
    assert resolve(at, LAYERS) == found


def test_levels_are_of_the_backbone() -> None:
    assert levels(LAYERS) == {1: 0, 2: 2, 3: 4}


@pytest.mark.parametrize(
    ("at", "text"),
    [
        ("p5", r"'p5'; did you mean p3, p2, p1\? Insertion points: layers 0 to 10, p1, p2, p3, backbone, neck"),
        ("C3k", r"no insertion point 'C3k'; did you mean C3k2\?"),
        ("head-input", r"did you mean head-inputs"),
        (11, r"layer 11 \(Detect\) is the head, which stays last; what it reads is 'head-inputs'"),
        ("Detect", r"layer 11 \(Detect\) is the head"),
        (12, r"no layer 12. Insertion points: layers 0 to 10"),
        (-1, r"no layer -1."),
        ([], r"an insertion point is needed, got \[\]"),
        ("Bottleneck*", r"no insertion point 'Bottleneck\*'"),
    ],
)
def test_no_such_insertion_point(at, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        resolve(at, LAYERS)


def test_a_layer_that_gives_no_feature_map_is_no_insertion_point() -> None:
    blind = [*LAYERS[:3], *(type(x)(**{**vars(x), "channels": None}) for x in LAYERS[3:4]), *LAYERS[4:]]
    with pytest.raises(ValueError, match=r"layer 3 \(Conv\) gives no single feature map, so nothing can be put there"):
        resolve(3, blind)
    assert 3 not in resolve("*", blind)


def test_a_model_without_a_neck_says_so() -> None:
    headless = [*LAYERS[:5], *(type(x)(**{**vars(x), "index": 5, "reads": (4,)}) for x in LAYERS[11:])]
    assert "neck" not in known(headless)
    with pytest.raises(ValueError, match="no insertion point 'neck'"):
        resolve("neck", headless)


@pytest.mark.parametrize(("within", "found"), [(None, [2, 4, 7, 10]), ("backbone", [2, 4]), ("neck", [7, 10])], ids=str)
def test_types_within_a_part(within, found: list[int]) -> None:
    assert of_type("C3k2", LAYERS, within) == found


def test_types_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"no layer 'C2f' in the neck; it has C3k2, Concat, Conv, nn.Upsample"):
        of_type("C2f", LAYERS, "neck")
    with pytest.raises(ValueError, match="a part of a model is 'backbone' or 'neck', got 'head'"):
        of_type("C2f", LAYERS, "head")


@pytest.mark.parametrize(
    ("name", "args", "n", "gate", "row"),
    [
        ("HaloAttention", [2, 1], 1, True, [-1, 1, "ZeroGate", ["HaloAttention", [2, 1]]]),
        ("MLLABlock", [], 3, True, [-1, 3, "ZeroGate", ["MLLABlock"]]),
        ("MLLABlock", [8], 1, False, [-1, 1, "MLLABlock", [8]]),
        ("C2PSAMLLA", [], 1, False, [-1, 1, "SameWidth", ["C2PSAMLLA"]]),
        ("C2PSAMLLA", [{"e": 0.25}], 2, True, [-1, 2, "ZeroGate", ["C2PSAMLLA", [{"e": 0.25}]]]),
    ],
)
def test_the_row_that_puts_a_block_behind_layers(name: str, args: list, n: int, gate: bool, row: list) -> None:
    assert row_behind(find(name), [LAYERS[2], LAYERS[4]], args, n, gate) == row


def test_a_block_is_tried_at_every_width_and_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    text = r"MLLABlock cannot be put behind layer 4 \(C3k2\) with its 128 channels: it takes .*, got \[96\]"
    narrow = [replace(LAYERS[2], channels=96), LAYERS[4]]
    with pytest.raises(ValueError, match=text):
        row_behind(find("MLLABlock"), narrow, [96], 1, True)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_block_that_changes_the_size_is_refused() -> None:
    text = r"SimpleStem cannot be put behind layer 4 .* a feature map of 1x1 of 4x4; a graft keeps both"
    with pytest.raises(ValueError, match=text):
        row_behind(find("SimpleStem"), [LAYERS[4]], [], 1, True)


@pytest.mark.parametrize(
    ("name", "index", "args", "row"),
    [
        ("XSSBlock", 4, [], [-1, 2, "XSSBlock", [512]]),
        ("XSSBlock", 10, [0.5], [-1, 2, "XSSBlock", [512, 0.5]]),
        ("MLLABlock", 3, [8], [-1, 1, "MLLABlock", [8]]),
    ],
)
def test_the_row_in_the_place_of_another(name: str, index: int, args: list, row: list) -> None:
    described = model()
    old = (described["backbone"] + described["head"])[index]
    assert row_instead(find(name), old, LAYERS[index], LAYERS[index - 1], args, described) == row


@pytest.mark.parametrize(
    ("name", "index", "before", "text"),
    [
        ("MLLABlock", 6, None, r"MLLABlock reads one layer, layer 6 \(Concat\) reads \[-1, 2\]"),
        ("MLLABlock", 0, None, r"layer 0 \(Conv\) makes 16 of the image, so it cannot go there"),
        ("MLLABlock", 4, LAYERS[3], r"layer 4 \(C3k2\) makes 128 of 64 channels"),
        ("XSSBlock", 5, LAYERS[4], r"no value in the row of layer 5 \(nn.Upsample\) \[None, 2, 'nearest'\] gives them"),
    ],
)
def test_no_row_in_the_place_of_another(name: str, index: int, before, text: str) -> None:
    described = model()
    old = (described["backbone"] + described["head"])[index]
    with pytest.raises(ValueError, match=text):
        row_instead(find(name), old, LAYERS[index], before, [], described)


@pytest.mark.parametrize(
    ("described", "channels"),
    [
        ({}, 256),
        ({"width_multiple": 0.5}, 128),
        ({"scales": {"n": [0.5, 0.25, 1024], "x": [1.0, 1.5, 128]}}, 64),
        ({"scales": {"n": [0.5, 0.25, 1024], "x": [1.0, 1.5, 128]}, "scale": "x"}, 192),
        ({"scales": {"n": [1.0, 0.3, 1024]}}, 80),
    ],
)
def test_channels_after_width_scaling(described: dict, channels: int) -> None:
    assert scaled(256, described) == channels
