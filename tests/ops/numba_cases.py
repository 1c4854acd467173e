"""Inputs of the tests of the Numba kernels, and how their results are compared."""

from __future__ import annotations

import torch
from torch import Tensor

from yolomix.ops.selective_scan import selective_scan
from yolomix.ops.ss2d import ss2d

TOLERANCE = 1e-5  # of the largest value: a few units in the last place of float32 for each of a few dozen roundings


def scan_inputs(D: int = 24, N: int = 6, L: int = 70, groups: int = 2, **changes: Tensor | None) -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes = {"u": (2, D, L), "delta": (2, D, L), "A": (D, N), "B": (2, groups, N, L), "C": (2, groups, N, L)}
    shapes |= {"D": (D,), "z": (2, D, L), "delta_bias": (D,)}
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    return tensors | {"A": -tensors["A"].exp()} | changes


def map_inputs(D: int = 24, H: int = 9, W: int = 8, N: int = 6, R: int = 3) -> list[Tensor]:
    torch.manual_seed(0)
    weights = [torch.randn(4, R + 2 * N, D) / D**0.5, torch.randn(4, D, R) / R**0.5, torch.randn(4, D) - 2]
    return [torch.randn(2, D, H, W), *weights, -torch.randn(4 * D, N).exp(), torch.randn(4 * D)]


def gradients(out: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """The output, then the gradients of the tensors for fixed random weights on it."""
    torch.manual_seed(1)
    return [out.detach(), *torch.autograd.grad((out * torch.randn(out.shape)).sum(), tensors)]


def run_scan(backend: str, tensors: dict[str, Tensor]) -> list[Tensor]:
    leaves = {name: x.detach().clone().requires_grad_() for name, x in tensors.items()}
    return gradients(selective_scan(**leaves, delta_softplus=True, backend=backend), [*leaves.values()])


def run_map(backend: str, tensors: list[Tensor]) -> list[Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in tensors]
    return gradients(ss2d(*leaves, backend=backend), leaves)


def right_scan(tensors: dict[str, Tensor]) -> list[Tensor]:
    """What the reference makes of the tensors in float64."""
    return run_scan("reference", {name: x.double() for name, x in tensors.items()})


def right_map(tensors: list[Tensor]) -> list[Tensor]:
    """What the reference makes of the tensors in float64."""
    return run_map("reference", [x.double() for x in tensors])


def error(got: Tensor, want: Tensor) -> float:
    """The largest difference, as a fraction of the largest value that is right."""
    return ((got.double() - want).abs().max() / want.abs().max()).item()


def assert_near(got: list[Tensor], want: list[Tensor]) -> None:
    errors = [error(x, y) for x, y in zip(got, want, strict=True)]
    assert max(errors) <= TOLERANCE, f"errors of the largest value: {', '.join(f'{e:.1e}' for e in errors)}"
