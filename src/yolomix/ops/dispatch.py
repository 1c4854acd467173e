"""Choosing what computes an operator: a backend says in sentences why it cannot, "auto" takes the first without any.

Every operator is a folder with the same file names (``reference``, ``eager``, ``numba_cpu``, ``triton_gpu``) and a
table of :class:`Backend` rows, fastest first. A backend file offers ``refusals(inputs)`` and ``run(inputs)``, both with
the operator's ``Inputs`` value.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TypeVar

import torch

LOGGER = logging.getLogger("yolomix")
ENVIRONMENT = "YOLOMIX_BACKEND"
NAMES = ("auto", "triton", "numba", "eager", "reference")

Answer = TypeVar("Answer", bound=Callable[..., object])

_forced: contextvars.ContextVar[str | None] = contextvars.ContextVar("yolomix_backend", default=None)


@dataclass(frozen=True)
class Backend:
    """One way to compute an operator.

    Args:
        name: what users write, one of ``NAMES``.
        module: the file that has ``refusals`` and ``run``.
        device: the only device type it serves; None serves all.
        needs: the package that the file imports; None needs torch alone.
        automatic: whether "auto" may take it; the reference is only ever chosen by name.
    """

    name: str
    module: str
    device: str | None = None
    needs: str | None = None
    automatic: bool = True

    def load(self) -> ModuleType:
        """Import the file of this backend."""
        import_once(self.module)
        package, _, name = self.module.rpartition(".")
        return getattr(sys.modules[package], name)  # type: ignore[no-any-return]

    def refusals(self, x: torch.Tensor, inputs: tuple[object, ...], named: bool = False) -> list[str]:
        """The reasons why this backend cannot take the arguments, as sentences; empty when it can.

        A backend of another framework is tested against the reference before it is used for the first time. While a
        graph is being exported, "auto" keeps to PyTorch's own operations; one that is ``named`` becomes a node of a
        program of ``torch.export``, but no file format knows it.
        """
        if self.device is not None and x.device.type != self.device:
            return [f"it serves {self.device} tensors, not {x.device.type}"]
        if self.needs is None:
            return list(self.load().refusals(inputs))
        if into_a_file() or (exporting() and not named):
            return ["the model is being exported, and a file format knows only plain PyTorch operations"]
        if (missing := package_refusal(self.needs)) is not None:
            return [missing]
        reasons = list(self.load().refusals(inputs))
        if not reasons and (wrong := self_test(self.module, x.device.type, needs_gradients(inputs))) is not None:
            return [wrong]
        return reasons


def constant_in_graphs(function: Answer) -> Answer:
    """Let ``torch.compile`` call a function while it traces, and keep the answer.

    What ``torch.compiler.assume_constant_result`` does, without importing the compiler (one second) to do it.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant_in_graphs
def self_test(module: str, device: str, gradients: bool) -> str | None:
    """The reason not to trust a backend, or None: its answer to a tiny problem against that of the reference.

    Args:
        module: the file of the backend.
        device: type of the device to compute on.
        gradients: whether gradients are compared as well, which costs another kernel to compile.
    """
    from yolomix.ops import selftest  # only now: it imports what it tests

    return selftest.refusal(module, device, gradients)


def needs_gradients(args: tuple[object, ...]) -> bool:
    """Whether a backward pass may follow a call with these arguments."""
    return torch.is_grad_enabled() and any(isinstance(x, torch.Tensor) and x.requires_grad for x in args)


def into_a_file() -> bool:
    """Whether a graph for another runtime is being recorded by the ONNX or TorchScript exporter."""
    return torch.onnx.is_in_onnx_export() or torch._C._get_tracing_state() is not None


def exporting() -> bool:
    """Whether a graph is being recorded for somewhere else (torch.export, ONNX, TorchScript)."""
    return _torch_export() or into_a_file()


@constant_in_graphs
def _torch_export() -> bool:
    """PyTorch before 2.9 says yes whenever it is asked in a graph, and outside of one it forgets a strict export."""
    if torch.compiler.is_exporting():
        return True
    tracer = sys.modules.get("torch._dynamo.symbolic_convert")
    try:
        return bool(tracer.InstructionTranslator.current_tx().export) if tracer else False
    except AttributeError:  # nothing is being traced
        return False


@constant_in_graphs
def import_once(module: str) -> None:
    """Import a module. ``torch.compile`` breaks a graph at imports, and sees ``sys.modules`` as it was at the start."""
    importlib.import_module(module)


@constant_in_graphs
def package_refusal(package: str) -> str | None:
    """The reason why a package cannot be used, or None. Missing and broken are different reasons."""
    return _package_refusal(package)


@functools.cache
def _package_refusal(package: str) -> str | None:
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed: pip install {package}"
    try:
        importlib.import_module(package)
    except ImportError as error:
        return f"{package} is installed but does not import: {error}"
    return None


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force a backend for every operator called with "auto" inside the block, in this thread.

    Raises:
        ValueError: the name is none of ``NAMES``.
    """
    token = _forced.set(_checked(name))
    try:
        yield
    finally:
        _forced.reset(token)


def wanted(backend: str, names: Sequence[str] = NAMES) -> str:
    """What to look for: the argument, else the innermost ``use_backend``, else the environment variable.

    The last two are for a whole model, so they pass by the operators that have no such backend (``names``).
    """
    if _checked(backend) != "auto":
        return backend
    forced = _checked(_forced_name())
    return forced if forced in names else "auto"


@constant_in_graphs
def _forced_name() -> str:
    return _forced.get() or os.environ.get(ENVIRONMENT) or "auto"


def choose(
    op: str, table: Sequence[Backend], backend: str, x: torch.Tensor, inputs: tuple[object, ...]
) -> Callable[..., object]:
    """The ``run`` function of the first backend without a refusal for these very arguments.

    Args:
        op: name of the operator, for messages.
        table: its backends, fastest first.
        backend: "auto" or a name; a named backend runs or raises.
        x: the tensor that stands for the others in messages: its shape, dtype and device.
        inputs: the operator's inputs.

    Raises:
        ValueError: no backend of this operator has the name.
        NotImplementedError: no backend takes the arguments; the message has everybody's reasons.
    """
    want = wanted(backend, [row.name for row in table])
    rows = [row for row in table if (row.automatic if want == "auto" else row.name == want)]
    if not rows:
        raise ValueError(f"{op} has no backend {want!r}; choose from auto, {', '.join(row.name for row in table)}")
    refused: dict[str, list[str]] = {}
    for row in rows:
        reasons = row.refusals(x, inputs, named=want != "auto")
        if not reasons:
            if x.device.type != "meta":  # shapes are worked out, nothing runs
                slow = not exporting() and any(r.name in refused and r.device == x.device.type for r in rows)
                _announce(op, row.name, refused, logging.WARNING if slow else logging.INFO)
            run: Callable[..., object] = row.load().run
            return run
        refused[row.name] = reasons
    raise NotImplementedError(
        f"no backend of {op} takes {tuple(x.shape)} {x.dtype} on {x.device}:\n{_sentences(refused)}"
    )


def _checked(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"unknown backend {name!r}; choose from {', '.join(NAMES)}")
    return name


def _sentences(refused: dict[str, list[str]]) -> str:
    return "\n".join(f"  {name}: {'; '.join(reasons)}" for name, reasons in refused.items())


_announced: set[tuple[str, str, int]] = set()


@constant_in_graphs
def _announce(op: str, name: str, refused: dict[str, list[str]], level: int) -> None:
    """Say once per operator and process which backend runs and why the faster ones do not.

    A warning if one of those is made for this device, since Python shows a warning to people who set up no logging.
    """
    if (op, name, level) in _announced:
        return
    _announced.add((op, name, level))
    why = f", because\n{_sentences(refused)}" if refused else ""
    LOGGER.log(level, "%s runs on %s%s", op, name, why)
