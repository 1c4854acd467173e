"""Counts of every zoo model against closed forms, to the last operation.

At its smallest scale, and at the largest one of each family; at every scale, and with every backend at the largest one
too, with ``YOLOMIX_TEST_FULL=1``.
"""

from __future__ import annotations

import re

import pytest
import torch

import yolomix
from tests.full import cases
from tests.profiling import closed_forms
from tests.profiling.closed_forms import Rows
from yolomix import models, nn
from yolomix.ops import use_backend
from yolomix.profiling import latency, operations
from yolomix.profiling.operations import Operations, count

SCALES = [(name, scale) for name, model in models.zoo().items() for scale in model.parameters]
FIRST = [(name, next(iter(model.parameters))) for name, model in models.zoo().items()]
# The other tasks of Mamba-YOLO differ in their heads, which are Ultralytics'.
FAMILIES = [(name, scale) for name, scale in FIRST if models.zoo()[name].task == "detect" and "nolocal" not in name]
LARGEST = [(name, [*models.zoo()[name].parameters][-1]) for name, _ in FAMILIES]
# Every case names a backend. All of them equal the closed form, and so each other.
CASES = [
    *((name, scale, (640, 640), "eager") for name, scale in SCALES),
    *((name, scale, (320, 320), "triton") for name, scale in FAMILIES),
    *((name, scale, (480, 640), "numba") for name, scale in FAMILIES),
]
ALWAYS = [case for case in CASES if case[:2] in FIRST or (case[:2] in LARGEST and case[3] == "eager")]


@pytest.mark.parametrize(("name", "scale", "size", "backend"), cases(CASES, ALWAYS))
def test_every_layer_counts_its_closed_form(name, scale, size, backend):
    rows = Rows(name, scale)
    if (name, scale) not in FIRST:
        rows.without_free_layers()
    want = rows.work(*size)
    with use_backend(backend):
        found = count(rows, (1, 3, *size))
    layers = [found.get(f"model.{i}", Operations()) for i in range(len(want))]
    assert layers == [Operations(work.total, work.scan, work.papers) for work in want]
    assert found[""] == sum(layers, Operations())
    assert found[""].total > 0


def test_the_released_form_of_vmamba_that_no_zoo_model_has():
    found = count(nn.VMambaBlock(24, "v0"), (1, 24, 7, 5))[""]
    work, _ = closed_forms.vmamba_block((24, 7, 5), 1, "v0", 2.0)
    assert found == Operations(work.total, work.scan, work.papers)


@pytest.mark.parametrize(
    ("work", "specified", "within"),
    [
        (closed_forms.mamba_layer((128, 40, 40), 1), 1600 * 256 * (2 * 128 + 2 * (4 + 40 + 8 + 48) + 128), 0),
        (closed_forms.mlla_attention((256, 20, 20), 1), 400 * (2 * 256**2 + 2 * 256 * 64 + 12 * 256), 0.01),
        (closed_forms.halo_attention((256, 20, 20), 1, 2, 1), 400 * 512 * (4 * 256 + 2 * 16 + 2 * 7), 0.01),
    ],
    ids=["Vim", "MLLA", "HaloAttention"],
)  # fmt: skip
def test_costs_per_token(work, specified, within):
    """Multiply-adds of a layer, with 3 for every state and time step; the last two are rounded in their sources."""
    assert work[0].macs + 3 * work[0].states == pytest.approx(specified, rel=within)


def test_a_scan_without_a_formula_is_named_and_not_zero(monkeypatch):
    for name in ("LEAST", "MOST", "WARM"):  # how long it takes is of no interest here
        monkeypatch.setattr(latency, name, 1)
    monkeypatch.delitem(operations.FORMULAS, torch.ops.yolomix.counted_scan)
    with use_backend("eager"):
        found = yolomix.profile("yolov8n-vmamba.yaml", imgsz=64)
    (model,) = found.models
    assert [layer.name for layer in model.layers if layer.operations.not_counted] == ["2", "4", "6", "8"]
    assert model.operations.not_counted == {"yolomix.counted_scan"}
    assert model.operations.scan == 0
    assert re.search(r"not counted +yolomix\.counted_scan", str(found))
