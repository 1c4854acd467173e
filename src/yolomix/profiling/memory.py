"""How much memory a call holds at most: what PyTorch allocates, and not what NumPy or a kernel's own buffers take."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence

import torch
from torch.profiler import ProfilerActivity, profile

Change = tuple[int, int]  # nanoseconds since 1970, and bytes that are allocated, or released where negative


def peak(call: Callable[[], object], device: str = "cpu") -> float | None:
    """Megabytes that PyTorch allocates in a call and holds at once, at most; what was there before is not in it.

    >>> peak(lambda: torch.zeros(1_000_000)) >= 4.0
    True

    Args:
        call: what allocates.
        device: where; memory of a CUDA GPU is its allocator's, and None is that of a device which does not tell it.
    """
    if device == "cpu":
        return highest(changes(call))
    if not device.startswith("cuda"):
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return float(torch.cuda.max_memory_allocated() - before) / 1e6


def changes(call: Callable[[], object]) -> list[Change]:
    """All that PyTorch allocates and releases on the CPU in a call, in order."""
    found = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with _silent_stderr():
        found.start()
    try:
        kept = call()
        del kept
    finally:
        with _silent_stderr():
            found.stop()
    results = found.profiler.kineto_results if found.profiler else None
    events = results.events() if results else ()
    allocations = [event for event in events if event.name() == "[memory]"]
    return sorted((event.start_ns(), event.nbytes()) for event in allocations)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Nothing from the C++ part of the profiler, which says when it starts, and that there is no GPU."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(nowhere)
        os.close(stderr)


def highest(found: Sequence[Change], start: int = 0, end: int | None = None) -> float:
    """Megabytes more than at the start that are held at once between two times.

    >>> highest([(1, 4_000_000), (2, 1_000_000), (3, -4_000_000)], start=2)
    1.0
    """
    held = most = 0
    for when, change in found:
        if when >= start and (end is None or when <= end):
            held += change
            most = max(most, held)
    return most / 1e6
