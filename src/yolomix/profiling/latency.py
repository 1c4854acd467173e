"""How long calls take: warmed up until they are stable, in turns, with the process's own CPU time beside the clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

STABLE = 0.05  # two medians of WARM calls that differ by less end the warm-up
WARM = 3
WARM_SECONDS, SECONDS = 10.0, 4.0  # per call at most, and about
LEAST, MOST = 10, 100  # repetitions
BUSY = 0.85  # of a core for this process: less means that others took the processor


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call.

    >>> Latency(10.0, 9.0, 12.0, 6.0).is_busy
    True

    Attributes:
        median: on the clock.
        p20: the time that a fifth of the calls stayed below.
        p95: the time that 95 of 100 calls stayed below.
        cpu_median: of the processor, of all threads of this process together.
    """

    median: float
    p20: float
    p95: float
    cpu_median: float

    @property
    def is_busy(self) -> bool:
        """Whether this process did not get one core: something else ran, and the times are too long."""
        return self.cpu_median < BUSY * self.median

    @classmethod
    def of(cls, clock: Sequence[float], cpu: Sequence[float]) -> Latency:
        """From the seconds of every call."""
        ordered = [1e3 * seconds for seconds in sorted(clock)]
        last = len(ordered) - 1
        return cls(
            statistics.median(ordered), ordered[round(0.2 * last)], ordered[round(0.95 * last)],
            1e3 * statistics.median(cpu),
        )  # fmt: skip

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return dict(vars(self))


def measured(calls: Sequence[Callable[[], object]], device: str = "cpu", seconds: float = SECONDS) -> list[Latency]:
    """The latency of each call. They take turns, so that a machine that slows down slows all of them.

    >>> fast, slow = measured([lambda: sum(range(1000)), lambda: sum(range(100_000))], seconds=0.1)
    >>> fast.median < slow.median
    True

    Args:
        calls: what is timed; each waits for nothing that a GPU computes.
        device: where it computes.
        seconds: about how long each is repeated.
    """
    repetitions = [_warm(call, device, seconds) for call in calls]
    clock: list[list[float]] = [[] for _ in calls]
    cpu: list[list[float]] = [[] for _ in calls]
    for turn in range(max(repetitions, default=0)):
        for i, call in enumerate(calls):
            if turn < repetitions[i]:
                took = _timed(call, device)
                clock[i].append(took[0])
                cpu[i].append(took[1])
    return [Latency.of(*both) for both in zip(clock, cpu, strict=True)]


def _warm(call: Callable[[], object], device: str, seconds: float) -> int:
    """Repeat until the times are stable; returns how often to repeat it then."""
    started, before = time.perf_counter(), 0.0
    while True:
        now = statistics.median(_timed(call, device)[0] for _ in range(WARM))
        if abs(now - before) < STABLE * now or time.perf_counter() - started > WARM_SECONDS:
            return min(MOST, max(LEAST, round(seconds / max(now, 1e-9))))
        before = now


def _timed(call: Callable[[], object], device: str) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    started, used = time.perf_counter(), time.process_time()
    call()
    if device != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - started, time.process_time() - used


def graphed(call: Callable[[], object]) -> Callable[[], object]:
    """The same call as one CUDA graph: everything it launches, replayed at once, without Python in between.

    Raises:
        RuntimeError: something in it cannot be captured, such as a value that Python reads.
    """
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(WARM):
            call()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay
