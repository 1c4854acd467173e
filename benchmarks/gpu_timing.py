"""Timing on a GPU: device events, medians, peak memory, and the limits of the device in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

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


def measure(function: Callable[[], object]) -> Timing:
    """Time a function that only launches work on the current GPU."""
    for _ in range(WARM):
        function()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    first = _once(function)
    extra = (torch.cuda.max_memory_allocated() - before) / 1e6
    reps = int(min(MOST, max(LEAST, LONG / max(first, 1e-3))))
    cache = torch.empty(CACHE, dtype=torch.int8, device="cuda")
    times = []
    for _ in range(reps):
        cache.zero_()
        times.append(_once(function))
    low, *_, high = statistics.quantiles(times, n=5)
    return Timing(low, statistics.median(times), high, reps, extra)


def _once(function: Callable[[], object]) -> float:
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
    x = torch.randn(1 << 28, device="cuda")
    y = torch.empty_like(x)
    return 2 * x.numel() * x.element_size() / measure(lambda: y.copy_(x)).p50


def exponential_rate() -> float:
    """Exponentials per millisecond of the device."""
    programs, size, rounds = 1 << 14, 1024, 512
    x = torch.rand(programs * size, device="cuda")
    return programs * size * rounds / measure(lambda: _exponentials[(programs,)](x, rounds, size)).p50
