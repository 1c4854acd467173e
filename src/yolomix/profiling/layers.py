"""What happens inside a model while it runs: shapes, times, memory and backends of every module that is looked at."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from yolomix.ops.dispatch import choices
from yolomix.profiling.latency import Latency

Shape = tuple[int, ...]


@dataclass
class Seen:
    """What is seen of one module in one or several passes.

    Attributes:
        shapes: of its outputs.
        backends: of the operators that it calls, in order.
        clock: seconds of every call.
        cpu: seconds of the processor.
        spans: when it ran, nanoseconds since 1970.
    """

    shapes: tuple[Shape, ...] = ()
    backends: dict[str, str] = field(default_factory=dict)
    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)

    @property
    def latency(self) -> Latency | None:
        """Its time, None where it was not called."""
        return Latency.of(self.clock, self.cpu) if self.clock else None


@contextmanager
def watched(modules: Mapping[str, nn.Module], device: str = "cpu") -> Iterator[dict[str, Seen]]:
    """Look at these modules inside the block; a module that is called several times in a pass adds up.

    >>> layer = nn.Conv2d(3, 4, 1)
    >>> with watched({"a": layer}) as seen:
    ...     y = layer(torch.zeros(1, 3, 5, 5))
    >>> seen["a"].shapes
    ((1, 4, 5, 5),)
    """
    seen: dict[str, Seen] = defaultdict(Seen)
    handles = []
    with choices() as ran:
        for name, module in modules.items():
            before, after = _hooks(seen[name], ran, device)
            handles += [
                module.register_forward_pre_hook(before, with_kwargs=True),
                module.register_forward_hook(after, with_kwargs=True),
            ]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()


def _hooks(seen: Seen, ran: list[tuple[str, str]], device: str) -> tuple[Callable[..., None], Callable[..., None]]:
    state: dict[str, Any] = {}

    def _before(module: nn.Module, args: Any, kwargs: Any) -> None:
        if device != "cpu":
            torch.accelerator.synchronize()
        state.update(ran=len(ran), span=time.time_ns(), clock=time.perf_counter(), cpu=time.process_time())

    def _after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if device != "cpu":
            torch.accelerator.synchronize()
        seen.clock.append(time.perf_counter() - state["clock"])
        seen.cpu.append(time.process_time() - state["cpu"])
        seen.spans.append((state["span"], time.time_ns()))
        seen.backends.update(dict(ran[state["ran"] :]))
        seen.shapes = tuple(tuple(t.shape) for t in tensors(output))

    return _before, _after


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in what a module returns.

    >>> len([*tensors({"a": (torch.ones(1), [torch.ones(2)]), "b": 3})])
    2
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)
