"""Rows of a YAML become blocks: channel rules, repeats, arguments, activation, and what a wrong row says."""

from __future__ import annotations

import copy
import dataclasses
import logging
import pickle
from pathlib import Path

import pytest
import torch
import ultralytics
import yaml
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import DetectionModel

import yolomix
from tests.hooks import blocks
from tests.tiny import description
from yolomix.hooks import reserved, rows
from yolomix.hooks.layer_table import Line
from yolomix.hooks.rows import RowError
from yolomix.host import original
from yolomix.nn import common
from yolomix.nn.registry import BLOCKS


def built(*rows: list, **changes) -> nn.Sequential:
    """The layers of a model whose first layers are two convolutions (16, 16 channels at scale n) and then ``rows``."""
    start = [[-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]]
    head = [[-1, 1, "Conv", [32, 3, 2]], [[1, -1], 1, "Detect", ["nc"]]]
    return DetectionModel(description(backbone=[*start, *rows], head=head, **changes), verbose=False).model


def test_a_block_that_keeps_its_channels_gets_them_and_its_arguments():
    layer = built([-1, 1, "Keeps", [3, "fancy"]])[2]
    assert (type(layer), layer.proj.in_features, layer.depth, layer.mode) == (blocks.Keeps, 16, 3, "fancy")


@pytest.mark.parametrize(("first", "warned"), [(256, True), (3, False)])
def test_a_width_where_none_is_wanted_is_warned_about(first, warned, caplog):
    built([-1, 1, "Keeps", [first]])
    assert (
        "Keeps has as many channels as the layer before it and takes no width; 256 is its depth" in caplog.text
    ) is warned


def test_a_block_that_changes_channels_is_scaled_in_width_and_repeated():
    layer = built([-1, 2, "Changes", [64, 3]], scales={"n": [1.0, 0.5, 1024]})[2]
    assert [(m.conv.conv.in_channels, m.conv.conv.out_channels) for m in layer] == [(16, 32), (32, 32)]
    assert layer[0].conv.conv.kernel_size == (3, 3)


def test_a_block_that_repeats_itself_gets_the_repeats_scaled_in_depth():
    layer = built([-1, 6, "Repeats", [64, 0.25]], scales={"n": [0.5, 0.5, 1024]})[2]
    assert (type(layer), layer.n, layer.e, layer.layers[0].out_channels) == (blocks.Repeats, 3, 0.25, 32)


def test_a_block_with_several_inputs_gets_the_channels_of_each():
    layer = built([-1, 1, "Conv", [64, 1]], [[1, -1], 1, "Joins", [2.0]], [[1, 2, 3], 1, "Joins", []])[3:5]
    assert [(m.ch, m.gain, m.f) for m in layer] == [([16, 32], 2.0, [1, -1]), ([16, 32, 32], 1.0, [1, 2, 3])]


def test_max_channels_and_layers_of_ultralytics_stay_its_own():
    layers = built([-1, 1, "Changes", [4096]], scales={"n": [1.0, 0.5, 64]})
    assert layers[2].conv.conv.out_channels == 32
    assert type(layers[0]) is Conv


def test_attributes_that_ultralytics_keeps_on_layers():
    layer = built([-2, 2, "Keeps", []])[2]
    assert (layer.i, layer.f, layer.type) == (2, -2, "tests.hooks.blocks.Keeps")
    assert layer.np == sum(p.numel() for p in layer.parameters()) > 0
    assert len(layer) == 2


def test_arguments_are_literals_names_and_nc():
    layer = built([-1, 1, "Keeps", ["2", {"mode": "by name"}]])[2]
    assert (layer.depth, layer.mode) == (2, "by name")
    assert built([-1, 1, "Keeps", ["nc"]], nc=5)[2].depth == 5
    assert built([-1, 1, "Keeps", ["nc"]])[2].depth == 2


def test_rows_as_older_yamls_have_them():
    assert built([-1, 1, "Changes", [64, "directions"]])[2].conv.conv.out_channels == 32
    assert type(built([-1, 1, "RepeatsAlias", [64]])[2]) is blocks.Repeats


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ([-1, 1, "HaloAttention", [2, 1]], "HaloAttention"),
        ([-1, 1, "MLLAttention", []], "MLLAttention"),
        ([-1, 2, "C2PSAMLLA", [32]], "C2PSAMLLA"),
        ([-1, 1, "VSSBlock", [128]], "VSSBlock"),
        ([-1, 3, "XSSBlock", [64]], "XSSBlock"),
    ],
)
def test_rows_from_blogs_build(row, name):
    assert type(built(row)[2]).__name__ == name


def test_activation_of_the_yaml_is_honoured_in_our_blocks_and_only_there():
    default = Conv.default_act, common.Conv.default_act
    layers = built([-1, 1, "Changes", [32]], [-1, 1, "C2PSAMLLA", [32]], activation="nn.ReLU()")
    assert [type(layers[i].get_submodule(m).act) for i, m in ((2, "conv"), (3, "cv1"))] == [nn.ReLU, nn.ReLU]
    assert (Conv.default_act, common.Conv.default_act) == default
    assert isinstance(built([-1, 1, "C2PSAMLLA", [32]])[2].cv1.act, nn.SiLU)


def test_activation_is_restored_after_a_row_that_fails():
    default = Conv.default_act, common.Conv.default_act
    with pytest.raises(RowError):
        built([-1, 1, "Keeps", [0]], activation="nn.ReLU()")
    assert (Conv.default_act, common.Conv.default_act) == default


def test_the_description_is_left_as_it_was():
    d = description()
    before = copy.deepcopy(d)
    tasks.parse_model(d, ch=3, verbose=False)
    assert d == before


def table(**changes) -> tuple[nn.Sequential, list[Line]]:
    """The layers of a model, and the table of layers in the log."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    tasks.LOGGER.addHandler(handler)
    try:
        model = DetectionModel(description(**changes), verbose=True).model
    finally:
        tasks.LOGGER.removeHandler(handler)
    return model, [line for line in map(Line.read, lines) if line]


def test_the_log_shows_our_rows_and_no_stand_ins():
    model, lines = table()
    assert [line.i for line in lines] == list(range(8))
    assert lines[2] == Line(2, "-1", 1, model[2].np, "yolomix.nn.halonet.HaloAttention", "[16, 2, 1, 8, 2]")
    assert lines[4] == Line(4, "-1", 2, model[4].np, "yolomix.nn.mlla.C2PSAMLLA", "[16, 16, 2]")


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ([-1, 1, "Keeps", [3, "fancy"]], (1, "Keeps", "[32, 3, 'fancy']")),
        ([-1, 1, "Keeps", [3, {"mode": "fancy"}]], (1, "Keeps", "[32, 3, {'mode': 'fancy'}]")),
        ([-1, 3, "Changes", [128, 3]], (2, "Changes", "[32, 64, 3]")),
        ([-1, 3, "Repeats", [128, 0.25]], (2, "Repeats", "[32, 64, 2, 0.25]")),
        ([[0, 1], 1, "Joins", [2.0]], (1, "Joins", "[[16, 32], 2.0]")),
        ([-1, 3, "C3k2(MLLABlock)", [128]], (2, "C3k2(MLLABlock)", "[32, 64, 2]")),
        (
            [-1, 1, "C3k2(MLLABlock)", [128, False, {"num_heads": 2}]],
            (1, "C3k2(MLLABlock)", "[32, 64, 1, False, {'num_heads': 2}]"),
        ),
        ([-1, 1, "Conv", [128, 1]], (1, "Conv", "[32, 64, 1]")),
    ],
)
def test_the_log_shows_what_was_built_not_what_the_row_says(row, shown):
    start = [[-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [64, 3, 1]]]
    scales = {"n": [0.67, 0.5, 1024]}
    model, lines = table(backbone=[*start, row], head=[[[1, 2], 1, "Detect", ["nc"]]], scales=scales)
    n, module, args = shown
    assert (lines[2].n, lines[2].type.rpartition(".")[2], lines[2].args) == (n, module, args)
    assert lines[2].np == model[2].np == sum(p.numel() for p in model[2].parameters())


def test_the_log_shows_a_row_that_reads_many_layers():
    """Its second column is so long that no space is left before it."""
    start = [[-1, 1, "Conv", [16, 3, 1]] for _ in range(9)]
    _, lines = table(backbone=start, head=[[[*range(9)], 1, "Joins", []], [[8, 9], 1, "Detect", ["nc"]]])
    assert (lines[9].f, lines[9].type) == (str([*range(9)]), "tests.hooks.blocks.Joins")


def test_the_log_has_a_chain_under_its_one_index():
    """Every row inside, and those behind it read what they read in the model YAML."""
    chain = [-1, 1, "Chain", [[1, "Conv", [32, 3, 2]], [2, "ZeroGate", ["MLLABlock", [4]]]]]
    backbone = [[-1, 1, "Conv", [16, 3, 2]], chain, [1, 1, "Conv", [32, 3, 2]]]
    model, lines = table(backbone=backbone, head=[[[1, 2], 1, "Detect", ["nc"]]])
    shown = [(line.i, line.f, line.n, line.type.rpartition(".")[2], line.args) for line in lines[1:4]]
    assert shown == [
        (1, "-1", 1, "Conv", "[8, 16, 3, 2]"),
        (1, "-1", 2, "ZeroGate", "[16, 'MLLABlock', [4]]"),
        (2, "1", 1, "Conv", "[16, 16, 3, 2]"),
    ]
    assert (lines[4].i, lines[4].f) == (3, "[1, 2]")
    assert lines[1].np + lines[2].np == model[1].np


def test_a_model_runs_pickles_copies_and_gives_every_parameter_a_gradient():
    model = DetectionModel(description(), verbose=False)
    copied = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    x = torch.rand(2, 3, 64, 96)
    assert torch.equal(model.eval()(x)[0], copied.eval()(x)[0])
    out = model.train()(x)
    sum(t.sum() for t in (out.values() if isinstance(out, dict) else out) if isinstance(t, torch.Tensor)).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None and ".m.0.attn" in n] == []


WRONG = {
    "unknown name": (
        [-1, 1, "HaloAtention", [2, 1]],
        "no block 'HaloAtention' in yolomix or Ultralytics; did you mean HaloAt",
    ),
    "function of Ultralytics": ([-1, 1, "torch_safe_load", ["a.pt"]], "no block 'torch_safe_load' in yolomix or"),
    "no layer of PyTorch": ([-1, 1, "nn.Conv9d", [8]], "nn.Conv9d is no layer; did you mean Conv"),
    "function of PyTorch": ([-1, 1, "nn.init", []], "nn.init is no layer"),
    "without end": ([-1, 10**9, "Conv", [8]], "it repeats its layer 1000000000 times, and 200 is the most"),
    "no Python": ([-1, 1, "Conv", [8, "1;"]], "Conv(c1, c2, k=1, s=1, p=None, g=1, d=1, act=True): SyntaxError"),
    "name of Ultralytics": ([-1, 1, "C3k3", [64]], "did you mean C3k2"),
    "too many": (
        [-1, 1, "Keeps", [1, 2, 3]],
        "Keeps takes [depth=1, mode='plain'], got [1, 2, 3]: too many positional",
    ),
    "wrong name": (
        [-1, 1, "Keeps", [{"depths": 1}]],
        "got [{'depths': 1}]: got an unexpected keyword argument 'depths'",
    ),
    "no c2": ([-1, 1, "Changes", []], "Changes takes [c2, k=1], got []: the first argument is c2, an integer"),
    "c2 a word": ([-1, 1, "Changes", ["wide"]], "got ['wide']: the first argument is c2, an integer"),
    "constructor": ([-1, 1, "Keeps", [0]], "Keeps takes [depth=1, mode='plain'], got [0]: depth starts at 1, got 0"),
    "layer after": ([7, 1, "Keeps", []], "from [7] is no layer before layer 2"),
    "layer before": ([-4, 1, "Keeps", []], "from [-4] is no layer before layer 2"),
    "two layers": ([[0, 1], 1, "Keeps", []], "it reads one layer, from is [0, 1]"),
    "one layer": ([-1, 1, "Joins", []], "it reads a list of layers, from is -1"),
    "repeated": ([[0, 1], 3, "Joins", []], "a block with several inputs cannot be repeated, repeats is 3"),
    "three items": ([-1, 1, "Keeps"], "a row is [from, repeats, name, [arguments]]"),
    "no list": ("Keeps", "a row is [from, repeats, name, [arguments]]"),
    "row of Ultralytics": ([-1, 1, "Conv", []], "Conv(c1, c2, k=1, s=1, p=None, g=1, d=1, act=True): IndexError"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_row_says_which_and_what(case):
    row, words = WRONG[case]
    with pytest.raises(RowError) as error:
        built(row, yaml_file="my.yaml")
    assert str(error.value).startswith("my.yaml, row 2 ")
    assert words in str(error.value)


def test_a_scale_that_the_yaml_lacks():
    with pytest.raises(RowError, match=r"tiny.yaml: no scale 'x'; its scales are n, s"):
        DetectionModel(description(scale="x"), verbose=False)


def test_a_file_that_is_no_model():
    with pytest.raises(RowError, match="needs 'backbone' and 'head', each a list of rows, and has"):
        tasks.parse_model(yaml.safe_load("{names: {0: a}, nc: 1}"), ch=3, verbose=False)


def test_a_users_block_may_not_take_a_name_of_ultralytics():
    class C2f(nn.Module):
        def __init__(self, c: int):
            super().__init__()

    with pytest.raises(ValueError, match=r"'C2f' is a module of Ultralytics .*register\(..., name=...\)"):
        yolomix.register(C2f)
    assert "C2f" not in BLOCKS


def test_a_module_of_ultralytics_stays_its_own_to_build():
    with pytest.raises(ValueError, match=r"'SPPF' is a module of Ultralytics"):
        yolomix.register(tasks.SPPF)


def test_a_block_that_somebody_put_into_ultralytics_may_be_registered_too(monkeypatch):
    monkeypatch.setattr(tasks, "Keeps", blocks.Keeps, raising=False)
    yolomix.register(blocks.Keeps)
    assert BLOCKS["Keeps"].cls is blocks.Keeps


def test_a_taken_name_that_was_registered_first_is_refused_when_the_packages_meet(monkeypatch):
    block = dataclasses.replace(BLOCKS["Keeps"], name="SPPF")
    monkeypatch.setitem(BLOCKS, "SPPF", block)
    monkeypatch.delattr(tasks, reserved.WATCHED)
    with pytest.raises(
        ValueError, match=r"'SPPF' is a module of Ultralytics .*register tests.hooks.blocks.Keeps under"
    ):
        reserved.watch_names(tasks)


def test_a_block_of_ours_keeps_a_name_that_ultralytics_takes_later(monkeypatch):
    monkeypatch.setattr(tasks, "MLLAttention", nn.Identity, raising=False)
    reserved.refuse_taken(tasks, BLOCKS["MLLAttention"])
    assert type(built([-1, 1, "MLLAttention", []])[2]).__module__ == "yolomix.nn.mlla"


def test_stock_models_build_the_same_layers_with_and_without_the_hook():
    config = tasks.yaml_model_load("yolo11n.yaml")
    torch.manual_seed(0)
    ours, save = tasks.parse_model(copy.deepcopy(config), ch=3, verbose=False)
    torch.manual_seed(0)
    native, native_save = original.native(tasks, "parse_model")(copy.deepcopy(config), ch=3, verbose=False)
    assert save == native_save
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), native.parameters(), strict=True))


def test_no_yaml_of_ultralytics_has_a_row_of_ours_or_a_wrong_one():
    files = sorted((Path(ultralytics.__file__).parent / "cfg/models").rglob("*.yaml"))
    assert len(files) > 40
    for file in files:
        assert rows.read(yaml.safe_load(file.read_text(encoding="utf-8"))) == {}, file
