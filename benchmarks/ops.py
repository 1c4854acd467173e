"""Operators on a CPU: ``python -m benchmarks.ops [--threads 1] [--out FILE.csv] [--quick]``.

The scan and the 2D selective scan at the stages S1 to S4 of Mamba-YOLO-T at 640 pixels, forward, backward and
both, by every backend and peer in turn; attention in small groups by products and by PyTorch's own function. An answer
that differs from float64 is never timed. ``share`` is the fraction of the L1-resident peak that a row reaches: the time
of as many states and time steps in the first-level cache, over its own.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import attention, cpu_timing, peers
from benchmarks.cpu_timing import CAREFUL, QUICK, Effort, Timing, Work
from benchmarks.table import Table, file_for
from yolomix.ops.ss2d import ss2d

STAGES = {"S1": (64, 160, 2), "S2": (128, 80, 4), "S3": (256, 40, 8), "S4": (512, 20, 16)}  # channels, side, rank
IMAGE = {"S1": 1, "S2": 2, "S3": 5, "S4": 2}  # 2D selective scans of Mamba-YOLO-T for one image
TWICE = {"S1 at 1280": (64, 320, 2)}
TINY = {"S1": (16, 4, 1), "S2": (16, 4, 1), "S3": (16, 3, 1), "S4": (16, 2, 2)}  # for the benchmark's own test
STATES = 16
TOLERANCE = 1e-4  # of the largest value, outputs and gradients
FORWARD, BACKWARD, BOTH = "forward", "backward", "forward+backward"
LARGEST = 7_000_000  # values of (B, D, L, N) tensors that peers are asked to differentiate


def scan_arguments(channels: int, side: int, rank: int) -> list[Tensor]:
    """A scan of four directions in one: 4 * channels channels in four groups."""
    torch.manual_seed(0)
    D, L = 4 * channels, side * side
    u, delta = torch.randn(1, D, L), 0.5 * torch.randn(1, D, L)
    B, C = torch.randn(1, 4, STATES, L), torch.randn(1, 4, STATES, L)
    return [u, delta, -torch.exp(0.5 * torch.randn(D, STATES)), B, C, torch.ones(D), torch.randn(D) / 2 - 2]


def map_arguments(channels: int, side: int, rank: int) -> list[Tensor]:
    """A map in channels-last memory, and the parameters of its scan."""
    torch.manual_seed(0)
    x = torch.randn(1, channels, side, side).to(memory_format=torch.channels_last)
    weights = [torch.randn(4, rank + 2 * STATES, channels) / channels**0.5, torch.randn(4, channels, rank) / rank**0.5]
    rates = -torch.exp(0.5 * torch.randn(4 * channels, STATES))
    return [x, *weights, torch.randn(4, channels) / 2 - 2, rates, torch.ones(4 * channels)]


def check(what: str, name: str, function: peers.Function, arguments: list[Tensor]) -> None:
    """Raise unless output and gradients of a scan agree with our reference in float64, as ``agree`` does."""
    truth = functools.partial(peers.ours, backend="reference") if what == "scan" else ss2d_reference
    agree(what, truth, {name: function}, arguments)


def agree(what: str, truth: peers.Function, functions: dict[str, peers.Function], arguments: list[Tensor]) -> None:
    """Raise unless output and gradients agree with the truth in float64.

    Raises:
        RuntimeError: they do not; nothing of this contestant may be timed.
    """
    want = _answers(truth, [x.double().requires_grad_() for x in arguments])
    for name, function in functions.items():
        got = _answers(function, [x.detach().clone().requires_grad_() for x in arguments])
        for i, (one, right) in enumerate(zip(got, want, strict=True)):
            error = ((one.double() - right).abs().max() / right.abs().max()).item()
            if not error <= TOLERANCE:
                which = "output" if i == 0 else f"gradient {i - 1}"
                raise RuntimeError(
                    f"refusing to time a wrong answer: {which} of {what} by {name} is off by {error:.1e} of the "
                    f"largest value, at most {TOLERANCE} allowed"
                )


ss2d_reference = functools.partial(ss2d, backend="reference")


def _answers(function: peers.Function, arguments: list[Tensor]) -> list[Tensor]:
    out = function(*arguments)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), arguments)]


def works(functions: dict[str, peers.Function], arguments: list[Tensor], mode: str) -> dict[str, Work]:
    """What is timed of every contestant in a pass."""
    return {name: work(function, arguments, mode) for name, function in functions.items()}


def work(function: peers.Function, arguments: list[Tensor], mode: str) -> Work:
    """The call without gradients; the backward pass of a call; or both."""
    if mode == FORWARD:
        return torch.no_grad()(functools.partial(function, *arguments))
    leaves = [x.detach().requires_grad_() for x in arguments]
    out = function(*leaves)
    weights = torch.ones_like(out)
    if mode == BOTH:
        return lambda: torch.autograd.grad(function(*leaves), leaves, weights)
    return lambda: torch.autograd.grad(out, leaves, weights, retain_graph=True)


def entered(name: str, mode: str, states: int) -> bool:
    """Whether a contestant takes part: the backward pass of a loop is quadratic, that of a peer needs gigabytes."""
    return mode == FORWARD or name in ("numba", "eager", "four copies, numba scan") or (
        name == "mambapy" and states <= LARGEST
    )  # fmt: skip


def measure(
    table: Table, what: str, make: Callable[..., list[Tensor]], shapes: dict[str, tuple[int, int, int]],
    functions: dict[str, peers.Function], modes: tuple[str, ...], state_ns: float, effort: Effort,
) -> dict[tuple[str, str], Timing]:  # fmt: skip
    """Rows of one operator; returns the timings of our kernels by shape and pass."""
    for name, function in functions.items():
        check(what, name, function, make(16, 5, 2))
    ours = {}
    for shape, (channels, side, rank) in shapes.items():
        arguments, states = make(channels, side, rank), 4 * channels * side * side * STATES
        for mode in modes:
            entrants = {name: f for name, f in functions.items() if entered(name, mode, states)}
            for name, timing in cpu_timing.interleaved(works(entrants, arguments, mode), effort).items():
                limit_ms = states * state_ns / 1e6 if mode == FORWARD else None
                row = {"what": what, "shape": shape, "dtype": "float32", "pass": mode, "backend": name}
                table.add(row, timing, limit_ms)
                if name == "numba":
                    ours[shape, mode] = timing
    return ours


def main(argv: list[str] | None = None) -> int:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ops", description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch and of our kernels")
    parser.add_argument("--out", type=Path, help="CSV file; default: that of this machine in benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, two rounds: does it run at all?")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    effort, stages, twice = (QUICK, TINY, {}) if options.quick else (CAREFUL, STAGES, TWICE)
    table = Table(options.out or file_for("ops"))
    state_ns = cpu_timing.nanoseconds_per_state(effort) / options.threads
    table.add({"what": "limit", "shape": "exp and multiply in cache", "note": f"{state_ns:.4f} ns per state and step"})
    rate = cpu_timing.copy_gigabytes_per_second(effort)
    table.add({"what": "limit", "shape": "copy", "note": f"{rate:.1f} GB/s read and written"})
    measure(table, "scan", scan_arguments, stages, peers.scans(), (FORWARD, BACKWARD, BOTH), state_ns, effort)
    scans = peers.map_scans()
    found = measure(table, "ss2d", map_arguments, stages, scans, (FORWARD, BACKWARD, BOTH), state_ns, effort)
    image_ms = sum(count * found[stage, FORWARD].quantiles()[1] for stage, count in IMAGE.items())
    row = {"what": "ss2d", "shape": "1 S1 + 2 S2 + 5 S3 + 2 S4", "dtype": "float32", "pass": FORWARD}
    table.add(row | {"backend": "numba"}, Timing(None, [image_ms]))
    only = {"numba": scans["numba"]}
    measure(table, "ss2d", map_arguments, twice, only, (FORWARD,), state_ns, effort)
    for what, shapes in (attention.TINY if options.quick else attention.SHAPES).items():
        measure_attention(table, what, shapes, effort)
    return 0


def measure_attention(table: Table, what: str, shapes: dict[str, tuple[int, ...]], effort: Effort) -> None:
    """Rows of one kind of attention."""
    for shape, sizes in shapes.items():
        arguments = attention.arguments(*sizes)
        agree(what, attention.FUNCTIONS["plain products"], attention.FUNCTIONS, arguments)
        for mode in (FORWARD, BOTH):
            for name, timing in cpu_timing.interleaved(works(attention.FUNCTIONS, arguments, mode), effort).items():
                table.add({"what": what, "shape": shape, "dtype": "float32", "pass": mode, "backend": name}, timing)


if __name__ == "__main__":
    sys.exit(main())
