"""What goes wrong in the first forward pass, and in the top level of the file, names file, row, block and values."""

from __future__ import annotations

import pytest
import torch
import yaml
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel

import yolomix
from tests.tiny import TINY, description
from yolomix.hooks import top
from yolomix.hooks.rows import RowError
from yolomix.nn.registry import BLOCKS


class Doubles(nn.Module):
    """Says that it keeps the channels, and doubles them."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, 2 * c, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Narrow(nn.Module):
    """Gives one channel less than it is told."""

    def __init__(self, c1, c2):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2 - 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class OffByOne(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c + 1, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class TwoSizes(nn.Module):
    """Cannot be tried on maps of one size; gives the channels of both."""

    def __init__(self, ch):
        super().__init__()

    def forward(self, maps: list[Tensor]) -> Tensor:
        fine, coarse = maps
        if fine.shape == coarse.shape:
            raise ValueError("needs maps of two sizes")
        return torch.cat([fine.reshape(coarse.shape[0], -1, *coarse.shape[2:]), coarse], 1)[:, : 5 * coarse.shape[1]]


class Breaks(nn.Module):
    def __init__(self, c, kind="ZeroDivisionError"):
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        raise {"ZeroDivisionError": ZeroDivisionError, "OSError": OSError, "StopIteration": StopIteration}[self.kind](
            "no way\nwith more"
        )


@pytest.fixture(autouse=True)
def registered():
    """Register them for a test."""
    before = dict(BLOCKS)
    for cls in (Doubles, Narrow, OffByOne, TwoSizes, Breaks):
        yolomix.register(cls)
    yield
    BLOCKS.clear()
    BLOCKS.update(before)


def failed(*rows: list, **changes) -> str:
    """What is said about a model with these rows after two convolutions of 16 channels."""
    start = [[-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]]
    head = [[-1, 1, "Conv", [32, 3, 2]], [[1, -1], 1, "Detect", ["nc"]]]
    described = {"backbone": [*start, *rows], "head": head, "yaml_file": "my.yaml", **changes}
    with pytest.raises(RowError) as error:
        DetectionModel(description(**described), verbose=False)
    return str(error.value)


PASSES = {
    "doubles": (
        [-1, 1, "Doubles", []],
        "my.yaml, row 2 [-1, 1, Doubles, []]: Doubles says it keeps 16 channels and gave 32",
    ),
    "repeated": (
        [-1, 2, "OffByOne", []],
        "row 2 [-1, 2, OffByOne, []]: OffByOne was given a map (1, 16, 64, 64): Runtim",
    ),
    "narrow": ([-1, 1, "Narrow", [64]], "Narrow says it gives the 32 channels that it is told and gave 31"),
    "off": ([-1, 1, "OffByOne", []], "expected input[1, 16, 64, 64] to have 17 channels, but got 16 channels instead"),
    "breaks": ([-1, 1, "Breaks", []], "Breaks was given a map (1, 16, 64, 64): ZeroDivisionError: no way"),
    "oserror": ([-1, 1, "Breaks", ["OSError"]], "Breaks was given a map (1, 16, 64, 64): OSError: no way"),
    "sizes": (
        [[0, 1], 1, "TwoSizes", []],
        "TwoSizes cannot be tried alone, so it was taken to keep the 16 channels of its last input and gave 80",
    ),
    "layer of Ultralytics": (
        [[0, 1], 1, "Concat", [1]],
        "row 2 [[0, 1], 1, Concat, [1]]: Concat was given [a map (1, 16, 128, 128), a map (1, 16, 64, 64)]: Run",
    ),
}


@pytest.mark.parametrize("case", PASSES)
def test_the_first_pass_names_the_row(case):
    row, words = PASSES[case]
    text = failed(row)
    assert words in text
    assert text.startswith("my.yaml, row 2 ")
    assert "with more" not in text


def test_a_layer_of_ultralytics_that_gave_others_than_was_taken_is_named_by_its_reader():
    text = failed([-1, 1, "nn.PixelShuffle", [2]])
    assert text.startswith(
        "my.yaml, row 3 [-1, 1, Conv, [32, 3, 2]]: Conv was given a map (1, 4, 128, 128): RuntimeError"
    )
    assert text.endswith("It reads layer 2 (PixelShuffle), which was taken to give 16 channels and gave 4")


def test_a_row_inside_a_chain_is_named_by_the_row_of_the_chain():
    chain = [-1, 1, "Chain", [[1, "Conv", [32, 3, 1]], [1, "Doubles", []]]]
    text = failed([-1, 1, "Chain", [[1, "Conv", [32, 3, 1]], [1, "Conv", [32, 3, 1]]]], chain)
    assert text.startswith("my.yaml, row 3 [-1, 1, Chain, [[1, 'Conv', [32, 3, 1]], [1, 'Doubles', []]]]: Doubles says")


def test_nothing_watches_a_model_that_is_complete():
    model = DetectionModel(description(), verbose=False)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_that_failed_is_watched_no_more(monkeypatch):
    seen = []
    monkeypatch.setattr(Doubles, "__init__", lambda self, c: (nn.Module.__init__(self), seen.append(self))[0])
    monkeypatch.setattr(Doubles, "forward", lambda self, x: x.unsqueeze(0).missing)
    assert "AttributeError: 'Tensor' object has no attribute 'missing'" in failed([-1, 1, "Doubles", []])
    assert [dict(module._forward_hooks) for module in seen] == [{}]


TOP = {
    "two numbers": (
        {"scales": {"n": [0.33, 0.25]}},
        "scales: n is [0.33, 0.25]; a scale is [depth, width, max_channels]",
    ),
    "no list": ({"scales": {"n": 0.5}}, "scales: n is 0.5; a scale is [depth, width, max_channels], as in n: ["),
    "words": ({"scales": {"n": ["a", 1, 2]}}, "scales: n is ['a', 1, 2]; a scale is"),
    "no mapping": ({"scales": [1, 2, 3]}, "scales is [1, 2, 3]; it maps letters to scales, and a scale is"),
    "no such scale": ({"scale": "x"}, "no scale 'x'; its scales are n, s"),
    "nc": ({"nc": "eighty"}, "nc is 'eighty'; it has to be the number of classes, as in nc: 80"),
    "no classes": ({"nc": 0}, "nc is 0; it has to be the number of classes"),
    "depth": ({"depth_multiple": "deep"}, "depth_multiple is 'deep'; it has to be a number, as in depth_multiple: 0.5"),
    "activation": ({"activation": "nn.Relu()"}, "activation is 'nn.Relu()'; it has to construct a layer, as in"),
    "activation that runs": ({"activation": "exit()"}, "activation is 'exit()'; it has to construct a layer, as in"),
    "activation a list": (
        {"activation": [1]},
        "activation is [1]; it has to construct a layer, as in activation: torch.nn.ReLU()",
    ),
    "no head": ({"head": []}, "is no model: it needs 'backbone' and 'head', each a list of rows, and has"),
    "rows": ({"backbone": {"a": 1}}, "is no model: it needs 'backbone' and 'head', each a list of rows, and has"),
    "no rows": ({"backbone": None}, "is no model: it needs 'backbone' and 'head', each a list of rows, and has"),
}


@pytest.mark.parametrize("case", TOP)
def test_the_top_level_of_a_file_is_told_with_its_key(case):
    changes, words = TOP[case]
    text = failed(**changes)
    assert text.startswith("my.yaml")
    assert words in text


def test_a_scale_with_a_fourth_number_is_warned_about_once(caplog, monkeypatch):
    monkeypatch.setattr(top, "_warned", set())
    scales = {"n": [1.0, 0.5, 64, 0], "s": [1.0]}  # of the other scale nobody asked
    counts = [
        sum(p.numel() for p in DetectionModel(description(**changes), verbose=False).parameters())
        for changes in ({"scales": scales}, {"scales": scales}, {})
    ]
    assert len(set(counts)) == 1
    assert caplog.text.count("tiny.yaml: scales: n has 4 numbers; a scale is [depth, width, max_channels], as in") == 1


def test_a_graft_into_a_scale_with_a_fourth_number_fits():
    described = description(scales={"n": [1.0, 0.5, 64, 0]})
    assert yolomix.graft(described, "C2PSAMLLA", at=4, mode="replace").graph.rows[4][3] == [32]
    assert yolomix.graft(described, "MLLABlock", at=4).plan().layers[5].channels == 16


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1, 2", "while parsing a flow sequence"),
        ("services:\n  web: {image: x}", "yolo0n-odd.yaml is no model YAML: it needs 'backbone' and 'head'"),
        (
            TINY.replace("  - [-1, 1, HaloAttention, [2, 1, 8, 2]]", "  - odd"),
            "yolo0n-odd.yaml, row 2 'odd': a row is [fr",
        ),
    ],
)
def test_a_file_that_is_none_says_its_name(text, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yolo0n-odd.yaml").write_text(text)
    with pytest.raises(ValueError) as error:
        yolomix.YOLO("yolo0n-odd.yaml")
    assert words in str(error.value)
    assert "yolo0n-odd.yaml" in str(error.value)


@pytest.mark.parametrize("scale", [[float("inf"), 1.0, 64], [1.0, float("nan"), 64]])
def test_a_scale_that_is_no_number_to_count_with_is_told_with_the_row(scale, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {"nc": 2, "scales": {"n": scale}, "backbone": [[-1, 2, "C2f", [16]]], "head": [[[0], 1, "Detect", ["nc"]]]}
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(rows))
    with pytest.raises(ValueError, match=r"odd\.yaml"):
        yolomix.YOLO("odd.yaml")
