"""Whether operations run now or are recorded into a graph: this file alone knows how PyTorch says so.

There are four recorders: ``torch.compile``, ``torch.export``, the ONNX exporter and the TorchScript tracer.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., object])

_longest: contextvars.ContextVar[int | None] = contextvars.ContextVar("yolomix_longest_sort", default=None)


def constant_in_graphs(function: Function) -> Function:
    """Let ``torch.compile`` call a function while it traces, and keep the answer.

    >>> @constant_in_graphs
    ... def two() -> int:
    ...     return 2
    >>> two()
    2
    """
    # What torch.compiler.assume_constant_result does, which imports the compiler (one second) to do it.
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def into_a_graph() -> bool:
    """Whether a graph is recorded, to be compiled here or to be exported.

    >>> into_a_graph()
    False
    """
    return exporting() or torch.compiler.is_compiling()


def exporting() -> bool:
    """Whether a graph is recorded for somewhere else, by ``torch.export``, ONNX or TorchScript.

    >>> exporting()
    False
    """
    return _into_a_program() or into_a_file()


def into_a_file() -> bool:
    """Whether a graph for another runtime is recorded, by the ONNX or the TorchScript exporter.

    >>> into_a_file()
    False
    """
    return torch.onnx.is_in_onnx_export() or torch._C._get_tracing_state() is not None


def traced_into_onnx() -> bool:
    """Whether a graph for an ONNX file is recorded by the TorchScript tracer, which is ``dynamo=False``.

    >>> traced_into_onnx()
    False
    """
    return torch.onnx.is_in_onnx_export() and torch._C._get_tracing_state() is not None


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Let the nodes that are traced inside the block say that they belong together: ``/model.4/op/<name>/Mul``.

    Whoever replaces nodes, or gives them a precision, finds them by that.

    >>> with scope("ss2d"):
    ...     pass  # nothing is traced
    """
    if not traced_into_onnx():
        yield
        return
    state = torch._C._get_tracing_state()
    state.push_scope(f"{__name__}::{name}")  # as modules do
    try:
        yield
    finally:
        state.pop_scope()


def exported_into_onnx() -> bool:
    """Whether ``torch.export`` records for an ONNX file, which is ``dynamo=True``, and can hold our nodes.

    >>> exported_into_onnx()
    False
    """
    # PyTorch has no way to record a node of another domain before 2.8.
    return torch.onnx.is_in_onnx_export() and _into_a_program() and hasattr(torch.onnx, "ops")


@contextmanager
def sorting_at_most(count: int) -> Iterator[None]:
    """Graphs that are recorded inside the block are for a runtime that sorts so many elements at most.

    >>> with sorting_at_most(0):
    ...     print(longest_sort())  # no graph is recorded
    None

    Args:
        count: 0 of a runtime that neither sorts nor indexes by what it computed.
    """
    token = _longest.set(count)
    try:
        yield
    finally:
        _longest.reset(token)


@constant_in_graphs
def longest_sort() -> int | None:
    """How many elements can be sorted where a graph is recorded for; None for any number, as here.

    >>> longest_sort() is None
    True
    """
    return _longest.get() if exporting() else None


def behind_proxy(module: torch.nn.Module) -> torch.nn.Module:
    """The module itself, behind the proxy of a class of its own that ``torch.export`` may put around it.

    >>> behind_proxy(torch.nn.Identity())
    Identity()
    """
    get_base = getattr(type(module), "get_base", None)
    return module if get_base is None else get_base(module)


@constant_in_graphs
def _into_a_program() -> bool:
    """Whether ``torch.export`` records."""
    # PyTorch before 2.9 says yes whenever it is asked in a graph, so it is asked outside, as a constant.
    if torch.compiler.is_exporting():
        return True
    # Outside of a graph it forgets a strict export, of which only the compiler's own tracer knows.
    tracer = sys.modules.get("torch._dynamo.symbolic_convert")
    if tracer is None:
        return False
    try:
        return bool(tracer.InstructionTranslator.current_tx().export)
    except AttributeError:  # nothing is being traced
        return False
