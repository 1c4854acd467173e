"""The GFLOPs that Ultralytics prints: with our scans, the same for every backend, and as ever for its own models."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from ultralytics.nn import tasks
from ultralytics.utils import torch_utils

import yolomix
from tests.tiny import TINY
from yolomix import models
from yolomix.host import original
from yolomix.ops import counting, use_backend
from yolomix.profiling.operations import count


@pytest.fixture(scope="module")
def scan():
    """Mamba-YOLO-T, whose scans take 2.202 GFLOPs at 640 x 640: 6 for each of 367 million states and steps."""
    return yolomix.YOLO("mamba-yolo-t.yaml").model


def native(model, imgsz=640) -> float:
    return original.native(torch_utils, "get_flops")(model, imgsz)


@pytest.fixture(scope="module")
def gigaflops(scan):
    with use_backend("eager"):  # the one whose projections its counter sees
        return native(scan) + 2.2020096


@pytest.mark.parametrize("backend", ["auto", "eager", "reference"])
def test_scans_are_in_the_number_whatever_computes(scan, gigaflops, backend):
    with use_backend(backend):
        assert (found := torch_utils.get_flops(scan)) == pytest.approx(gigaflops, rel=1e-3)
        assert torch_utils.get_flops(scan, [480, 640]) == pytest.approx(0.75 * found, rel=1e-3)


def test_models_without_a_scan_have_the_number_of_ever():
    model = yolomix.YOLO("yolo11n.yaml").model
    assert torch_utils.get_flops(model) == native(model) > 6


def test_images_of_one_channel():
    text = (models.FOLDER / "mamba-yolo.yaml").read_text("utf-8")
    gray = tasks.DetectionModel(yaml.safe_load(text) | {"scale": "t"}, ch=1, verbose=False)
    assert torch_utils.get_flops(gray, 64) > native(gray, 64)


@pytest.mark.parametrize("name", ["yolov8n-vim.yaml", "yolov8n-vmamba.yaml", "yolo11n-assg.yaml"])
def test_scans_are_those_that_are_counted_one_by_one(name):
    model = yolomix.YOLO(name).model
    with counting():
        without = native(model, [96, 160])
    assert torch_utils.get_flops(model, [96, 160]) - without == pytest.approx(
        count(model, (1, 3, 96, 160))[""].scan / 1e9, rel=1e-9
    )


def test_the_number_of_a_scan_does_not_import_the_compiler():
    """It takes seconds, and every prediction, training and export prints this number."""
    code = "import sys, yolomix; yolomix.YOLO('yolov8n-vmamba.yaml').fuse(); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_what_ultralytics_cannot_count_stays_zero():
    from torch import nn

    class Fails(nn.Conv2d):
        def forward(self, x):
            raise RuntimeError

    assert torch_utils.get_flops(Fails(3, 8, 1)) == 0.0
    assert torch_utils.get_flops(tasks.DetectionModel(yaml.safe_load(TINY), verbose=False)) > 0
