"""The operators on a GPU, timed: Mamba-YOLO's stages S1 to S4, against plain PyTorch and the official pipeline.

Parity with float64 comes first: a wrong answer is never timed. ``share`` is the fraction of the device's own limit that
a row reaches: copying or exponentials, whichever leaves less, measured in the same process.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

from benchmarks import gpu_ops
from benchmarks.gpu_ops import Problem
from benchmarks.gpu_record import Record, Row, key
from benchmarks.gpu_timing import copy_rate, exponential_rate, measure

MODES = ("forward", "forward+backward")


def run(record: Record) -> None:
    """Measure what is left."""
    contestants = {op: gpu_ops.contestants(op) for op in dict.fromkeys(each.op for each in gpu_ops.problems())}
    problems = {
        key(problem.op, problem.shape, problem.batch, problem.dtype, mode, name): (problem, mode, name)
        for problem in gpu_ops.problems()
        for name in contestants[problem.op]
        for mode in MODES
    }
    copy, exponentials = copy_rate(), exponential_rate()
    for what, rate, unit in (("copy", copy, "TB/s read and written"), ("exp2", exponentials, "T/s")):
        record.add(key("limit", mode=what), {"note": f"{rate / 1e9:.3f} {unit}"})

    @functools.cache
    def checked(op: str, name: str, dtype: torch.dtype) -> str:
        """Nothing, or why nothing of it is timed: a wrong answer, or none."""
        try:
            gpu_ops.check(op, name, contestants[op][name], dtype)
        except Exception as error:  # noqa: BLE001  kept, so that every row of it says so
            return f"{type(error).__name__}: {error}"
        return ""

    def timed(problem: Problem, mode: str, name: str) -> Iterator[Row]:
        wrong = checked(problem.op, name, problem.dtype)
        if wrong:
            raise RuntimeError(wrong)
        backward = mode != MODES[0]
        floor = max(problem.bytes(backward) / copy, problem.exponentials(backward) / exponentials)
        yield measure(gpu_ops.work(contestants[problem.op][name], problem, backward)).row(floor)

    record.work({one: functools.partial(timed, *which) for one, which in problems.items()})
