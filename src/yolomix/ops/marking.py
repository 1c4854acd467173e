"""Operators as single nodes of an ONNX graph, marked for what is put in their place when the graph is complete.

Either ONNX exporter, that of TorchScript (``dynamo=False``) and the newer one, records a call of an operator as one
node of a domain of our own. It sees no scan, so nothing is unrolled and sizes stay symbols. ``ops/_onnx/lower.py``
replaces the nodes; no file has any.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from yolomix.ops.tracing import constant_in_graphs, exported_into_onnx, traced_into_onnx

DOMAIN = "yolomix"


class Choice(NamedTuple):
    """How a call of an operator with a mark is recorded: as a node, or as plain operations.

    >>> Choice("ss2d", ["eager is asked for"]).is_marked
    False

    Args:
        operator: its name.
        plain: the reasons why it stays plain operations, as sentences; none if it becomes a node.
    """

    operator: str
    plain: list[str]

    @property
    def is_marked(self) -> bool:
        """Whether the call becomes a node."""
        return not self.plain


def _pass_by(choice: Choice) -> None:
    """Nobody asked."""


class _Marking(NamedTuple):
    is_rehearsed: bool
    note: Callable[[Choice], None]


_marking: contextvars.ContextVar[_Marking | None] = contextvars.ContextVar("yolomix_marking", default=None)


@contextmanager
def _set(to: _Marking) -> Iterator[None]:
    token = _marking.set(to)
    try:
        yield
    finally:
        _marking.reset(token)


def marking() -> AbstractContextManager[None]:
    """Mark the operators in every ONNX graph that is traced inside the block; who marks has to lower them.

    >>> with marking():
    ...     is_marking()  # no graph is traced
    False
    """
    return _set(_Marking(False, _pass_by))


def rehearsing(note: Callable[[Choice], None]) -> AbstractContextManager[None]:
    """Choose operators inside the block as a marked export would, although nothing is traced.

    Outputs of marked operators are zeros.

    >>> from yolomix.ops.ss2d import OPERATOR, example
    >>> with rehearsing(print):
    ...     y = OPERATOR(example.inputs("cpu"))
    Choice(operator='ss2d', plain=[])

    Args:
        note: is told of every call of an operator that has a mark.
    """
    return _set(_Marking(True, note))


@constant_in_graphs
def is_marking() -> bool:
    """Whether operators are to be marked: an ONNX graph is traced for that, or it is rehearsed."""
    asked = _marking.get()
    return asked is not None and (asked.is_rehearsed or traced_into_onnx() or exported_into_onnx())


def note(choice: Choice) -> None:
    """Tell who rehearses how a call will be recorded."""
    asked = _marking.get()
    if asked is not None:
        asked.note(choice)


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
    record = _record if exported_into_onnx() else _Mark.apply
    output: Tensor = record(operator, ",".join(given), flags, *given.values())
    return output


def _record(operator: str, names: str, flags: dict[str, int], *tensors: Tensor) -> Tensor:
    """The node in a program of ``torch.export``."""
    first, attributes = tensors[0], dict[str, Any](flags, names=names)
    node: Tensor = torch.onnx.ops.symbolic(
        f"{DOMAIN}::{operator}", tensors, attributes, dtype=first.dtype, shape=first.shape, version=1
    )
    return node


class _Mark(torch.autograd.Function):
    """A node of :data:`DOMAIN`, with the names of its inputs."""

    @staticmethod
    def forward(ctx: Any, operator: str, names: str, flags: dict[str, int], *tensors: Tensor) -> Tensor:
        return torch.zeros_like(tensors[0], memory_format=torch.contiguous_format)

    @staticmethod
    def symbolic(g: Any, operator: str, names: str, flags: dict[str, int], *tensors: Any) -> Any:
        attributes = {f"{name}_i": int(value) for name, value in flags.items()}
        node = g.op(f"{DOMAIN}::{operator}", *tensors, names_s=names, **attributes)
        return node.setType(tensors[0].type())
