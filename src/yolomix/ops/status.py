"""Every backend of every operator, and what keeps it from being used on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from yolomix.ops import selftest
from yolomix.ops.backend import Backend, package_refusal
from yolomix.ops.dispatch import Operator
from yolomix.ops.halo_attention import OPERATOR as HALO_ATTENTION
from yolomix.ops.linear_attention import OPERATOR as LINEAR_ATTENTION
from yolomix.ops.selective_scan import OPERATOR as SELECTIVE_SCAN
from yolomix.ops.ss2d import OPERATOR as SS2D
from yolomix.showing import Shown

OPERATORS: tuple[Operator[Any, Any], ...] = (HALO_ATTENTION, LINEAR_ATTENTION, SELECTIVE_SCAN, SS2D)


@dataclass(frozen=True, repr=False)
class Status(Shown):
    """One backend of one operator on this machine; it can be used when ``refusals`` is empty.

    Args:
        op: operator.
        backend: what users write.
        device: the device type that it serves, or "any".
        automatic: whether "auto" may take it.
        refusals: why it cannot be used here, as sentences.
    """

    op: str
    backend: str
    device: str
    automatic: bool
    refusals: tuple[str, ...]

    def in_short(self) -> str:
        """Which backend of which operator, and why not."""
        return f"{self.op} {self.backend} on {self.device}: {'; '.join(self.refusals) or 'runs'}"


def backends() -> list[Status]:
    """Every backend of every operator, fastest first, with the reasons why it cannot be used here.

    Backends of other frameworks solve a tiny problem first, gradients included; a wrong answer is such a reason.

    >>> from yolomix.ops import backends
    >>> [row.backend for row in backends() if row.op == "linear_attention" and not row.refusals]
    ['eager', 'reference']
    """
    found = []
    for operator in OPERATORS:
        for row in operator.backends:
            reasons = tuple(refusals_here(row))
            found.append(Status(operator.name, row.name, row.device or "any", row.automatic, reasons))
    return found


def refusals_here(row: Backend) -> list[str]:
    """Why a backend can compute nothing on this machine, as sentences; gradients are tested as well.

    >>> refusals_here(Backend("numba", "nowhere", needs="no_such_package"))
    ['no_such_package is not installed: pip install no_such_package']
    """
    if row.device == "cuda" and not torch.cuda.is_available():
        return ["no CUDA device here"]
    if row.needs is None:
        return []
    if (missing := package_refusal(row.needs)) is not None:
        return [missing]
    wrong = selftest.refusal(row.module, row.device or "cpu", gradients=True)
    return [] if wrong is None else [wrong]
