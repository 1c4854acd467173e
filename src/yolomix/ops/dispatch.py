"""One value per operator: calling it checks the inputs, chooses a backend and runs it in full precision.

A backend says in sentences why it cannot run; "auto" takes the first without any. A backend that is named runs or
raises.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from yolomix.ops import selftest
from yolomix.ops.backend import Backend, BackendFile, needs_gradients, package_refusal
from yolomix.ops.forcing import is_counting, wanted
from yolomix.ops.marking import Choice, is_marking, note
from yolomix.ops.precision import full_precision
from yolomix.ops.tracing import constant_in_graphs, exporting, into_a_file, into_a_graph, scope

LOGGER = logging.getLogger("yolomix")

Inputs = TypeVar("Inputs", bound=tuple[Any, ...])
Output = TypeVar("Output")


@dataclass(frozen=True)
class Operator(Generic[Inputs, Output]):
    """An operator, called with its ``Inputs``.

    The first of the inputs is a tensor that stands for all of them in messages: its shape, dtype and device.

    >>> from yolomix.ops.linear_attention import OPERATOR
    >>> OPERATOR.name, [backend.name for backend in OPERATOR.backends]
    ('linear_attention', ['eager', 'reference'])

    Args:
        name: what messages call it.
        backends: fastest first.
        check: raises unless the inputs fit together.
        prepare: brings checked inputs into the form that every backend takes; None leaves them as they are.
        marked: the backend that leaves one node in an ONNX graph, see ``ops/marking.py``; None for plain operations.
    """

    name: str
    backends: tuple[Backend, ...]
    check: Callable[[Inputs], None]
    prepare: Callable[[Inputs], Inputs] | None = None
    marked: Backend | None = None

    def __call__(self, inputs: Inputs, backend: str = "auto") -> Output:
        """The output for these inputs, by the backend that :meth:`choose` finds."""
        if not exporting():  # sizes may be symbols there, of which nothing can be said
            self.check(inputs)
        if self.prepare is not None:
            inputs = self.prepare(inputs)
        if _is_watched():
            _watch(self.name, inputs)
        chosen = self.choose(inputs, backend)
        with full_precision(inputs[0]), scope(self.name):
            return chosen.run(inputs)

    def choose(self, inputs: Inputs, backend: str = "auto") -> BackendFile[Inputs, Output]:
        """The file of the first backend without a refusal for these very inputs.

        >>> from yolomix.ops.ss2d import OPERATOR, example
        >>> OPERATOR.choose(example.inputs("cpu"), "eager").__name__
        'yolomix.ops.ss2d.eager'

        Raises:
            ValueError: this operator has no backend of that name.
            NotImplementedError: no backend takes the inputs; the message has everybody's reasons.
        """
        if is_counting():
            return next(row for row in self.backends if row.name == "eager").load()
        want = wanted(backend, [row.name for row in self.backends])
        if self.marked is not None and is_marking():
            plain = refusals(self.marked, inputs) if want == "auto" else [f"the backend {want!r} is asked for"]
            note(Choice(self.name, plain))
            if not plain:
                return self.marked.load()
        rows = self._candidates(want)
        refused: dict[str, list[str]] = {}
        for row in rows:
            reasons = refusals(row, inputs, named=want != "auto")
            if not reasons:
                _note(self.name, row.name)
                self._announce(row, rows, refused, inputs[0])
                return row.load()
            refused[row.name] = reasons
        x = inputs[0]
        raise NotImplementedError(
            f"no backend of {self.name} takes {tuple(x.shape)} {x.dtype} on {x.device}:\n{_sentences(refused)}"
        )

    def _candidates(self, want: str) -> list[Backend]:
        """The backends that "auto" may take, or the one of that name."""
        if want == "auto":
            return [row for row in self.backends if row.automatic]
        found = [row for row in self.backends if row.name == want]
        if not found:
            names = ", ".join(row.name for row in self.backends)
            raise ValueError(f"{self.name} has no backend {want!r}; choose from auto, {names}")
        return found

    def _announce(self, chosen: Backend, rows: list[Backend], refused: dict[str, list[str]], x: Tensor) -> None:
        """Log what runs on tensors like ``x``, (B, D, L) or another shape; a warning if it is slow there."""
        if x.device.type == "meta":  # shapes are worked out, nothing runs
            return
        # Python shows a warning even to people who set up no logging. Slow is what runs although a faster backend is
        # made for this device. A graph for elsewhere is recorded from the slow backend on purpose.
        faster = [row for row in rows if row.name in refused and row.device == x.device.type]
        level = logging.WARNING if faster and not exporting() else logging.INFO
        _say_once(self.name, chosen.name, refused, level)


def refusals(row: Backend, inputs: tuple[Any, ...], named: bool = False) -> list[str]:
    """The reasons why a backend cannot take the inputs, as sentences; empty when it can.

    A backend of another framework is tested against the reference before it is used for the first time.

    >>> from yolomix.ops.ss2d import example
    >>> refusals(Backend("triton", "yolomix.ops.ss2d.triton_gpu", device="cuda"), example.inputs("cpu"))
    ['it serves cuda tensors, not cpu']

    Args:
        row: the backend.
        inputs: the operator's ``Inputs``, a tensor first.
        named: whether the user asked for this backend. While a graph is exported, "auto" keeps to PyTorch's own
            operations; a backend that is named becomes a node of a program of ``torch.export``.
    """
    device = inputs[0].device.type
    if row.device is not None and device != row.device:
        return [f"it serves {row.device} tensors, not {device}"]
    if row.needs is None:
        return row.load().refusals(inputs)
    # A file format has no node for our kernels, so naming one does not help there.
    if into_a_file() or (exporting() and not named):
        return ["the model is being exported, and a file format knows only plain PyTorch operations"]
    if (missing := package_refusal(row.needs)) is not None:
        return [missing]
    if reasons := row.load().refusals(inputs):
        return reasons
    wrong = selftest.refusal(row.module, device, needs_gradients(inputs))
    return [] if wrong is None else [wrong]


def _sentences(refused: dict[str, list[str]]) -> str:
    return "\n".join(f"  {name}: {'; '.join(reasons)}" for name, reasons in refused.items())


_choices: contextvars.ContextVar[list[tuple[str, str]] | None] = contextvars.ContextVar("yolomix_choices", default=None)


@contextmanager
def choices() -> Iterator[list[tuple[str, str]]]:
    """The operators that are called inside the block and the backends that run, in a list that grows.

    >>> import torch
    >>> from yolomix.ops import linear_attention
    >>> q = torch.ones(1, 4, 2, 2)
    >>> with choices() as ran:
    ...     y = linear_attention(q, q, q, num_heads=1)
    >>> ran
    [('linear_attention', 'eager')]
    """
    ran = list[tuple[str, str]]()
    token = _choices.set(ran)
    try:
        yield ran
    finally:
        _choices.reset(token)


@constant_in_graphs
def _note(op: str, backend: str) -> None:
    ran = _choices.get()
    if ran is not None:
        ran.append((op, backend))


Watcher = Callable[[str, tuple[Any, ...]], None]
_watcher: contextvars.ContextVar[Watcher | None] = contextvars.ContextVar("yolomix_watcher", default=None)


@contextmanager
def watching(see: Watcher) -> Iterator[None]:
    """Show every call of an operator inside the block, before it runs; nothing that a graph records.

    >>> import torch
    >>> from yolomix.ops import linear_attention
    >>> q = torch.ones(1, 4, 2, 2)
    >>> with watching(lambda operator, inputs: print(operator, inputs[0].shape)):
    ...     y = linear_attention(q, q, q, num_heads=1)
    linear_attention torch.Size([1, 4, 2, 2])

    Args:
        see: gets the name of the operator and its ``Inputs``.
    """
    token = _watcher.set(see)
    try:
        yield
    finally:
        _watcher.reset(token)


@constant_in_graphs
def _is_watched() -> bool:
    return _watcher.get() is not None and not into_a_graph()


def _watch(op: str, inputs: tuple[Any, ...]) -> None:
    see = _watcher.get()
    if see is not None:
        see(op, inputs)


_said: set[tuple[str, str, int]] = set()


@constant_in_graphs
def _say_once(op: str, name: str, refused: dict[str, list[str]], level: int) -> None:
    """Say once per operator and process which backend runs and why the faster ones do not."""
    if (op, name, level) in _said:
        return
    _said.add((op, name, level))
    why = f", because\n{_sentences(refused)}" if refused else ""
    LOGGER.log(level, "%s runs on %s%s", op, name, why)
