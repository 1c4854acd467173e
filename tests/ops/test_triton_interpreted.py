"""The Triton kernels without a GPU: Triton's interpreter against the float64 reference, outputs and every gradient."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="kernels are interpreted where Triton has a wheel")

from tests.full import FULL, cases, full
from tests.ops.triton_cases import CHECKS, MAPS, SCANS, small
from yolomix.ops._triton import plan

# The interpreter takes seconds for the others: chunks of maps, images one at a time, several blocks of channels.
QUICK_CHECKS = ["compiled", "inside autocast"]
QUICK_SCANS = ["plain", "chunks", "one state", "twenty states", "bfloat16", "wide"]
QUICK_MAPS = ["one cell", "main sizes", "strided"]
TOLERANCE = {"float32": 2e-6, "bfloat16": 1e-2, "float16": 2e-3}  # of the largest value


@functools.cache
def report() -> dict[str, Any]:
    """All cases in a process of their own: kernels choose interpreter or compiler when they are defined."""
    checks, scans, maps = (CHECKS, SCANS, MAPS) if FULL else (QUICK_CHECKS, QUICK_SCANS, QUICK_MAPS)
    names = [*checks, *(f"scan {name}" for name in scans), *(f"map {name}" for name in maps)]
    command = [sys.executable, "-m", "tests.ops.triton_cases", *names]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("case", cases(SCANS, always=QUICK_SCANS))
def test_scan_outputs_and_gradients(case):
    errors = report()[f"scan {case}"]
    assert max(errors) <= TOLERANCE[SCANS[case].get("dtype", "float32")], errors


@pytest.mark.parametrize("case", cases(MAPS, always=QUICK_MAPS))
def test_map_outputs_and_gradients(case):
    errors = report()[f"map {case}"]
    assert max(errors) <= TOLERANCE[MAPS[case].get("dtype", "float32")], errors


@pytest.mark.parametrize("use", [plan.FORWARD, plan.BACKWARD], ids=["forward", "backward"])
@pytest.mark.parametrize(
    "shape", [plan.ScanShape(1, 1, 5, 8, 0, 1, 27), plan.ScanShape(1, 4, 3, 4, 3, 5, 5)], ids=["scan", "map"]
)
def test_the_cases_called_chunks_are_cut_into_several(shape, use):
    with small(SCANS["chunks"]):
        assert plan.chunks(shape, plan.BLOCK, use, torch.device("cpu"))[0] > 1


def test_compiles_into_one_graph_with_equal_gradients():
    assert report()["compiled"] == [0.0] * 7


@full
def test_activation_checkpointing_changes_nothing():
    assert report()["checkpointed"] == [0.0] * 7


def test_gradients_inside_autocast_are_the_same():
    assert report()["inside autocast"] == [0.0] * 6


@full
def test_registered_operators_pass_the_check_of_torch():
    assert set(report()["registered"]) == {"SUCCESS"}
    assert len(report()["registered"]) == 12
