"""Insertion points: what their names mean, and which row makes a block fit there."""

from __future__ import annotations

import pytest

from tests.surgery.models import layers
from yolomix.surgery.insertion import known, levels, of_type, resolve

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
