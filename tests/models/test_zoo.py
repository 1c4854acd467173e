"""Every packaged YAML builds at every scale with the facts that are stated of it, and people's own rows build."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml
from torch.utils._pytree import tree_leaves

import yolomix
from yolomix import data, models
from yolomix.host import names
from yolomix.host.names import Kind
from yolomix.ops import use_backend

ZOO = {path.stem: path.read_text(encoding="utf-8") for path in sorted(models.FOLDER.glob("*.yaml"))}
FACTS = models.zoo()
CASES = [(name, scale, number) for name, model in FACTS.items() for scale, number in model.parameters.items()]

# The published parameter counts, at 80 classes (scales n s m l x) and, scale n, at 25.
PUBLISHED = {
    "yolo11-c2psa-mlla": [2_607_056, 9_391_936, 20_047_872, 25_238_528, 56_667_424],
    "yolo11-mlla": [2_801_488, 10_157_632, 21_309_696, 26_567_168, 59_643_424],
    "yolo11-assg": [2_869_225, 10_366_446, 21_022_382, 25_815_214, 57_916_580],
    "yolo11-halo": [3_149_520, 10_508_736, 21_164_672, 26_422_144, 58_540_704],
}
AT_25_CLASSES = {"yolo11-c2psa-mlla": 2_577_691, "yolo11-mlla": 2_772_123}


MODELS = {
    "detect": "DetectionModel",
    "segment": "SegmentationModel",
    "pose": "PoseModel",
    "obb": "OBBModel",
    "classify": "ClassificationModel",
}


def build(text: str, scale: str, **changes: Any) -> torch.nn.Module:
    """The model of a YAML text at one scale."""
    from ultralytics.nn import tasks

    config = yaml.safe_load(text) | {"scale": scale} | changes
    return getattr(tasks, MODELS[tasks.guess_model_task(config)])(config, verbose=False)


def layers(text: str, scale: str, **changes: Any) -> torch.nn.Module:
    """The layers of a YAML text at one scale, without memory for their weights: large scales build in no time."""
    from ultralytics.nn import tasks

    with torch.device("meta"):
        return tasks.parse_model(yaml.safe_load(text) | {"scale": scale} | changes, ch=3, verbose=False)[0]


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_facts_are_stated_of_every_yaml_and_every_scale_in_order():
    assert {*FACTS} == {*ZOO}
    for name, text in ZOO.items():
        assert [*FACTS[name].parameters] == [*yaml.safe_load(text)["scales"]], name


@pytest.mark.parametrize("name", [name for name, model in FACTS.items() if model.graft])
def test_the_graft_that_is_stated_gives_the_model(name):
    model = FACTS[name]
    assert count(yolomix.YOLO(model.grafted("n")).model) == model.parameters["n"]
    assert yolomix.YOLO(model.grafted("n", "-seg")).task == "segment"


@pytest.mark.parametrize("name", ZOO)
def test_the_task_is_the_one_of_the_head(name):
    from ultralytics.nn import tasks

    assert FACTS[name].task == tasks.guess_model_task(yaml.safe_load(ZOO[name]))


@pytest.mark.parametrize("name", ZOO)
def test_a_yaml_has_no_facts_that_a_checkpoint_or_a_graft_would_take_over(name):
    assert yaml.safe_load(ZOO[name]).keys() <= {"nc", "kpt_shape", "scales", "backbone", "head"}
    assert ZOO[name].splitlines()[0].endswith(f": yolomix models {name}")
    assert "parameters" not in ZOO[name].split("\n", 1)[1]


@pytest.mark.parametrize(("name", "scale", "number"), CASES)
def test_the_name_that_is_typed_means_the_file_at_that_scale(name, scale, number):
    found = names.resolve(FACTS[name].typed(scale))
    assert (found.kind, found.file, found.scale) == (Kind.PACKAGED, models.FOLDER / f"{name}.yaml", scale)


@pytest.mark.parametrize(("name", "scale", "number"), CASES)
def test_builds_with_the_stated_count(name, scale, number):
    assert count(layers(ZOO[name], scale)) == number


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_stated_counts_are_the_published_ones(name):
    assert [*FACTS[name].parameters.values()] == PUBLISHED[name]


@pytest.mark.parametrize("name", AT_25_CLASSES)
def test_the_published_counts_at_25_classes(name):
    assert count(layers(ZOO[name], "n", nc=25)) == AT_25_CLASSES[name]


@pytest.mark.parametrize("name", [n for n in ZOO if n.startswith("yolo11-")])
def test_trains_and_predicts_on_an_image_side_that_nothing_divides(name):
    torch.manual_seed(0)
    with use_backend("eager"):
        model = build(ZOO[name], "n", nc=3)
        raw = model(torch.rand(1, 3, 160, 224))
        sum(t.square().mean() for t in tree_leaves(raw) if isinstance(t, torch.Tensor)).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        with torch.inference_mode():
            a, b = (model.eval()(torch.ones(1, 3, 96, 672))[0] for _ in range(2))
    assert torch.equal(a, b)
    assert a.isfinite().all()


@pytest.mark.parametrize(
    ("row", "parameters"),
    [
        ([-1, 1, "HaloAttention", [2, 1]], 2049 * 64 + 896),
        ([-1, 1, "ASSG", [20]], 50_841),
        ([-1, 1, "MLLAttention", []], 2 * 64 * 64 + 12 * 64),
        ([-1, 2, "C2PSAMLLA", [256]], 4 * 32 * 64 + 256 + 2 * 32 * 32 + 12 * 32 + 4 * 32 * 32 + 192),
    ],
)
def test_rows_as_people_write_them(row, parameters):
    text = {
        "nc": 2,
        "scales": {"n": [0.5, 0.25, 1024]},
        "backbone": [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [256, 3, 2]], row],
        "head": [[[2], 1, "Detect", ["nc"]]],
    }
    block = build(yaml.safe_dump(text), "n").model[2]
    assert type(block).__name__ == row[2]
    assert count(block) == parameters


@pytest.mark.parametrize("task", ["seg", "pose", "obb", "cls"])
def test_mamba_yolo_of_every_task_has_the_rows_and_scales_of_detection(task):
    """Backbone and neck; a classifier reads the backbone."""
    plain, other = yaml.safe_load(ZOO["mamba-yolo"]), yaml.safe_load(ZOO[f"mamba-yolo-{task}"])
    assert other["scales"] == plain["scales"]
    assert other["backbone"][:8] == plain["backbone"][:8]
    assert other["head"][:-1] == ([] if task == "cls" else plain["head"][:-1])


def test_mamba_yolo_segmentation_trains_for_one_epoch(tmp_path):
    file = data.render(tmp_path / "data", {"train": 4, "val": 2})
    model = yolomix.YOLO("mamba-yolo-seg-t.yaml")
    kept = {"workers": 0, "plots": False, "verbose": False, "device": "cpu", "project": str(tmp_path), "batch": 2}
    model.train(data=str(file), epochs=1, imgsz=64, **kept)
    found = yolomix.YOLO(model.trainer.best)
    assert (found.task, type(found.model.model[-1]).__name__) == ("segment", "Segment")
    assert all(p.isfinite().all() for p in found.model.parameters())
