"""Operators as single nodes of an ONNX graph, marked for what is put in their place when the graph is complete.

The TorchScript exporter records a call of an operator as one node of a domain of our own. It sees no scan, so nothing
is unrolled and sizes stay symbols. ``ops/_onnx/lower.py`` replaces the nodes; no file has any.
"""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from yolomix.ops.tracing import constant_in_graphs, traced_into_onnx

DOMAIN = "yolomix"

_marking: contextvars.ContextVar[bool] = contextvars.ContextVar("yolomix_marking", default=False)


@contextmanager
def marking() -> Iterator[None]:
    """Mark the operators in every ONNX graph that is traced inside the block; who marks has to lower them.

    >>> with marking():
    ...     is_marking()  # no graph is traced
    False
    """
    token = _marking.set(True)
    try:
        yield
    finally:
        _marking.reset(token)


@constant_in_graphs
def is_marking() -> bool:
    """Whether an ONNX graph is traced whose operators are to be marked."""
    return _marking.get() and traced_into_onnx()


def mark(operator: str, tensors: dict[str, Tensor | None], **flags: int) -> Tensor:
    """One node for a call of an operator: zeros of the shape and type of the first tensor stand for its output.

    >>> mark("ss2d", {"x": torch.ones(1, 2)})
    tensor([[0., 0.]])

    Args:
        operator: its name, the node's type.
        tensors: the inputs by their names; those that are None are left out.
        flags: the other inputs, attributes of the node.
    """
    given = {name: x for name, x in tensors.items() if x is not None}
    output: Tensor = _Mark.apply(operator, ",".join(given), flags, *given.values())
    return output


class _Mark(torch.autograd.Function):
    """A node of :data:`DOMAIN`, with the names of its inputs and the shape of the first, as it was traced."""

    @staticmethod
    def forward(ctx: Any, operator: str, names: str, flags: dict[str, int], *tensors: Tensor) -> Tensor:
        return torch.zeros_like(tensors[0], memory_format=torch.contiguous_format)

    @staticmethod
    def symbolic(g: Any, operator: str, names: str, flags: dict[str, int], *tensors: Any) -> Any:
        attributes: dict[str, Any] = {f"{name}_i": int(value) for name, value in flags.items()}
        shape = tensors[0].type().sizes()
        if shape is not None:
            attributes["shape_i"] = shape
        node = g.op(f"{DOMAIN}::{operator}", *tensors, names_s=names, **attributes)
        return node.setType(tensors[0].type())
