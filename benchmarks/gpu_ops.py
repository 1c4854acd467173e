"""The operators on a GPU: who is compared, at which shapes, against which answer and which limit."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks import gpu_timing
from benchmarks.four_copy import four_copy
from yolomix.ops.selective_scan import selective_scan
from yolomix.ops.ss2d import ss2d

Function = Callable[..., Tensor]
# channels, height and width, rank
SHAPES = {"S1": (64, 160, 2), "S2": (128, 80, 4), "S3": (256, 40, 8), "S4": (512, 20, 16)}
BATCHES = (32, 8, 1)  # the largest first: it is what the targets speak of
DTYPES = (torch.float32, torch.bfloat16)
STATES = 16
CHANNELS_LAST = "scan, channels last"
OPS = ("ss2d", "scan", CHANNELS_LAST)
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}  # of the largest value, outputs and gradients


def ours(*args: Tensor) -> Tensor:
    """Our scan in the form that the four-copy pipeline and mamba_ssm share."""
    u, delta, A, B, C, D, bias = args
    found = selective_scan(u, delta, A, B, C, D, None, bias, True, backend="triton")
    assert isinstance(found, Tensor)
    return found


def plain(*args: Tensor) -> Tensor:
    """The same in plain PyTorch."""
    u, delta, A, B, C, D, bias = args
    found = selective_scan(u, delta, A, B, C, D, None, bias, True, backend="eager")
    assert isinstance(found, Tensor)
    return found


def official(*args: Tensor) -> Tensor:
    """mamba_ssm's CUDA kernel."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    u, delta, A, B, C, D, bias = args
    found: Tensor = selective_scan_fn(u, delta, A, B, C, D, None, bias, True)
    return found


class VMambaScan(torch.autograd.Function):
    """VMamba's CUDA kernel, its extension ``selective_scan_cuda_oflex``."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
        """Outputs, (B, D, L)."""
        kernels = importlib.import_module("selective_scan_cuda_oflex")
        out: Tensor
        out, states, *_ = kernels.fwd(u, delta, A, B, C, D, bias, True, 1, True)
        ctx.save_for_backward(u, delta, A, B, C, D, bias, states)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the seven arguments."""
        kernels = importlib.import_module("selective_scan_cuda_oflex")
        *arguments, states = ctx.saved_tensors
        return tuple(kernels.bwd(*arguments, grads[0].contiguous(), states, True, 1)[:7])


def foreign() -> dict[str, Function]:
    """The CUDA kernels of others that are installed here, fastest first."""
    known = {"mamba_ssm": ("mamba_ssm", official), "VMamba": ("selective_scan_cuda_oflex", VMambaScan.apply)}
    return {name: scan for name, (package, scan) in known.items() if importlib.util.find_spec(package) is not None}


def contestants(op: str) -> dict[str, Function]:
    """Who computes the operator, by name; the kernels of others where they are installed.

    "scan" has sequences in the memory that mamba_ssm takes, which our kernels copy; the other one is what they read.
    """
    if op == CHANNELS_LAST:
        return {"yolomix triton": ours}
    scans: dict[str, Function] = {"yolomix triton": ours, "yolomix eager": plain} | foreign()
    if op == "scan":
        return scans
    maps: dict[str, Function] = {
        "yolomix triton": functools.partial(ss2d, backend="triton"),
        "yolomix eager": functools.partial(ss2d, backend="eager"),
    }
    inside = {name: scan for name, scan in scans.items() if name != "yolomix eager"}
    return maps | {f"four copies, {name}": functools.partial(four_copy, scan=scan) for name, scan in inside.items()}


@dataclass(frozen=True)
class Problem:
    """One operator at one size; its arguments are random and the same for everybody."""

    op: str
    shape: str
    batch: int
    dtype: torch.dtype

    @property
    def length(self) -> int:
        """Time steps of a sequence, as many as the feature map has spatial positions."""
        return int(SHAPES[self.shape][1]) ** 2

    def arguments(self, grad: bool) -> list[Tensor]:
        """Arguments of ``ss2d``, or of a scan of 4 * D channels in four groups."""
        channels, side, rank = SHAPES[self.shape]
        torch.manual_seed(0)
        random = functools.partial(torch.randn, device=gpu_timing.DEVICE)
        A = -torch.arange(1.0, STATES + 1, device=gpu_timing.DEVICE).repeat(4 * channels, 1)
        if self.op == "ss2d":
            x = random(self.batch, channels, side, side).to(self.dtype).to(memory_format=torch.channels_last)
            weights = [random(4, rank + 2 * STATES, channels) / channels**0.5, random(4, channels, rank) / 4]
            found = [x, *weights, random(4, channels) / 2 - 4, A, torch.ones(4 * channels, device=gpu_timing.DEVICE)]
        else:
            u, delta = (random(self.batch, 4 * channels, self.length).to(self.dtype) for _ in range(2))
            if self.op == CHANNELS_LAST:
                u, delta = (x.mT.contiguous().mT for x in (u, delta))
            B, C = (random(self.batch, 4, STATES, self.length).to(self.dtype) for _ in range(2))
            bias = random(4 * channels) / 2 - 4
            found = [u, delta, A, B, C, torch.ones(4 * channels, device=gpu_timing.DEVICE), bias]
        return [t.requires_grad_(grad) for t in found]

    def exponentials(self, backward: bool) -> int:
        """What the recurrence needs at least: one per state and time step, and two per time step for its step size.

        Three times that with gradients: the states are computed again, and walked back.
        """
        step_sizes = self.batch * 4 * SHAPES[self.shape][0] * self.length
        return step_sizes * (STATES + 2) * (3 if backward else 1)

    def bytes(self, backward: bool) -> int:
        """What has to pass through memory at least: every argument once, the result once; gradients likewise."""
        size = torch.tensor([], dtype=self.dtype).element_size()
        channels = SHAPES[self.shape][0]
        values = self.batch * self.length
        if self.op == "ss2d":
            forward = values * channels * (size + 4)
            return forward + values * channels * (4 + 2 * size) if backward else forward
        forward = values * 4 * size * (3 * channels + 2 * STATES)
        return forward + values * 4 * size * (5 * channels + 4 * STATES) if backward else forward


def problems() -> Iterator[Problem]:
    """Every operator at every size."""
    for batch in BATCHES:
        for dtype in DTYPES:
            for shape in SHAPES:
                for op in OPS:
                    yield Problem(op, shape, batch, dtype)


def work(function: Function, problem: Problem, backward: bool) -> Callable[[], object]:
    """What is timed: the call, or the call and the gradients of all arguments."""
    arguments = problem.arguments(backward)
    if not backward:
        return torch.no_grad()(functools.partial(function, *arguments))
    with torch.no_grad():
        weights = torch.randn_like(function(*arguments))

    def step() -> object:
        return torch.autograd.grad(function(*arguments), arguments, weights)

    return step


def check(op: str, name: str, function: Function, dtype: torch.dtype) -> None:
    """Raise unless outputs and all gradients agree with float64 on every stage, with one image or two.

    Raises:
        RuntimeError: they do not; nothing of this contestant may be timed.
    """
    for shape in SHAPES:
        check_one(Problem(op, shape, 2 if shape == "S4" else 1, dtype), name, function)


def check_one(small: Problem, name: str, function: Function) -> None:
    """Raise RuntimeError unless output and all gradients of this very problem agree with float64."""
    op, dtype = small.op, small.dtype
    got = _answers(function, small.arguments(True))
    for index, (one, right) in enumerate(zip(got, _right(small), strict=True)):
        error = ((one.double() - right).abs().max() / right.abs().max()).item()
        if not error <= TOLERANCE[dtype]:
            what = "output" if index == 0 else f"gradient {index - 1}"
            raise RuntimeError(
                f"refusing to time a wrong answer: {op} {small.shape} by {name} in {dtype}, {what} is off by "
                f"{error:.1e} of the largest value, at most {TOLERANCE[dtype]} allowed"
            )


@functools.lru_cache(maxsize=len(SHAPES))
def _right(problem: Problem) -> list[Tensor]:
    """Output and gradients in float64."""
    function = functools.partial(ss2d, backend="eager") if problem.op == "ss2d" else plain
    return _answers(function, [t.detach().double().requires_grad_() for t in problem.arguments(False)])


def _answers(function: Function, arguments: list[Tensor]) -> list[Tensor]:
    out = function(*arguments)
    torch.manual_seed(1)
    weights = torch.randn(out.shape, device=out.device)
    return [out.detach(), *torch.autograd.grad(out, arguments, weights.to(out.dtype))]
