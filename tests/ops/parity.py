"""The backends of an operator against its reference: the same inputs, outputs and every gradient, one tolerance a type.

Every row of an operator's table is tested, so a new backend is tested by being entered there. A backend that refuses
float64 is tested in float32; one that refuses that too, or has no device here, is skipped with its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from yolomix.ops.backend import Backend
from yolomix.ops.dispatch import refusals

# Of the largest value, at least 1 for an output: outputs, gradients.
TOLERANCE = {torch.float64: (1e-10, 1e-9), torch.float32: (2e-5, 5e-4)}

Tensors = dict[str, Tensor]


def compared(table: Sequence[Backend]) -> pytest.MarkDecorator:
    """Run a test once for every backend but the reference, as ``row``."""
    rows = [row for row in table if row.name != "reference"]
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


def prepared(row: Backend, tensors: Tensors, order: Callable[[Tensors], tuple[object, ...]]) -> Tensors:
    """The tensors where and in the widest type that the backend takes them, ready for gradients."""
    if row.device == "cuda" and not torch.cuda.is_available():
        pytest.skip(f"GPU check did not run: {row.name} needs a GPU")
    reasons: list[str] = []
    for dtype in TOLERANCE:
        moved = {name: cast(x, dtype).to(row.device or "cpu") for name, x in tensors.items()}
        reasons = refusals(row, order(moved))
        if not reasons:
            return moved
    pytest.skip(f"{row.name}: {'; '.join(reasons)}")


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """In that precision; what is complex stays complex."""
    return x.to(dtype.to_complex() if x.is_complex() else dtype)


def measured(function: Callable[[Tensors], tuple[Tensor, ...]], tensors: Tensors) -> Tensors:
    """Outputs and the gradient of every tensor, for fixed random weights on the outputs."""
    leaves = {name: x.detach().clone().requires_grad_() for name, x in tensors.items()}
    outputs = function(leaves)
    torch.manual_seed(1)
    loss = sum((out * cast(torch.randn(out.shape, dtype=torch.float64), out.dtype.to_real()).to(out.device)).sum()
               for out in outputs)  # fmt: skip
    assert isinstance(loss, Tensor)
    gradients = torch.autograd.grad(loss.real, list(leaves.values()))
    found = {f"output {i}": out.detach() for i, out in enumerate(outputs)}
    return found | {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}


def steeper(tensors: Tensors, name: str) -> Tensors:
    """The same values, one of them with a gradient that is one percent too large."""
    x = tensors[name]
    return tensors | {name: x.detach() + 1.01 * (x - x.detach())}


def error(got: Tensor, want: Tensor) -> float:
    """The largest difference as a fraction of the largest value: it says the same for any vector width or BLAS."""
    return ((got.cpu().double() - want).abs().max() / want.abs().max()).item()


def assert_equal(got: Tensors, want: Tensors) -> None:
    """Outputs and gradients within the tolerance of their type; wanted are the ones of the reference, in float64."""
    assert got.keys() == want.keys()
    for name, right in want.items():
        assert got[name].shape == right.shape, f"{name}: shape {tuple(got[name].shape)}, not {tuple(right.shape)}"
        output = name.startswith("output")
        tolerance = TOLERANCE[got[name].dtype.to_real()][0 if output else 1]
        scale = max(right.abs().max().item(), 1.0 if output else 1e-6)
        off = (got[name].cpu() - right).abs().max().item() / scale
        assert off <= tolerance, f"{name}: error {off:.1e} of the largest value, at most {tolerance} allowed"
