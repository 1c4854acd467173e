"""Registering a kernel as an operator of PyTorch, so that compiled and exported graphs hold it as one node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_type_hints

import torch
from torch import Tensor
from torch._ops import OpOverload

_SCHEMA_TYPES = {Tensor: "Tensor", Tensor | None: "Tensor?", bool: "bool"}


def operator(
    name: str,
    kinds: Sequence[type[Any]],
    run: Callable[..., Any],
    fake: Callable[..., Any],
    outputs: int,
    gradient: tuple[Callable[..., Any], Callable[..., Any]] | None = None,
) -> OpOverload:
    """The operator ``yolomix::name`` on CPU. It changes none of its arguments.

    ``torch.library.custom_op`` does the same and imports the whole compiler (one second) at the first call; this does
    not. PyTorch keeps an operator for the life of the process, and it its functions: where the module that makes it is
    imported anew, the operator that is there serves on.

    Args:
        name: the operator's name.
        kinds: NamedTuple classes; the operator's arguments are their fields, one after the other.
        run: computes the outputs, of one value of each kind.
        fake: makes outputs of the right shape, type and strides without computing them, of the same values.
        outputs: how many tensors both return.
        gradient: the backward function, and the one that keeps what it needs; as ``torch.library.register_autograd``
            takes them.
    """
    if hasattr(torch.ops.yolomix, name):
        found: OpOverload = getattr(torch.ops.yolomix, name).default
        return found
    qualified = f"yolomix::{name}"
    torch.library.define(qualified, schema(kinds, outputs))
    torch.library.impl(qualified, "cpu", lambda *args: run(*_values(kinds, args)))
    torch.library.register_fake(qualified, lambda *args: fake(*_values(kinds, args)))
    if gradient is not None:
        torch.library.register_autograd(qualified, gradient[0], setup_context=gradient[1])
    overload: OpOverload = getattr(torch.ops.yolomix, name).default
    return overload


def schema(kinds: Sequence[type[Any]], outputs: int) -> str:
    """The schema of an operator whose arguments are the fields of these NamedTuple classes.

    >>> from typing import NamedTuple
    >>> class Scaled(NamedTuple):
    ...     x: Tensor
    ...     factor: Tensor | None
    ...     inverse: bool
    >>> schema([Scaled], outputs=2)
    '(Tensor x, Tensor? factor, bool inverse) -> (Tensor, Tensor)'
    """
    arguments = []
    for kind in kinds:
        for name, annotation in get_type_hints(kind).items():
            arguments.append(f"{_SCHEMA_TYPES[annotation]} {name}")
    return f"({', '.join(arguments)}) -> ({', '.join(['Tensor'] * outputs)})"


def _values(kinds: Sequence[type[Any]], args: tuple[Any, ...]) -> Iterator[Any]:
    """The operator's flat arguments as one value of each kind."""
    start = 0
    for kind in kinds:
        end = start + len(kind._fields)
        yield kind(*args[start:end])
        start = end


def refuse_second_derivative(op: str) -> None:
    """To be called in a backward pass: raise if that is to be differentiated, which its kernel cannot.

    >>> with torch.no_grad():
    ...     refuse_second_derivative("ss2d")
    >>> refuse_second_derivative("ss2d")
    Traceback (most recent call last):
    NotImplementedError: the numba ss2d has no second derivative, and create_graph=True asked for one; take ...

    Raises:
        NotImplementedError: gradients are recorded, because of ``create_graph=True``.
    """
    if torch.is_grad_enabled():
        raise NotImplementedError(
            f"the numba {op} has no second derivative, and create_graph=True asked for one; "
            'take backend="reference" for it'
        )
