"""Registering a kernel as an operator of PyTorch, so that compiled and exported graphs hold it as one node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload


def operator(name: str, run: Callable[..., Any], fake: Callable[..., Any]) -> OpOverload:
    """The operator ``yolomix::name`` on CPU: ``run`` computes, ``fake`` makes outputs of the right kind only.

    Both have the same annotated arguments and change none of them. ``torch.library.custom_op`` does the same and
    imports the whole compiler (one second) at the first call; this does not.
    """
    qualified = f"yolomix::{name}"
    torch.library.define(qualified, torch.library.infer_schema(run, mutates_args=()))
    torch.library.impl(qualified, "cpu", run)
    torch.library.register_fake(qualified, fake)
    overload: OpOverload = getattr(torch.ops.yolomix, name).default
    return overload


def refuse_second_derivative(op: str) -> None:
    """To be called in a backward pass: raise if that is to be differentiated, which its kernel cannot.

    Raises:
        NotImplementedError: gradients are recorded, because of ``create_graph=True``.
    """
    if torch.is_grad_enabled():
        raise NotImplementedError(
            f"the numba {op} has no second derivative, and create_graph=True asked for one; "
            'take backend="reference" for it'
        )
