"""Timing on a GPU: device events, medians, peak memory, and the limits of the device in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from yolomix.profiling import memory

DEVICE = "cuda"
COPIED, PROGRAMS = 1 << 28, 1 << 14  # values that are copied; programs that compute exponentials
LEAST, MOST, LONG = 5, 50, 200.0  # repetitions, and milliseconds that one measurement may take
WARM = 3  # calls before: kernels compile, and compiled models once more for their second call
CACHE = 1 << 28  # bytes written between two repetitions, more than a cache holds


@dataclass(frozen=True)
class Timing:
    """Milliseconds at the 20th, 50th and 80th percentile, repetitions, and extra memory at the peak in MB."""

    p20: float
    p50: float
    p80: float
    reps: int
    extra_mb: float

    def row(self, floor: float | None = None) -> dict[str, object]:
        """The figures of a row; floor: milliseconds that the limits of the device leave at best."""
        found: dict[str, object] = {"ms_p20": f"{self.p20:.4f}", "ms_p50": f"{self.p50:.4f}", "reps": self.reps}
        found |= {"ms_p80": f"{self.p80:.4f}", "extra_mb": f"{self.extra_mb:.1f}"}
        return found if floor is None else found | {"share": f"{floor / self.p50:.3f}"}


def measure(function: Callable[[], object]) -> Timing:
    """Time a function that only launches work on the current GPU."""
    for _ in range(WARM):
        function()
    extra = (memory.peak(function, DEVICE) or 0.0) if DEVICE == "cuda" else 0.0
    first = _once(function)
    reps = int(min(MOST, max(LEAST, LONG / max(first, 1e-3))))
    cache = torch.empty(CACHE, dtype=torch.int8, device=DEVICE)
    times = []
    for _ in range(reps):
        cache.zero_()
        times.append(_once(function))
    low, *_, high = statistics.quantiles(times, n=5, method="inclusive")
    return Timing(low, statistics.median(times), high, reps, extra)


def _once(function: Callable[[], object]) -> float:
    if DEVICE == "cpu":  # a rehearsal
        before = time.perf_counter()
        function()
        return 1e3 * (time.perf_counter() - before)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


@triton.jit
def _exponentials(p_x, ROUNDS: tl.constexpr, SIZE: tl.constexpr):
    """ROUNDS exponentials of every value, one after the other."""
    offsets = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    x = tl.load(p_x + offsets)
    for _ in range(ROUNDS):
        x = tl.exp2(-x)
    tl.store(p_x + offsets, x)


def copy_rate() -> float:
    """Bytes per millisecond of a copy on the device, read and written."""
    x = torch.randn(COPIED, device=DEVICE)
    y = torch.empty_like(x)
    return 2 * x.numel() * x.element_size() / measure(lambda: y.copy_(x)).p50


def exponential_rate() -> float:
    """Exponentials per millisecond of the device."""
    size, rounds = 1024, 512
    x = torch.rand(PROGRAMS * size, device=DEVICE)
    return PROGRAMS * size * rounds / measure(lambda: _exponentials[(PROGRAMS,)](x, rounds, size)).p50
