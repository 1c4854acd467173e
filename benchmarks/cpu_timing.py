"""Timing on a CPU: contestants in turn, in CPU time, with peak memory and the limits of the machine in the same run."""

from __future__ import annotations

import ctypes
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

Work = Callable[[], object]
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds of everything, at most, and seconds after which one contestant has enough."""

    rounds: int
    seconds: float


CAREFUL, QUICK = Effort(11, 1.5), Effort(2, 0.0)


@dataclass
class Timing:
    """Milliseconds of one contestant, and megabytes that it needed on top at its peak (None: not known here)."""

    extra_mb: float | None
    ms: list[float] = field(default_factory=list)

    def quantiles(self) -> tuple[float, float, float]:
        """The 20th, 50th and 80th percentile."""
        if len(self.ms) == 1:
            return (self.ms[0],) * 3
        cuts = statistics.quantiles(self.ms, n=10, method="inclusive")
        return cuts[1], statistics.median(self.ms), cuts[7]


def clock() -> tuple[str, Callable[[], float]]:
    """CPU time of the process on one thread, which other processes do not lengthen; wall-clock time on several."""
    return ("cpu", time.process_time) if torch.get_num_threads() == 1 else ("wall", time.perf_counter)


def interleaved(contestants: dict[str, Work], effort: Effort) -> dict[str, Timing]:
    """Time contestants in turn, so that whatever disturbs the machine disturbs them alike."""
    timings = {name: Timing(peak_extra_mb(work)) for name, work in contestants.items()}
    _, now = clock()
    for _ in range(effort.rounds):
        for name, work in contestants.items():
            ms = timings[name].ms
            if not ms or sum(ms) < 1e3 * effort.seconds:
                start = now()
                work()
                ms.append(1e3 * (now() - start))
    return timings


def peak_extra_mb(work: Work) -> float | None:
    """Run once; the highest resident memory during the run above that before it. Linux only."""
    if not RESET.exists():
        work()
        return None
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    RESET.write_text("5")
    before = _resident("VmRSS")
    kept = work()
    peak = _resident("VmHWM")
    del kept
    return (peak - before) / 1e6


def _resident(name: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def copy_gigabytes_per_second(effort: Effort) -> float:
    """Bytes read and written by a copy of 128 MB."""
    x = torch.zeros(1 << 25)
    y = torch.empty_like(x)
    (timing,) = interleaved({"copy": lambda: y.copy_(x)}, effort).values()
    return 8 * x.numel() / timing.quantiles()[1] / 1e6


def nanoseconds_per_state(effort: Effort) -> float:
    """One time step of one state, in the L1 cache: an exponential and three multiplications, two with an addition.

    The loop is the one of our kernels, on a tile that stays where it is. With several threads, every one has its own.
    """
    from yolomix.ops._numba.jit import kernel
    from yolomix.ops._numba.layout import TILE, TileMatrix, TimeVarying, block_of, new_tile
    from yolomix.ops._numba.processor import LANES
    from yolomix.ops._numba.tile import Tile, advance

    N, repeats = 16, 400

    def loop(N, repeats):  # type: ignore[no-untyped-def]
        tile, values, states = Tile(new_tile(), new_tile(), new_tile()), new_tile(), new_tile()
        for array in (tile.delta, tile.drive, tile.y, values, states):
            array[:] = 0.01  # nothing grows, dies out or takes longer than in a scan
        matrix = TileMatrix(TimeVarying(values, 0, 0, 1, 0), 0)
        for _ in range(repeats):
            advance(block_of(values, 0, N), block_of(states, 0, N), tile, matrix, matrix, TILE, N)

    compiled = kernel(loop)

    def work() -> None:
        others = [threading.Thread(target=compiled, args=(N, repeats)) for _ in range(torch.get_num_threads() - 1)]
        for thread in others:
            thread.start()
        compiled(N, repeats)
        for thread in others:
            thread.join()

    (timing,) = interleaved({"loop": work}, effort).values()
    return 1e6 * timing.quantiles()[1] / (repeats * TILE * LANES * N * torch.get_num_threads())
