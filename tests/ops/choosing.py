"""The scan with other tables of backends, to see which one is chosen."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from yolomix.ops.backend import Backend
from yolomix.ops.dispatch import Operator
from yolomix.ops.selective_scan.inputs import ScanInputs, check

SCAN = "yolomix.ops.selective_scan"
EAGER = Backend("eager", f"{SCAN}.eager")
REFERENCE = Backend("reference", f"{SCAN}.reference", automatic=False)
NUMBA = Backend("numba", f"{SCAN}.numba_cpu", device="cpu", needs="numba")
OTHER_DEVICE = Backend("triton", "nowhere", device="cuda", needs="triton")
TABLE = (OTHER_DEVICE, NUMBA, EAGER, REFERENCE)


def chosen(backend: str, inputs: ScanInputs, table: Sequence[Backend] = TABLE) -> str:
    """The file that is chosen, by the last part of its name."""
    found = Operator("scan", tuple(table), check).choose(inputs, backend)
    return found.__name__.rpartition(".")[2]


def in_float64(inputs: ScanInputs) -> ScanInputs:
    return ScanInputs(*(x.double() if isinstance(x, torch.Tensor) else x for x in inputs))
