"""A backend is not trusted before it has solved a tiny problem as the reference does.

An operator with backends of other frameworks has a file ``example`` with ``inputs(device)``: the operator's ``Inputs``,
small, the same at every call, with tensors that are leaves.
"""

from __future__ import annotations

import functools
import importlib
import math
import sys
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from yolomix.ops.tracing import constant_in_graphs

TOLERANCE = 2e-3  # of the norm: a GPU may multiply matrices in TF32; an error of one percent is found


@constant_in_graphs
def refusal(module: str, device: str, gradients: bool) -> str | None:
    """The reason not to trust a backend, or None; found once per process and argument.

    >>> refusal("yolomix.ops.ss2d.eager", "cpu", gradients=True) is None
    True

    Args:
        module: the backend file.
        device: type of the device to compute on.
        gradients: whether gradients are compared as well, for which a framework compiles another kernel.

    Raises:
        RuntimeError: a CUDA graph is being captured, in which nothing can be compared; or a program is being exported
            and Numba was not used before.
        torch.cuda.OutOfMemoryError: the GPU is full, which says nothing about the backend.
    """
    return _refusal(module, device, gradients)


@functools.cache
def _refusal(module: str, device: str, gradients: bool) -> str | None:
    if device == "cuda" and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "a backend is tested before its first use, and now a CUDA graph is being captured: run the model once "
            "before that, as PyTorch asks for every capture"
        )
    # torch.export replaces math.pow, which Numba registers by its own name when it compiles for the first time.
    replaced = math.pow.__module__ != "math"
    if module.endswith("numba_cpu") and replaced and "numba.core.typing.mathdecl" not in sys.modules:
        raise RuntimeError(
            "a backend is tested before its first use, and now a program is being exported, for which PyTorch replaces "
            "functions that Numba needs: run the model once before that"
        )
    try:
        error = _error(module, device, gradients)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as failure:  # noqa: BLE001  (whatever a framework raises on this machine is a reason)
        return f"its self-test on {device} raised {type(failure).__name__}: {_first_line(failure)}"
    if not error <= TOLERANCE:  # not "error > TOLERANCE", which lets NaN pass
        return f"its self-test on {device} is off by {error:.1e} of the reference's norm, more than {TOLERANCE}"
    return None


def _error(module: str, device: str, gradients: bool) -> float:
    """The largest error of the backend's answers, each as a fraction of the norm of the reference's."""
    package = module.rpartition(".")[0]
    inputs = importlib.import_module(f"{package}.example").inputs
    # The first call may come from inside a tracer, inference mode or autocast. The test computes with real tensors.
    with _disable_current_modes(), torch.inference_mode(False), torch.autocast(device, enabled=False):
        got = answer(module, inputs(device), gradients)
        want = answer(f"{package}.reference", inputs(device), gradients)
        return max(_distance(x, y) for x, y in zip(got, want, strict=True))


def answer(module: str, inputs: tuple[Any, ...], gradients: bool) -> list[Tensor]:
    """The output of a backend, and with ``gradients`` also those of its sum of squares.

    >>> from yolomix.ops.ss2d import example
    >>> [tuple(x.shape) for x in answer("yolomix.ops.ss2d.eager", example.inputs("cpu"), gradients=False)]
    [(1, 18, 4, 5)]
    """
    run = importlib.import_module(module).run
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    with torch.set_grad_enabled(gradients):
        for x in tensors:
            x.requires_grad_(gradients)
        out = run(inputs)
        if not gradients:
            return [out]
        return [out.detach(), *torch.autograd.grad(out.square().sum(), tensors)]


def _distance(got: Tensor, want: Tensor) -> float:
    """Norm of the difference over the norm of what is right; both of the same shape, (B, D, L) or any other."""
    return float((got.double() - want.double()).norm() / want.double().norm())


def _first_line(error: Exception) -> str:
    """What an error says, without the pages that compilers add."""
    return next(iter(str(error).strip().splitlines()), "nothing")
