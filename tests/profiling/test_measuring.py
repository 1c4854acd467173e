"""``yolomix.profile``: what adds up, what is noticed, what is refused, and what a reader gets."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import cv2
import pytest
import torch
from torch import nn

import yolomix
from tests import fresh
from tests.tiny import TINY
from yolomix.cli import DONE, FAILED, USAGE, main
from yolomix.host import weights
from yolomix.profiling import latency, measuring, operations, values, writing
from yolomix.profiling.latency import Latency
from yolomix.profiling.operations import Operations

KEYS = {
    *("model", "imgsz", "batch", "parameters", "flops", "scan_flops", "scan_flops_papers", "flops_training"),
    *("flops_ultralytics", "not_counted", "latency_ms", "latency_graphs_ms", "memory_mb", "fused", "conditions"),
    *("remarks", "layers"),
}


pytestmark = pytest.mark.usefixtures("few_repetitions")


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "yolo0n-tiny.yaml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="module")
def found(few_repetitions) -> values.Profile:
    """Two models, two batches, not square."""
    return yolomix.profile("yolov8n-vmamba.yaml", imgsz=(64, 96), batch=[1, 2], against=["yolov8n.yaml"], train=True)


def test_layers_add_up_to_the_model(found):
    for model in found.models:
        layers = model.layers
        assert sum(layer.parameters for layer in layers) == model.parameters
        assert sum((layer.operations for layer in layers), Operations()) == model.operations
        assert sum(layer.share for layer in layers) == pytest.approx(1.0)
        assert [layer.name for layer in layers] == [str(i) for i in range(len(layers))]
        assert {layer.stage for layer in layers} == {"backbone", "neck", "head"}
        assert max(layer.memory for layer in layers) <= model.memory


def test_every_model_and_batch_is_one_entry_and_counts_are_of_one_image(found):
    assert [(model.model, model.batch) for model in found.models] == [
        ("yolov8n-vmamba.yaml", 1),
        ("yolov8n-vmamba.yaml", 2),
        ("yolov8n.yaml", 1),
        ("yolov8n.yaml", 2),
    ]
    first, second, stock, _ = found.models
    assert first.operations == second.operations
    assert second.memory == pytest.approx(2 * first.memory, rel=0.2)
    assert second.memory_training > second.memory
    assert first.operations.scan > 0 == stock.operations.scan
    assert stock.parameters == 3_157_200
    assert stock.fused_parameters == 3_151_904
    assert 2.9 < first.flops_training / first.operations.total < 3.1


def test_the_backend_that_ran_is_named(found):
    assert found.models[0].layers[2].backends == {"ss2d": "numba"}
    assert not found.models[2].layers[2].backends


def test_plain_values(found):
    one = json.loads(json.dumps(found.to_dict()))["models"][0]
    assert {*one} == KEYS
    assert one["imgsz"] == [64, 96]
    assert {*one["latency_ms"]} == {"median", "p20", "p95", "cpu_median"}
    assert {*one["memory_mb"]} == {"inference", "training"}
    assert {*one["fused"]} == {"parameters", "flops"}
    layer = one["layers"][0]
    assert (layer["index"], layer["name"], layer["stage"], layer["shape"]) == (0, "0", "backbone", [1, 16, 32, 48])
    assert {"parameters", "flops", "scan_flops", "latency_ms", "share", "memory_mb", "backend"} <= {*layer}


def test_what_people_read(found):
    text = str(found)
    lines = text.splitlines()
    assert max(len(line) for line in lines if not line.startswith(("One multiply", "Convol"))) <= 110
    assert "in the papers' convention, 9 B L D N" in text
    assert "it also counts normalisation" in text
    assert text.endswith(values.CONVENTION)
    assert len(repr(found)) <= 100
    assert [row[6] for row in found.as_rows()[:2]] == ["ratio", "1.00"]
    assert [line for line in lines if "VMambaBlock x2" in line]


def test_modules_inside_a_layer():
    (model,) = yolomix.profile("yolov8n-vmamba.yaml", imgsz=64, depth=2).models
    names = [layer.name for layer in model.layers]
    assert {"2", "2.op", "12.m.0", "22.cv2.0"} <= {*names}
    assert "0.act" not in names  # the same activation for all
    inside = {layer.name: layer for layer in model.layers}
    assert inside["2.op"].operations.scan == inside["2"].operations.scan > 0
    assert sum(layer.parameters for layer in model.layers if layer.depth == 1) == model.parameters


class Slow(nn.Module):
    def forward(self, x):
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            x = x + 0
        return x


def test_a_slow_layer_is_found(tiny):
    model = yolomix.YOLO(tiny).model
    model.model[2] = nn.Sequential(model.model[2], Slow())
    for name in ("i", "f", "type", "np"):
        setattr(model.model[2], name, getattr(model.model[2][0], name, 0))
    (profiled,) = yolomix.profile(model, imgsz=64).models
    slowest = max(profiled.layers, key=lambda layer: layer.share)
    assert (slowest.name, slowest.share > 0.3) == ("2", True)


def test_outputs_that_are_not_finite_are_not_timed(tiny):
    model = yolomix.YOLO(tiny).model
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    (profiled,) = yolomix.profile(model, imgsz=64).models
    assert profiled.latency is None
    assert measuring.NOT_FINITE in profiled.remarks
    assert profiled.parameters == sum(p.numel() for p in model.parameters())


def test_a_busy_machine_is_said(tiny, monkeypatch):
    monkeypatch.setattr(Latency, "of", classmethod(lambda cls, clock, cpu: cls(10.0, 9.0, 30.0, 3.0)))
    assert measuring.BUSY in yolomix.profile(tiny, imgsz=64).models[0].remarks
    monkeypatch.setattr(Latency, "of", classmethod(lambda cls, clock, cpu: cls(10.0, 9.0, 30.0, 9.9)))
    assert measuring.BUSY not in yolomix.profile(tiny, imgsz=64).models[0].remarks


def test_models_take_turns():
    order = []
    latency.measured([lambda: order.append("a"), lambda: order.append("b")], seconds=0.0)
    assert "".join(order).endswith("abab")


def test_a_file_of_another_runtime_is_timed_as_it_is(tiny):
    file = yolomix.YOLO(tiny).export(format="torchscript", imgsz=64, verbose=False, verify=False)
    (profiled,) = yolomix.profile(file, imgsz=64).models
    assert profiled.latency.median > 0
    assert (profiled.parameters, profiled.operations, profiled.layers) == (None, None, None)
    assert profiled.to_dict()["flops"] is None
    assert profiled.remarks[-1] == measuring.EXPORTED
    assert "another runtime" in str(values.Profile((profiled,)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"imgsz": 0}, "imgsz is one number of pixels, or height and width, as in 480,640; got 0"),
        ({"imgsz": (1, 2, 3)}, "imgsz is one number"),
        ({"imgsz": 64.0}, "imgsz is one number"),
        ({"batch": 0}, "batch is a number of images from 1 on"),
        ({"batch": []}, "batch is a number of images"),
        ({"depth": 3}, "depth is 1 for layers or 2"),
        ({"device": "quantum"}, "no device 'quantum' here; there is cpu"),
        ({"device": "7"}, "no device '7' here"),
    ],
)
def test_what_cannot_be_measured_is_refused(tiny, given, said):
    with pytest.raises(ValueError, match=said):
        yolomix.profile(tiny, **{"imgsz": 64, **given})


def test_a_model_that_cannot_run_at_that_size_is_named(tiny):
    stacked = tiny.with_name("yolo0n-stacked.yaml")
    stacked.write_text(TINY.replace("head:", "  - [[-1, 0], 1, Concat, [1]]\nhead:"))
    with pytest.raises(ValueError, match=r"stacked\.yaml"):
        yolomix.profile(stacked, imgsz=64)
    model = yolomix.YOLO(tiny).model
    model.model[0] = nn.Conv2d(3, 16, 99)
    for name, value in {"i": 0, "f": -1, "type": "Conv", "np": 0}.items():
        setattr(model.model[0], name, value)
    with pytest.raises(ValueError, match=r"tiny.* cannot run on images of 64x64: .* Give another imgsz="):
        yolomix.profile(model, imgsz=64)


def test_a_size_at_which_it_cannot_be_trained(tiny):
    (profiled,) = yolomix.profile(tiny, imgsz=9).models
    assert profiled.flops_training is None
    assert "cannot be trained at that size: Expected more than 1 value per channel" in profiled.remarks[-2]


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="profile takes a model name, a YOLO or its model, got Linear"):
        yolomix.profile(nn.Linear(2, 2))


@pytest.mark.parametrize("suffix", [*writing.FORMS])
def test_every_form_of_file(found, suffix, tmp_path):
    file = writing.save(found, tmp_path / f"table{suffix}")
    if suffix == ".png":
        assert cv2.imread(str(file)).std() > 10
        return
    text = file.read_text("utf-8")
    if suffix == ".csv":
        rows = list(csv.DictReader(text.splitlines()))
        layers = [row for row in rows if row["model"] == "yolov8n.yaml" and row["batch"] == "1"]
        assert sum(int(row["flops"]) for row in layers if row["index"]) == found.models[2].operations.total
        assert [row["parameters"] for row in layers if not row["index"]] == ["3157200"]
    elif suffix == ".json":
        assert json.loads(text) == json.loads(json.dumps(found.to_dict()))
    else:
        assert text.count("VMambaBlock x2") == 4
        assert (r"\%" in text) == (suffix == ".tex")


def test_the_command_line(tiny, capsys):
    words = ["profile", f"model={tiny.name}", "imgsz=64", f"against={tiny.name}", "batch=1,2"]
    assert main([*words, "save=a.csv", "--json"]) == DONE
    out = json.loads(capsys.readouterr().out)
    assert [model["batch"] for model in out["models"]] == [1, 2] * 2
    assert Path("a.csv").read_text().startswith("model,imgsz,batch,index")
    weights.write(weights.from_yaml(tiny), "a.pt")
    assert main(["profile", "model=a.pt", "imgsz=64,96"]) == DONE
    assert "images of 64x96, batch 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], USAGE, "profile needs model="),
        (["model=yolo11n.yaml", "batch=0"], USAGE, "batch must be a whole number of at least 1"),
        (["model=yolo11n.yaml", "imgsz=1,2,3"], USAGE, "imgsz must be a whole number of at least 1 and at most 2"),
        (["model=yolo11n.yaml", "depth=3"], USAGE, "depth must be one of 1, 2"),
        (["model=yolo11n.yaml", "save=a.doc"], FAILED, "a.doc: a profile is saved as .csv, .json, .md, .tex, .png"),
        (["model=yolo11n.yaml", "device=3"], FAILED, "no device '3' here; there is cpu"),
        (["model=no.pt"], FAILED, "no.pt"),
    ],
)
def test_bad_words(words, code, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["profile", *words]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert not [*tmp_path.iterdir()]


def test_operations_need_no_meta_kernel(tiny):
    """A block that reads numbers in its forward pass is counted where it can run."""

    class Reads(nn.Module):
        def forward(self, x):
            return x * float(x.sum() > 1e9)

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Reads())
    assert operations.count(model, (1, 3, 4, 4))["0"].total == 2 * 12 * 16


def test_the_profiler_of_pytorch_says_nothing_on_stderr():
    code = "import torch; from yolomix.profiling import memory; print(memory.peak(lambda: torch.zeros(1_000_000)))"
    done = fresh.run(code)
    assert (done.returncode, float(done.stdout) >= 4.0, done.stderr) == (0, True, "")
