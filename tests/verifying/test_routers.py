"""Routers: which way a file sends tokens, and flips at near ties, which are no failure."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import ultralytics

import yolomix
from tests.tiny import description
from tests.verifying import inprocess
from yolomix.host import weights
from yolomix.host.exported import Contents
from yolomix.verifying import inside
from yolomix.verifying.reference import Reference

pytestmark = pytest.mark.skipif(
    ultralytics.__version__ == "8.3.0", reason="8.3.0 with torch >= 2.9 names nodes otherwise"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    inprocess.use(monkeypatch, 2)


ROUTED = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "ASSG", [4, 2]], [-1, 1, "Conv", [16, 3, 2]]]


@pytest.fixture(scope="module")
def routed(tmp_path_factory):
    """A model with a router and its ONNX file."""
    folder, before = tmp_path_factory.mktemp("routed"), Path.cwd()
    os.chdir(folder)
    try:
        torch.manual_seed(0)
        made = weights.from_rows(description(backbone=ROUTED, head=[[[2], 1, "Detect", ["nc"]]]))
        made.task, made.names = "detect", {0: "square", 1: "bar"}
        model = yolomix.YOLO(weights.write(made, "routed.pt"))
        file = model.export(format="onnx", imgsz=32, simplify=False, device="cpu", verify=False)
    finally:
        os.chdir(before)
    return model, folder / file


ROUTER = "model.1.assm"


def test_routes_are_read_from_the_file_and_forced(routed):
    model, file = routed
    reference = Reference(model.model, Contents("detect", {0: "square", 1: "bar"}, (32, 32)), None)
    assert reference.routers == [ROUTER]
    x = torch.rand(1, 3, 32, 32)
    routes = inside.routes_of(file, reference, x, 1)
    logits = reference.logits(x, routes, double=True)[ROUTER]
    np.testing.assert_array_equal(routes[ROUTER], logits.argmax(-1))
    assert inside.flips(reference, x, routes) == (0, 0)
    np.testing.assert_array_equal(reference.run(x, routes)[0], reference.run(x)[0])
    second = {ROUTER: np.argsort(logits, axis=-1)[..., -2]}
    assert np.ptp(reference.run(x, second)[0] - reference.run(x)[0]) > 0
    flipped, decided = inside.flips(reference, x, second)
    assert flipped == second[ROUTER].size
    assert 0 < decided <= flipped


def test_flips_at_near_ties_are_counted_and_no_failure(routed, tmp_path, monkeypatch):
    """Two classes that every token likes the same, and a file that takes the other one."""
    model, _ = routed
    tied = deepcopy(model)
    router = tied.model.get_submodule(ROUTER)
    with torch.no_grad():
        router.route[-1].weight[1] = router.route[-1].weight[0]
        router.route[-1].bias[:2] = 100  # above all others
        for table in (router.embeddingB, tied.model.get_submodule("model.1").embeddingA):
            table.weight.normal_(0, 10)  # so that it matters which class a token gets
    monkeypatch.chdir(tmp_path)
    shifted = deepcopy(tied)
    shifted.model.get_submodule(ROUTER).route[-1].bias.data[1] += 8e-6  # one step of float32
    shifted.model.pt_path = str(tmp_path / "tied.pt")
    file = shifted.export(format="onnx", imgsz=32, simplify=False, device="cpu", verify=False)
    found = yolomix.verify(tied, file)
    assert found.checks[2].numbers["flips"] > 0
    assert found.verified, found
