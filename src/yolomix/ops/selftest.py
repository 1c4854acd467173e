"""A backend is not trusted before it has solved a tiny problem as the reference does; and what to tell about it.

An operator with backends of other frameworks has a file ``example`` with ``inputs(device)``: the operator's
inputs, small, the same at every call, with tensors that are leaves.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from yolomix import ops
from yolomix.ops.dispatch import Backend, package_refusal

TOLERANCE = 2e-3  # of the norm: a GPU may multiply matrices in TF32; an error of one percent is found


@dataclass(frozen=True)
class Status:
    """One backend of one operator on this machine; it can be used when ``reasons`` is empty.

    Args:
        op: operator.
        backend: what users write.
        device: the device type that it serves, or "any".
        automatic: whether "auto" may take it.
        reasons: why it cannot be used here, as sentences.
    """

    op: str
    backend: str
    device: str
    automatic: bool
    reasons: tuple[str, ...]


def report() -> list[Status]:
    """Every backend of every operator, with the reasons why it cannot be used here, after its self-test."""
    found = []
    for module in pkgutil.iter_modules(ops.__path__):
        if module.ispkg and not module.name.startswith("_"):
            table: Sequence[Backend] = importlib.import_module(f"{ops.__name__}.{module.name}").BACKENDS
            found += [
                Status(module.name, row.name, row.device or "any", row.automatic, tuple(reasons(row))) for row in table
            ]
    return found


def reasons(row: Backend) -> list[str]:
    """Why a backend can compute nothing on this machine, as sentences; gradients are tested as well."""
    if row.device == "cuda" and not torch.cuda.is_available():
        return ["no CUDA device here"]
    if row.needs is None:
        return []
    missing = package_refusal(row.needs)
    wrong = missing or refusal(row.module, row.device or "cpu", gradients=True)
    return [wrong] if wrong else []


@functools.cache
def refusal(module: str, device: str, gradients: bool) -> str | None:
    """The reason not to trust a backend, or None; once per process and argument.

    Raises:
        RuntimeError: a CUDA graph is being captured, in which nothing can be compared.
        torch.cuda.OutOfMemoryError: the GPU is full, which says nothing about the backend.
    """
    if device == "cuda" and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "a backend is tested before its first use, and now a CUDA graph is being captured: run the model once "
            "before that, as PyTorch asks for every capture"
        )
    package = module.rpartition(".")[0]
    inputs = importlib.import_module(f"{package}.example").inputs
    try:
        with _disable_current_modes(), torch.inference_mode(False), torch.autocast(device, enabled=False):
            got = answer(module, inputs(device), gradients)
            want = answer(f"{package}.reference", inputs(device), gradients)
            error = max(distance(x, y) for x, y in zip(got, want, strict=True))
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as failure:  # noqa: BLE001  (whatever a framework raises on this machine is a reason)
        return f"its self-test on {device} raised {type(failure).__name__}: {first_line(failure)}"
    if not error <= TOLERANCE:  # not a number is wrong as well
        return f"its self-test on {device} is off by {error:.1e} of the reference's norm, more than {TOLERANCE}"
    return None


def answer(module: str, inputs: Sequence[Any], gradients: bool) -> list[Tensor]:
    """The output of a backend, and with ``gradients`` also those of its sum of squares."""
    run = importlib.import_module(module).run
    with torch.set_grad_enabled(gradients):
        tensors = [x.requires_grad_(gradients) for x in inputs if isinstance(x, Tensor)]
        out = run(inputs)
        if not gradients:
            return [out]
        return [out.detach(), *torch.autograd.grad(out.square().sum(), tensors)]


def distance(got: Tensor, want: Tensor) -> float:
    """Norm of the difference over the norm of what is right."""
    return float((got.double() - want.double()).norm() / want.double().norm())


def first_line(error: Exception) -> str:
    """What an error says, without the pages that compilers add."""
    return next(iter(str(error).strip().splitlines()), "nothing")
