"""Choosing what computes an operator: a backend says in sentences why it cannot, "auto" takes the first without any.

Every operator is a folder with the same file names (``reference``, ``eager``, ``numba_cpu``, ``triton_gpu``) and a
table of :class:`Backend` rows, fastest first. A backend file offers ``refusals(*args)`` and ``run(*args)``, both with
the operator's own arguments.
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

import torch

LOGGER = logging.getLogger("yolomix")
ENVIRONMENT = "YOLOMIX_BACKEND"
NAMES = ("auto", "triton", "numba", "eager", "reference")

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
        # Looked up first: torch.compile follows a lookup inside one graph, and breaks the graph at an import.
        return sys.modules.get(self.module) or importlib.import_module(self.module)

    def refusals(self, x: torch.Tensor, args: tuple[object, ...]) -> list[str]:
        """The reasons why this backend cannot take the arguments, as sentences; empty when it can."""
        if self.device is not None and x.device.type != self.device:
            return [f"it serves {self.device} tensors, not {x.device.type}"]
        if self.needs is not None:
            if exporting():
                return ["the model is being exported, and a file format knows only plain PyTorch operations"]
            if (missing := package_refusal(self.needs)) is not None:
                return [missing]
        reasons: list[str] = self.load().refusals(*args)
        return reasons


def exporting() -> bool:
    """Whether a graph for another runtime is being recorded (torch.export, ONNX, TorchScript)."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or torch._C._get_tracing_state() is not None


@functools.cache
def package_refusal(package: str) -> str | None:
    """The reason why a package cannot be used, or None. Missing and broken are different reasons."""
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


def wanted(backend: str) -> str:
    """What to look for: the argument, else the innermost ``use_backend``, else the environment variable."""
    if _checked(backend) != "auto":
        return backend
    return _checked(_forced.get() or os.environ.get(ENVIRONMENT, "auto"))


def choose(op: str, table: Sequence[Backend], backend: str, x: torch.Tensor, *args: object) -> Callable[..., object]:
    """The ``run`` function of the first backend without a refusal for these very arguments.

    Args:
        op: name of the operator, for messages.
        table: its backends, fastest first.
        backend: "auto" or a name; a named backend runs or raises.
        x: the tensor that stands for the others in messages: its shape, dtype and device.
        args: the operator's arguments.

    Raises:
        ValueError: no backend of this operator has the name.
        NotImplementedError: no backend takes the arguments; the message has everybody's reasons.
    """
    want = wanted(backend)
    rows = [row for row in table if (row.automatic if want == "auto" else row.name == want)]
    if not rows:
        raise ValueError(f"{op} has no backend {want!r}; choose from auto, {', '.join(row.name for row in table)}")
    refused: dict[str, list[str]] = {}
    for row in rows:
        reasons = row.refusals(x, args)
        if not reasons:
            _announce(op, row.name, refused)
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


_announced: set[tuple[str, str]] = set()


def _announce(op: str, name: str, refused: dict[str, list[str]]) -> None:
    """Say once per operator and process which backend runs and why the faster ones do not."""
    if torch.compiler.is_compiling() or (op, name) in _announced:
        return
    _announced.add((op, name))
    why = f", because\n{_sentences(refused)}" if refused else ""
    LOGGER.info("%s runs on %s%s", op, name, why)
