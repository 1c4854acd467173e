"""Which plan of the scan kernels is fastest here, per shape: candidates for what ``_triton/plan.py`` fixes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch

from benchmarks import gpu_ops
from benchmarks.gpu_ops import Problem
from benchmarks.gpu_record import Record, Row, key
from benchmarks.gpu_timing import measure
from yolomix.ops._triton import launch, plan
from yolomix.ops.ss2d import triton_gpu

NAME = "yolomix triton"
MODES = ("forward", "forward+backward")
BATCHES = (32, 1)
USES = ("FORWARD", "TRAINING", "BACKWARD")


@dataclass(frozen=True)
class Candidate:
    """Constants of a plan; ``fill`` multiplies the warps that are taken to fit a multiprocessor, and so the chunks.

    >>> str(Candidate())
    'CKPT=32 UNROLL=4 SEGMENT=2 fill=1'
    """

    ckpt: int = plan.CKPT
    unroll: int = plan.UNROLL
    segment: int = plan.SEGMENT
    fill: float = 1

    def __str__(self) -> str:
        return f"CKPT={self.ckpt} UNROLL={self.unroll} SEGMENT={self.segment} fill={self.fill}"


def candidates(backward: bool) -> list[Candidate]:
    """The plan as it is first; what the backward kernel does not see is varied in the forward pass alone."""
    walks = [Candidate(unroll=unroll) for unroll in (4, 2, 8)]
    if backward:
        walks = [Candidate(ckpt, segment=segment) for ckpt, segment in ((32, 2), (32, 1), (32, 4), (16, 2), (64, 2))]
    return [replace(walk, fill=fill) for fill, walk in itertools.product((1, 2, 0.5), walks)]


@contextmanager
def planned(candidate: Candidate) -> Iterator[None]:
    """While it lasts, kernels are launched by this plan."""
    now = {name: getattr(plan, name) for name in USES}
    uses: dict[str, Any] = {
        name: replace(use, warps=max(1, int(use.warps * candidate.fill))) for name, use in now.items()
    }
    with ExitStack() as stack:
        stack.enter_context(patch.multiple(plan, CKPT=candidate.ckpt, SHORTEST=2 * candidate.ckpt))
        own: dict[str, Any] = {"CKPT": candidate.ckpt, "UNROLL": candidate.unroll, "SEGMENT": candidate.segment}
        stack.enter_context(patch.multiple(launch, **own, **uses))
        stack.enter_context(patch.multiple(triton_gpu, **uses))
        plan.images_at_once.cache_clear()  # it knows nothing of CKPT
        stack.callback(plan.images_at_once.cache_clear)
        yield


def run(record: Record) -> None:
    """Measure what is left."""
    items = {
        key("ss2d", shape, batch, torch.float32, mode, str(candidate)): functools.partial(
            timed, candidate, Problem("ss2d", shape, batch, torch.float32), mode != MODES[0]
        )
        for batch, shape, mode in itertools.product(BATCHES, gpu_ops.SHAPES, MODES)
        for candidate in candidates(mode != MODES[0])
    }
    record.work(items)


def timed(candidate: Candidate, problem: Problem, backward: bool) -> list[Row]:
    """The row of one candidate, if its answers are right."""
    function = gpu_ops.contestants(problem.op)[NAME]
    with planned(candidate):
        gpu_ops.check_one(replace(problem, batch=1), str(candidate), function)
        return [measure(gpu_ops.work(function, problem, backward)).row()]
