"""Blocks whose rule was said or read from common spellings: rows, widths, repeats, grafts, plans, checkpoints."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
import torch
import ultralytics
from torch import Tensor, nn
from ultralytics.nn import tasks
from ultralytics.nn.tasks import DetectionModel

import yolomix
from tests.brought import GATE, Write, write  # noqa: F401
from tests.tiny import TINY, description
from yolomix.hooks.rows import RowError
from yolomix.host import weights
from yolomix.nn import origins, trial
from yolomix.nn.registry import BLOCKS, find
from yolomix.planning import EditedModel


class Squeeze(nn.Module):
    def __init__(self, dim, kernel=3):
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.depthwise(x)


class Widen(nn.Module):
    def __init__(self, width_in, width_out, kernel=1):
        super().__init__()
        self.point = nn.Conv2d(width_in, width_out, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.point(x)


class Sharpen(nn.Module):
    def __init__(self, strength=1e-4):
        super().__init__()
        self.strength = strength

    def forward(self, x: Tensor) -> Tensor:
        d = (x - x.mean((2, 3), keepdim=True)).square()
        return x * (d / (4 * (d.mean((2, 3), keepdim=True) + self.strength)) + 0.5).sigmoid()


class Fold(nn.Module):
    """Gives four times the channels at half the size, and is told nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_unshuffle(x, 2)


class Stack(nn.Module):
    """As many channels as its inputs have together."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        return torch.cat(maps, 1)


class Mix(nn.Module):
    def __init__(self, ch, c2):
        super().__init__()
        self.ch, self.points = ch, nn.ModuleList(nn.Conv2d(c, c2, 1) for c in ch)

    def forward(self, maps: list[Tensor]) -> Tensor:
        size = maps[-1].shape[2:]
        return sum(nn.functional.interpolate(point(x), size=size) for point, x in zip(self.points, maps, strict=True))


class Into(nn.Module):
    """Told the channels of its first input and a width that is not scaled."""

    def __init__(self, first, out, n=1):
        super().__init__()
        self.point, self.n = nn.Conv2d(first, out, 1), n

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.point(maps[0])


RULES = {Squeeze: None, Widen: "c1 c2", Sharpen: "", Fold: "", Stack: "", Mix: None, Into: "ch[0]"}


@pytest.fixture(autouse=True)
def registered():
    """Register them for a test."""
    before = dict(BLOCKS)
    for cls, rule in RULES.items():
        yolomix.register(cls, rule=rule)
    yield
    BLOCKS.clear()
    BLOCKS.update(before)


def built(*rows: list, **changes) -> nn.Sequential:
    """The layers of a model that begins with two convolutions, 16 and 16 channels at scale n, and ends in another."""
    start = [[-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [32, 3, 1]]]
    head = [[-1, 1, "Conv", [32, 3, 2]], [[1, -1], 1, "Detect", ["nc"]]]
    return DetectionModel(description(backbone=[*start, *rows], head=head, **changes), verbose=False).model


def test_a_row_of_every_rule():
    layers = built(
        [-1, 1, "Squeeze", [5]],
        [-1, 1, "Widen", [256, 3]],
        [-1, 1, "Sharpen", [0.1]],
        [-1, 1, "Fold", []],
        [[0, 2], 1, "Mix", [64]],
        [[0, 2], 1, "Stack", []],
        [[2, 6], 1, "Into", [24]],
        scales={"n": [1.0, 0.5, 1024]},
    )
    assert (layers[2].depthwise.in_channels, layers[2].depthwise.kernel_size) == (16, (5, 5))
    assert (layers[3].point.in_channels, layers[3].point.out_channels, layers[3].point.kernel_size) == (16, 128, (3, 3))
    assert layers[4].strength == 0.1
    assert (layers[6].ch, layers[6].points[0].out_channels, layers[6].f) == ([16, 16], 32, [0, 2])
    assert type(layers[6].f) is list
    assert (layers[8].point.in_channels, layers[8].point.out_channels) == (16, 24)
    assert [layers[9].conv.in_channels, layers[9].i] == [24, 9]


def test_what_a_rule_leaves_open_is_measured():
    assert built([-1, 1, "Fold", []])[3].conv.in_channels == 64
    assert built([[0, 1, -1], 1, "Stack", []])[3].conv.in_channels == 48
    assert built([-1, 2, "Sharpen", []])[3].conv.in_channels == 16


def test_a_width_of_several_inputs_is_scaled_as_every_width():
    for scale, c2 in (("n", 32), ("s", 64)):
        layers = built([[0, 1], 1, "Mix", [512]], scale=scale)
        assert (layers[2].points[0].out_channels, layers[3].conv.in_channels) == (c2, c2)


def test_repeats_are_scaled_and_each_reads_the_one_before_it():
    layer = built([-1, 4, "Widen", [64]], scales={"n": [0.5, 0.5, 1024]})[2]
    assert [(m.point.in_channels, m.point.out_channels) for m in layer] == [(16, 32), (32, 32)]


def test_a_block_of_several_inputs_may_take_the_repeats_itself():
    yolomix.register(Into, rule="ch[0] c2 n")
    layers = built([[0, 1], 4, "Into", [64]], scales={"n": [0.5, 0.5, 1024]})
    assert (layers[2].n, layers[2].point.out_channels) == (2, 32)


def test_a_width_that_rows_have_and_the_class_does_not_take():
    yolomix.register(Squeeze, rule="c (c2)")
    layer = built([-1, 1, "Squeeze", [1024, 5]])[2]
    assert (layer.depthwise.in_channels, layer.depthwise.kernel_size) == (16, (5, 5))


class OnlyOnCpu(nn.Module):
    """Cannot be tried on the meta device, and draws a random number when it is built."""

    def __init__(self):
        super().__init__()
        self.start = torch.rand(1).item()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], 1) * self.start


def test_trying_a_block_leaves_the_random_state_alone():
    yolomix.register(OnlyOnCpu, rule="")
    state = torch.get_rng_state()
    assert trial.gives(find("OnlyOnCpu"), 8, [], {}) == 16
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([[0, 1], 1, "Mix", []], "Mix takes [c2], got []: the first argument is c2, an integer"),
        ([-1, 1, "Mix", [64]], "it reads a list of layers, from is -1"),
        ([[0, 1], 1, "Squeeze", []], "it reads one layer, from is [0, 1]"),
        ([[0, 1], 2, "Stack", []], "a block with several inputs cannot be repeated, repeats is 2"),
        ([-1, 1, "Widen", []], "Widen takes [c2, kernel=1], got []: the first argument is c2"),
        ([[0, 1], 1, "Into", []], "Into takes [out, n=1], got []: missing a required argument: 'out'"),
    ],
)
def test_a_wrong_row_says_which_and_what(row, words):
    with pytest.raises(RowError) as error:
        built(row, yaml_file="my.yaml")
    assert str(error.value).startswith("my.yaml, row 2 ")
    assert words in str(error.value)


def test_a_rule_that_needs_more_layers_than_the_row_reads():
    yolomix.register(Into, rule="ch[2]")
    with pytest.raises(RowError, match=r"its rule \(ch\[2\], \.\.\.\) needs more layers than the 2 that it reads"):
        built([[0, 1], 1, "Into", [8]])


def grafted(block: str, args: list, **more) -> EditedModel:
    return yolomix.graft(description(), block, at=3, args=args, **more)


@pytest.mark.parametrize(("block", "args"), [("Squeeze", [5]), ("Widen", [3]), ("Sharpen", [0.1])])
def test_grafts_and_plans_take_every_rule_of_one_input(block, args):
    plan = grafted(block, args).plan()
    assert [step.module for step in plan.steps if step.change == "new"] == [f"ZeroGate {block}"]
    plain = grafted(block, args, gate=False)
    row = [-1, 1, "SameWidth", [block, args]] if block == "Widen" else [-1, 1, block, args]
    assert plain.graph.rows[4] == row
    assert plain.plan().layers[4].channels == 16


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("Fold", "Fold cannot be put behind layer 3 (Conv) with its 16 channels: it makes 64 channels of 16"),
        ("Mix", "Mix reads several layers; a graft reads one"),
    ],
)
def test_a_graft_of_what_cannot_go_there(block, words):
    with pytest.raises(ValueError) as error:
        grafted(block, [])
    assert words in str(error.value)


def test_replacing_a_layer_by_a_block_without_channels():
    assert grafted("Sharpen", [], mode="replace").graph.rows[3] == [-1, 1, "Sharpen", []]


def test_a_checkpoint_of_them_opens_again(tmp_path):
    layers = [[-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Squeeze", []], [-1, 1, "Fold", []]]
    head = [[-1, 1, "Conv", [32, 3, 2]], [[1, -1], 1, "Detect", ["nc"]]]
    model = DetectionModel(description(backbone=layers, head=head), verbose=False).eval()
    model.task = "detect"
    again = weights.read(weights.write(model, tmp_path / "own.pt"))
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(model(x)[0], again(x)[0])


DOTTED = TINY.replace("HaloAttention, [2, 1, 8, 2]", "yx_own.Gate, [0.25]")


@pytest.fixture
def own(write: Write) -> Path:  # noqa: F811
    """A model YAML that names a class with its module, which lies beside it in the working folder."""
    write("yx_own.py", GATE)
    write("yolo0-own.yaml", DOTTED)
    return Path("yolo0n-own.yaml")


def test_a_row_names_a_class_with_its_module(own, caplog):
    caplog.set_level(logging.INFO)
    layer = yolomix.YOLO(own).model.model[2]
    assert (type(layer).__module__, layer.layers[0].out_channels) == ("yx_own", 4)
    assert "yx_own was imported from" in caplog.text


def test_a_dictionary_that_no_file_says_imports_nothing(own):
    rows = [[-1, 1, "yx_own.Gate", []]]
    words = r"yx_own.Gate is not known, .* import yx_own, or import=yx_own on the command line"
    with pytest.raises(RowError, match=words):
        DetectionModel(description(backbone=rows), verbose=False)


def test_a_graft_says_where_its_block_comes_from(own):
    yolomix.YOLO(own)
    edit = yolomix.edit("yolov8n+yx_own.Gate(0.25)@p5:wrap.yaml")
    assert edit.graph.rows[9][3][1] == [1, "ZeroGate", ["yx_own.Gate", [0.25]]]
    assert edit.suffix == "-gate"
    done = yolomix.graft(str(own), "yx_own.Gate", at=3).apply("again.yaml")
    assert "imports" not in done.yaml.read_text()
    assert type(yolomix.YOLO(done.yaml).model.model[4].block).__module__ == "yx_own"


def test_a_graft_of_a_bare_name_is_remembered_by_its_module(own, write: Write):  # noqa: F811
    write("yx_rules.py", "import yolomix\nfrom yx_own import Gate\nyolomix.register(Gate, rule='c')\n")
    origins.bring("yx_rules")
    done = yolomix.graft(description(), "Gate", at=3).apply("again.yaml")
    assert "imports: [yx_rules]" in done.yaml.read_text()
    del BLOCKS["Gate"], origins.BROUGHT["yx_rules"], sys.modules["yx_rules"]
    assert type(yolomix.YOLO(done.yaml).model.model[4].block).__module__ == "yx_own"


def test_a_module_that_fails_names_file_and_row(write: Write):  # noqa: F811
    write("yx_own.py", "1 / 0")
    write("yolo0n-own.yaml", DOTTED)
    words = r"yolo0n-own.yaml, row 2 \[-1, 1, yx_own.Gate, \[0.25\]\]: yx_own fails while it is imported: ZeroDivision"
    with pytest.raises(ValueError, match=words):
        yolomix.YOLO("yolo0n-own.yaml")


def test_a_model_builds_from_a_checkpoint_whose_classes_unpickling_imported(own):
    file = weights.write(yolomix.YOLO(own).model, "own.pt")
    for name in [name for name in BLOCKS if "yx_own" in name]:
        del BLOCKS[name]
    del sys.modules["yx_own"]
    model = weights.read(file)
    again = DetectionModel(model.yaml, verbose=False)
    assert type(again.model[2]).__module__ == "yx_own"
    assert find("yx_own.Gate").home == ""


class OwnC3k2(nn.Module):
    """Somebody's C3k2: Ultralytics forces ``c3k`` at the larger scales, and takes the head of YOLO11 with it."""

    def __init__(self, c1, c2, n=1, c3k=False, e=0.5, extra=None):
        super().__init__()
        self.said = (c1, c2, n, c3k, e, extra)
        self.conv = nn.Conv2d(c1, c2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@pytest.mark.parametrize(("scale", "c3k"), [("n", False), ("m", True)])
def test_somebodys_c3k2_is_given_what_ultralytics_gives_its_own(scale, c3k):
    yolomix.register(OwnC3k2)
    scales = {"scales": {scale: [0.5, 0.5, 1024]}, "scale": scale}
    layers = built([-1, 4, "OwnC3k2", [64, False, 0.25, "more"]], [-1, 2, "OwnC3k2", [64, {"extra": 1}]], **scales)
    assert layers[2].said == (16, 32, 2, c3k, 0.25, "more")
    assert layers[3].said == (32, 32, 1, c3k, 0.5, 1)
    stock = built([-1, 4, "C3k2", [64, False, 0.25]], **scales)
    plain = built([-1, 1, "Conv", [64]], **scales)
    counts = [sum(p.numel() for p in head.parameters()) for head in (layers[-1], stock[-1], plain[-1])]
    assert counts[0] == counts[1]
    assert counts[1] != counts[2] or ultralytics.__version__.startswith("8.3.0")


def test_a_row_at_the_end_may_be_any_block():
    d = description(head=[[-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Fold", []]])
    layers, _ = tasks.parse_model(d, ch=3, verbose=False)
    assert type(layers[-1]) is Fold


@pytest.mark.skipif(not hasattr(tasks, "SAFE_LOAD"), reason="ULTRALYTICS_SAFE_LOAD came with Ultralytics 8.4")
def test_under_safe_load_a_module_has_to_be_named_and_nothing_is_imported(own, monkeypatch):
    file = weights.write(yolomix.YOLO(own).model, "own.pt")
    for name in [name for name in BLOCKS if "yx_own" in name]:
        del BLOCKS[name]
    del sys.modules["yx_own"], origins.BROUGHT["yx_own"]
    monkeypatch.setattr(tasks, "SAFE_LOAD", True)
    with pytest.raises(
        TypeError, match=r"it refers to yx_own.Gate, which .* name it: import=yx_own on the command line"
    ):
        weights.read(file)
    assert "yx_own" not in sys.modules
    origins.bring("yx_own")
    assert type(weights.read(file).model[2]).__module__ == "yx_own"


def test_the_rows_of_a_checkpoint_import_nothing(own):
    model = yolomix.YOLO(own).model
    model.yaml["imports"] = ["yx_evil"]
    model.yaml["backbone"].append([-1, 1, "yx_evil.Gate", []])
    Path("yx_evil.py").write_text("raise SystemExit('it ran')")
    file = weights.write(model, "own.pt")
    with pytest.raises(RowError, match=r"yx_evil.Gate is not known"):
        DetectionModel(weights.read(file).yaml, verbose=False)
    with pytest.raises(ValueError, match=r"yx_evil.Gate is not known"):
        yolomix.edit(file)
    assert "yx_evil" not in sys.modules


class Pyramid(nn.Module):
    """A backbone that gives maps of strides 4, 8 and 16, told nothing."""

    def __init__(self, width=8, read=3):
        super().__init__()
        self.stem = nn.Conv2d(read, width, 4, 4)
        self.stages = nn.ModuleList(nn.Conv2d(width * 2**k, width * 2 ** (k + 1), 2, 2) for k in range(2))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


def pyramid(width: int = 8) -> nn.Module:
    """As timm and papers make backbones."""
    return Pyramid(width)


BACKBONE = """
nc: 2
backbone:
  - [-1, 1, NAME, [16]]
  - [-1, 1, Conv, [32, 3, 2]] # 5
head:
  - [[3, 4, 5], 1, Detect, [nc]]
"""


@pytest.mark.parametrize("name", ["Pyramid", "pyramid"])
def test_a_backbone_in_one_row_gives_the_layers_up_to_4(name, write: Write):  # noqa: F811
    yolomix.register({"Pyramid": Pyramid, "pyramid": pyramid}[name], rule="")
    write("yolo0n-whole.yaml", BACKBONE.replace("NAME", name))
    model = yolomix.YOLO("yolo0n-whole.yaml").model
    assert [type(layer).__name__ for layer in model.model] == ["Pyramid", *["OneMap"] * 4, "Conv", "Detect"]
    assert [layer.index for layer in model.model[1:5]] == [0, 0, 1, 2]
    assert model.stride.tolist() == [8, 16, 32]
    assert model.model[5].conv.in_channels == 64
    again = DetectionModel(model.yaml, verbose=False)  # the rows are said now
    assert len(again.model) == len(model.model)
    grafted = yolomix.graft("yolo0n-whole.yaml", "MLLABlock", at=4).apply("grafted.yaml")
    assert [row[2] for row in yolomix.YOLO(grafted.yaml).model.yaml["backbone"]].count("OneMap") == 4


def test_a_function_needs_its_rule_said():
    with pytest.raises(TypeError, match=r'which channels pyramid\(width\) takes .* register\(pyramid, rule="c"\)'):
        yolomix.register(pyramid)


def test_only_the_first_row_may_give_several_maps():
    yolomix.register(Pyramid, rule="")
    with pytest.raises(
        RowError, match=r"my.yaml, row 2 .*: it gives 3 feature maps, which only the first row of a model"
    ):
        built([0, 1, "Pyramid", [8, 16]], yaml_file="my.yaml")
