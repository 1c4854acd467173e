"""Heads of one's own: what they are given, their task, loss, training, export and checkpoint; what is refused."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
import ultralytics
import yaml
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks

import yolomix
from tests.hooks.own_heads import OWN, PARENTS, CalmDetect
from tests.tiny import TINY, description
from yolomix.hooks import heads
from yolomix.hooks.layer_table import Line
from yolomix.hooks.rows import RowError
from yolomix.host import names
from yolomix.nn import registry
from yolomix.nn.registry import BLOCKS, find

OLDEST = ultralytics.__version__.startswith("8.3.")
TEXT = [512, True]  # width of a text, and whether there is a norm
ROWS: dict[str, list[Any]] = {  # what a row of each gives, before its width is scaled
    "Classify": ["nc"],
    "Depth": [64],
    "OBB": ["nc", 1],
    "OBB26": ["nc", 1],
    "Pose": ["nc", "kpt_shape"],
    "Pose26": ["nc", "kpt_shape"],
    "RTDETRDecoder": ["nc", 64, 8, 4, 4, 1, 64],
    "Segment": ["nc", 8, 64],
    "Segment26": ["nc", 8, 64],
    "WorldDetect": ["nc", *TEXT],
    "YOLOEDetect": ["nc", *TEXT],
    "YOLOESegment": ["nc", 8, 64, *TEXT],
    "YOLOESegment26": ["nc", 8, 64, *TEXT],
}
TASKS = {
    "Detect": "detect",
    "RTDETRDecoder": "detect",
    "Segment": "segment",
    "Pose": "pose",
    "OBB": "obb",
    "Classify": "classify",
}
every_head = pytest.mark.parametrize("parent", sorted(PARENTS))
tasks_of_heads = pytest.mark.parametrize(("parent", "task"), TASKS.items())


def described(head: str, args: list[Any], **changes: Any) -> dict[str, Any]:
    """The tiny model with two convs before a head; a classifier reads one of them."""
    source = 6 if args is ROWS["Classify"] else [6, 7]
    rows = [[-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [64, 3, 2]]]
    return description(head=[*rows, [source, 1, head, list(args)]], kpt_shape=[17, 3], **changes)


def pair(parent: str, **changes: Any) -> tuple[nn.Module, nn.Module]:
    """The layer of a head of Ultralytics, and of one's own, in the same model."""
    args = ROWS.get(parent, ["nc"])
    made = []
    for name in (parent, OWN[parent].__name__):
        torch.manual_seed(0)
        made.append(tasks.parse_model(described(name, args, **changes), ch=3, verbose=False)[0][-1])
    return made[0], made[1]


def written(folder: Path, parent: str) -> Path:
    """A model YAML that ends with one's own head."""
    model = described(OWN[parent].__name__, ROWS.get(parent, ["nc"]))
    file = folder / "any.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in model.items() if key not in ("yaml_file", "scale")}))
    return file


def batch(task: str) -> dict[str, Any]:
    """Two images with one object each, labelled for a task."""
    torch.manual_seed(0)
    labels: dict[str, Any] = {
        "img": torch.rand(2, 3, 128, 128),
        "cls": torch.tensor([[0.0], [1.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.4, 0.4, 0.3, 0.5]]),
        "batch_idx": torch.tensor([0.0, 1.0]),
        "resized_shape": [(128, 128)] * 2,
    }
    if task == "classify":
        labels["cls"] = torch.tensor([0, 1])
    if task == "segment":
        labels["masks"] = torch.randint(0, 2, (2, 32, 32)).float()
    if task == "pose":
        labels["keypoints"] = torch.rand(2, 17, 3)
    if task == "obb":
        labels["bboxes"] = torch.cat([labels["bboxes"], torch.zeros(2, 1)], dim=1)
    return labels


@every_head
@pytest.mark.parametrize("nc", [2, 5])
def test_a_head_is_given_what_its_parent_is_given(parent, nc):
    """Class count, widths after scaling, channels of its inputs; on this version of Ultralytics."""
    native, own = pair(parent, nc=nc)
    assert type(own) is OWN[parent]
    want = {key: value.shape for key, value in native.state_dict().items()}
    got = {key: value.shape for key, value in own.state_dict().items()}
    assert got == want | {"own": (1,)}
    assert (own.i, own.f, own.type) == (native.i, native.f, f"tests.hooks.own_heads.{OWN[parent].__name__}")
    assert own.np == native.np + 1
    if hasattr(native, "nc"):
        assert own.nc == native.nc == nc
    assert getattr(own, "legacy", None) == getattr(native, "legacy", None)


@every_head
def test_the_task_is_that_of_the_parent(parent):
    args = ROWS.get(parent, ["nc"])
    own, native = (tasks.guess_model_task(described(name, args)) for name in (OWN[parent].__name__, parent))
    assert own == (native or "detect")  # 8.3.0 knows no task of RT-DETR and of v10
    assert own in ("detect", "segment", "pose", "obb", "classify", "semantic", "depth")


@tasks_of_heads
def test_an_own_head_trains_with_the_loss_of_its_parent(parent, task, tmp_path):
    if OLDEST and parent == "RTDETRDecoder":
        pytest.skip("the loss of RT-DETR in 8.3.0 needs scipy, which is not installed for it here")
    model = yolomix.YOLO(written(tmp_path, parent))
    assert model.task == model.model.task == task
    assert type(model.model.model[-1]) is OWN[parent]
    net = model.model.train()
    net.args = _namespace(model.overrides)
    net.nc = 2  # as a trainer sets it
    loss, _ = net.loss(batch(task))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def _namespace(overrides: dict[str, Any]) -> Any:
    from ultralytics.cfg import get_cfg

    return get_cfg(overrides={"task": overrides["task"]})


def test_an_own_head_has_arguments_of_its_own_by_name():
    layers, _ = tasks.parse_model(described("CalmDetect", ["nc", {"scale": 0.5}]), ch=3, verbose=False)
    assert (layers[-1].scale, layers[-1].nc) == (0.5, 2)


def test_what_is_wrong_with_a_row_of_a_head_names_the_row():
    with pytest.raises(RowError, match=r"tiny.yaml, row 8 .*CalmDetect takes \[as Detect\], got \['?2'?, .*'wrong'"):
        tasks.parse_model(described("CalmDetect", ["nc", {"wrong": 1}]), ch=3, verbose=False)
    with pytest.raises(RowError, match=r"tiny.yaml, row 5 .*: Detect\(nc"):
        tasks.parse_model(described("CalmDetect", ["nc"]) | {"head": [[3, 1, "CalmDetect", ["nc"]]]}, ch=3)


def test_the_log_has_the_line_of_the_own_head(caplog):
    with caplog.at_level("INFO"):
        tasks.parse_model(described("CalmDetect", ["nc"]), ch=3, verbose=True)
    (line,) = [line for line in caplog.messages if "CalmDetect" in line]
    assert f"{Line.read(line).type} {Line.read(line).args}".startswith("tests.hooks.own_heads.CalmDetect [2, ")


@pytest.fixture(scope="module")
def calm(tmp_path_factory, settings) -> Path:
    """best.pt of a model with the head of the README, on a dataset of two classes."""
    folder = tmp_path_factory.mktemp("calm")
    file = folder / "yolo0-calm.yaml"
    file.write_text(TINY.replace("Detect", "CalmDetect").replace("nc: 2", "nc: 7"))
    model = YOLO(folder / "yolo0n-calm.yaml")
    assert model.model.model[-1].nc == 7
    model.train(**settings, epochs=1, project=str(folder), name="run")
    return Path(model.trainer.best)


def test_a_trained_own_head_has_the_classes_of_the_data_and_opens_in_stock_yolo(calm, python):
    model = YOLO(calm)
    assert (model.task, type(model.model.model[-1]), model.model.model[-1].nc) == ("detect", CalmDetect, 2)
    assert model.model.names == {0: "square", 1: "bar"}
    said = python(
        "import sys; from ultralytics import YOLO; import torch\n"
        "model = YOLO(sys.argv[1]); result = model.predict(torch.rand(1, 3, 64, 64), conf=0.0, verbose=False)\n"
        "print(model.task, type(model.model.model[-1]).__name__, len(result))",
        str(calm),
    )
    assert said.splitlines()[-1] == "detect CalmDetect 1"


@pytest.mark.skipif(OLDEST, reason="8.3.0 with torch >= 2.9 also needs onnxscript")
@pytest.mark.parametrize("parent", ["Detect", "Segment", "RTDETRDecoder"])
def test_an_own_head_exports(parent, tmp_path, monkeypatch):
    import onnxruntime

    monkeypatch.chdir(tmp_path)  # of a model without a checkpoint the file is put there
    model = YOLO(written(tmp_path, parent))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        want = model.model.eval()(x)[0]
    file = model.export(format="onnx", imgsz=64, verbose=False, device="cpu", simplify=False)
    got = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"images": x.numpy()})[0]
    want = want[0] if isinstance(want, tuple) else want
    assert got.shape == want.shape
    assert yolomix.YOLO(file).task == TASKS[parent]


def test_fusing_leaves_the_head_to_ultralytics(calm):
    model = YOLO(calm).model
    x = torch.rand(1, 3, 64, 64)
    want = model.eval()(x)[0]
    torch.testing.assert_close(model.fuse(verbose=False)(x)[0], want, rtol=1e-3, atol=1e-3)


def test_grafts_transfer_and_listings_know_heads(calm, tmp_path):
    from yolomix.cli import listings

    grafted = yolomix.graft(calm, "MLLABlock", at="head-inputs").apply(tmp_path / "more.pt")
    model = YOLO(grafted)
    assert (type(model.model.model[-1]), model.task) == (CalmDetect, "detect")
    assert grafted.report.complete
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model.model.eval()(x)[0], YOLO(calm).model.eval()(x)[0])
    row = next(row for row in listings.blocks().data if row["block"] == "CalmDetect")
    assert row["arguments"] == "[as Detect]"


def test_a_head_takes_the_weights_of_its_parent(tiny, tmp_path):
    file = tmp_path / "yolo0n-calm.yaml"
    file.write_text(TINY.replace("Detect", "CalmDetect"))
    source = YOLO(tiny)
    report = yolomix.transfer(source, YOLO(file))
    assert [name for name in report.left_at_init if ".calm." not in name] == []


@pytest.mark.parametrize("mode", ["after", "wrap", "replace"])
def test_a_head_cannot_be_grafted(tiny, mode):
    with pytest.raises(ValueError, match="CalmDetect is a head, which a model has as its last row"):
        yolomix.graft(tiny, "CalmDetect", at=3, mode=mode)


class Headless(nn.Module):
    """Looks like a head, derives from none."""

    def __init__(self, nc: int = 80, ch: tuple[int, ...] = ()) -> None:
        super().__init__()


def test_a_head_whose_parent_is_no_head_is_refused():
    with pytest.raises(TypeError, match=r"Headless\(nc, ch\) takes a class count like a head, .* Module is no head"):
        yolomix.register(Headless)
    assert "Headless" not in BLOCKS


@pytest.mark.skipif(OLDEST, reason="8.3.0 has no part of a head that a class could derive from by mistake")
def test_a_part_of_a_head_is_no_head():
    from ultralytics.nn.modules import head

    mine = type("Mine", (head.LRPCHead,), {"__module__": __name__})
    with pytest.raises(TypeError, match="Mine derives from LRPCHead, which is no head of a model YAML"):
        registry.register(mine)


def test_the_heads_of_ultralytics_are_none_of_ones_own():
    assert [name for name, cls in PARENTS.items() if find("CalmDetect").parent is cls] == ["Detect"]
    assert all(registry.heads.parent(cls) is None for cls in PARENTS.values())


def test_constructors_are_as_they_were_after_a_build():
    """Also after one that failed, and where a constructor is inherited."""
    before = {name: vars(cls).get("__init__") for name, cls in PARENTS.items()}
    for name in PARENTS:
        pair(name)
    with pytest.raises(RowError):
        tasks.parse_model(described("CalmDetect", ["nc", {"wrong": 1}]), ch=3, verbose=False)
    with heads.recorded([type("Inherits", (nn.Linear,), {})]) as given:
        pass
    assert {name: vars(cls).get("__init__") for name, cls in PARENTS.items()} == before
    assert len(given) == 0


def test_only_the_outermost_call_is_recorded_and_nothing_is_kept_alive():
    class Inner(nn.Linear):
        def __init__(self, width: int) -> None:
            super().__init__(width, width)

    with heads.recorded([Inner, nn.Linear]) as given:
        layer = Inner(3)
        assert given[layer] == ((3,), {})
        del layer
        gc.collect()
        assert len(given) == 0


def test_names_of_ultralytics_stay_taken():
    detect = type("Detect", (PARENTS["Detect"],), {"__module__": __name__})
    with pytest.raises(ValueError, match="'Detect' is a module of Ultralytics"):
        registry.register(detect)


def test_an_own_head_on_a_whole_backbone(tmp_path):
    """Strides are measured, classes are the row's, in a file whose name says nothing."""
    model = names.described("yolov8n.yaml")
    model["head"][-1][2] = "CalmDetect"
    file = tmp_path / "calm-n.yaml"
    file.write_text(yaml.safe_dump({"nc": 6, **{key: model[key] for key in ("scales", "backbone", "head")}}))
    made = YOLO(file)
    head = made.model.model[-1]
    assert (made.task, type(head), head.nc) == ("detect", CalmDetect, 6)
    assert made.model.stride.tolist() == head.stride.tolist() == [8, 16, 32]
