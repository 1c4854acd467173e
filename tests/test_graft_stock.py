"""A graft leaves the outputs of every model that Ultralytics ships as they were, bit for bit, with all its weights.

By default the YAMLs whose smallest scale builds in a second, and every block in one model per family and task.
``YOLOMIX_TEST_FULL=1`` adds the heavy YAMLs, and every block alone in every family and task, at two insertion points
and two sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import ultralytics
from torch import Tensor, nn
from ultralytics.nn import tasks

import yolomix
import yolomix.nn
from tests.full import cases, full
from yolomix import ModelEdit
from yolomix.hooks import load
from yolomix.nn.registry import BLOCKS, register

FOLDER = Path(ultralytics.__file__).parent / "cfg/models"
YAMLS = {file.name: file for file in sorted(FOLDER.glob("*/*.yaml"))}
# More than about 20 million parameters at the smallest scale.
HEAVY = {
    *("rtdetr-l", "rtdetr-resnet101", "rtdetr-resnet50", "rtdetr-x", "yolov10b", "yolov10l", "yolov10m", "yolov10x"),
    *("yolov3", "yolov3-spp", "yolov8-cls-resnet101", "yolov8-cls-resnet50"),
    *("yolov9c", "yolov9c-seg", "yolov9e", "yolov9e-seg", "yolov9m"),
}
CLASSES = {
    "detect": "DetectionModel",
    "segment": "SegmentationModel",
    "pose": "PoseModel",
    "obb": "OBBModel",
    "classify": "ClassificationModel",
    "semantic": "SemanticSegmentationModel",
    "depth": "DepthModel",
}
FAMILIES = ("yolov8n", "yolo11n", "yolo12n", "yolo26n")
TASKS = ("", "-seg", "-pose", "-obb", "-cls")
ARGUMENTS = {"HaloAttention": (2, 1)}
SHRINKING = ("SimpleStem", "VisionClueMerge")  # halve or quarter the feature map, which a graft has to refuse
HOLDERS = ("SameWidth", "ZeroGate")  # need a block of their own
READS_LISTS = ("OneMap",)  # of feature maps
EVERY = sorted({block.cls: block.name for block in BLOCKS.values() if block.is_ours}.values())
GRAFTED = [name for name in EVERY if name not in (*SHRINKING, *HOLDERS, *READS_LISTS)]


class Cheap(nn.Module):
    """One value per channel: what is tested is where it goes."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(c, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x


@pytest.fixture(autouse=True, scope="module")
def only_here() -> Iterator[None]:
    register(Cheap)  # here, because tests of this file may come to a process more than once
    yield
    del BLOCKS["Cheap"]


def described(name: str | Path) -> dict[str, Any]:
    """A model dictionary at its smallest scale, which downloads nothing."""
    model = tasks.yaml_model_load(name)
    if model.get("scales"):
        model["scale"] = next(iter(model["scales"]))
    for row in model["backbone"]:
        if row[2] == "TorchVision":
            row[3][2] = "None"  # would fetch weights
    return model


def built(model: dict[str, Any]) -> Any:
    """The model that Ultralytics makes of a dictionary, in eval, with lively norms."""
    head = model["head"][-1][2]
    kind = CLASSES.get(tasks.guess_model_task(model), "")
    kind = "RTDETRDetectionModel" if "RTDETR" in head else "WorldModel" if "World" in head else kind
    kind = ("YOLOESegModel" if "Seg" in head else "YOLOEModel") if "YOLOE" in head else kind
    torch.manual_seed(0)
    made = getattr(tasks, kind)(deepcopy(model), ch=3, verbose=False).eval()
    for m in made.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.uniform_(-0.1, 0.1)
    return made


def flat(y: Any) -> list[Tensor]:
    """All tensors of a model's output."""
    if isinstance(y, Tensor):
        return [y]
    inside = y.values() if isinstance(y, dict) else y if isinstance(y, list | tuple) else []
    return [t for z in inside for t in flat(z)]


def outputs(model: Any, *size: int) -> list[Tensor]:
    torch.manual_seed(1)
    with torch.inference_mode():
        return flat(model(torch.rand(1, 3, *size)))


def assert_same(stock: Any, graft: ModelEdit, *sizes: tuple[int, int]) -> Any:
    """The grafted model has all weights of the stock model and its outputs."""
    model = built(graft.graph.model)
    stock_tensors = len(stock.state_dict())
    model.load(stock, verbose=False)
    report = load.report_of(model)
    assert report is not None
    assert (len(report.copied), report.source_tensors, report.missing) == (stock_tensors, stock_tensors, [])
    if hasattr(stock, "txt_feats"):
        model.txt_feats = stock.txt_feats  # random in every new model, not a weight
    assert torch.equal(torch.as_tensor(model.stride), torch.as_tensor(stock.stride))
    for size in sizes:
        want, got = outputs(stock, *size), outputs(model.eval(), *size)
        assert len(want) == len(got) > 0
        assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True)), f"outputs differ at {size}"
    return model


@pytest.mark.parametrize("name", cases(YAMLS, always=[name for name in YAMLS if name[:-5] not in HEAVY]))
def test_every_stock_yaml(name: str) -> None:
    """New rows at backbone and head inputs, and a wrap of every layer that can be wrapped."""
    model = described(YAMLS[name])
    stock = built(model)
    graft = yolomix.graft(model, "Cheap", ["backbone", "head-inputs"])
    wrapped = [x.index for x in graft.base.layers[:-1] if x.channels is not None and not x.reads_text]
    graft = graft.wrap("Cheap", wrapped)
    made = assert_same(stock, graft, (64, 128))
    assert sum(k.endswith(".gate") for k in made.state_dict()) == sum(None is k for k in graft.graph.origin) + len(
        wrapped
    )


def pairs() -> list[str]:
    names = [f"{family}{task}" for family in FAMILIES for task in TASKS]
    return [n for n in names if n.replace("n", "", 1) + ".yaml" in YAMLS]


def with_every_block(name: str) -> ModelEdit:
    """All blocks, one after the other, at p5 and at what the head reads."""
    graft = yolomix.edit(f"{name}.yaml")
    for block in GRAFTED:
        graft = graft.insert(block, ["p5", "head-inputs"], args=ARGUMENTS.get(block, ()))
    return graft


ONCE = [name for name in pairs() if name in FAMILIES or name.startswith(FAMILIES[0])]
"""Every family, and every task."""


@pytest.mark.parametrize("name", cases(pairs(), always=ONCE))
def test_every_block_in_every_family_and_task(name: str) -> None:
    assert_same(built(described(f"{name}.yaml")), with_every_block(name), (32, 64))


def test_every_block_at_full_size_and_in_a_rectangle() -> None:
    assert_same(built(described("yolo11n.yaml")), with_every_block("yolo11n"), (640, 640), (608, 352))


@full
@pytest.mark.parametrize("point", ["p5", "head-inputs"])
@pytest.mark.parametrize("block", GRAFTED)
@pytest.mark.parametrize("name", pairs())
def test_every_block_alone(name: str, block: str, point: str) -> None:
    graft = yolomix.graft(f"{name}.yaml", block, point, args=ARGUMENTS.get(block, ()))
    assert_same(built(described(f"{name}.yaml")), graft, (640, 640), (608, 352))


@pytest.mark.parametrize("block", SHRINKING)
def test_blocks_that_change_the_size_are_refused(block: str) -> None:
    with pytest.raises(ValueError, match=rf"{block} cannot be put behind layer 10 \(C2PSA\) .* a graft keeps both"):
        yolomix.graft("yolo11n.yaml", block, "p5")


@pytest.mark.skipif(ultralytics.__version__.startswith("8.3."), reason="Ultralytics 8.3 ships fewer models")
def test_the_matrix_is_whole() -> None:
    """Nothing that is registered, and no family or task, is left out without a word."""
    assert {*GRAFTED, *SHRINKING, *HOLDERS, *READS_LISTS} == {*EVERY}
    assert len(pairs()) == len(FAMILIES) * len(TASKS)
    assert {f"{name}.yaml" for name in HEAVY} <= {*YAMLS}
    assert len(YAMLS) >= 66
