"""What a backend is: a file with ``refusals(inputs)`` and ``run(inputs)``, and the line that describes it.

Every operator is a folder with the same file names (``inputs``, ``reference``, ``eager``, ``numba_cpu``,
``triton_gpu``). Its backend files all take the ``Inputs`` value of that operator.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import torch

from yolomix.ops.tracing import constant_in_graphs

Inputs_contra = TypeVar("Inputs_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)


class BackendFile(Protocol[Inputs_contra, Output_co]):
    """What a backend file offers, as functions of the module."""

    def refusals(self, inputs: Inputs_contra) -> list[str]:
        """The reasons why it cannot take these inputs, as sentences; empty when it can."""

    def run(self, inputs: Inputs_contra) -> Output_co:
        """The operator's output for inputs that the operator has checked.

        ``torch.compile`` traces it. On PyTorch 2.7 it takes named tuples apart and builds new ones, but traces neither
        a slice of one nor ``_replace``.
        """


@dataclass(frozen=True)
class Backend:
    """One way to compute an operator; its file is imported when it is first asked.

    >>> eager = Backend("eager", "yolomix.ops.ss2d.eager")
    >>> eager.load().refusals(None)
    []

    Args:
        name: what users write, one of :data:`yolomix.ops.forcing.NAMES`.
        module: the backend file.
        device: the only device type that it serves; None serves all.
        needs: the package that the file imports; None needs torch alone.
        automatic: whether "auto" may take it; the reference is only ever taken by name.
    """

    name: str
    module: str
    device: str | None = None
    needs: str | None = None
    automatic: bool = True

    def load(self) -> BackendFile[Any, Any]:
        """Import the backend file."""
        _import_once(self.module)
        # Under torch.compile, sys.modules is what it was when tracing began. The operator's package was in it even
        # then, and its attributes are read as they are now.
        package, _, name = self.module.rpartition(".")
        return cast("BackendFile[Any, Any]", getattr(sys.modules[package], name))


@constant_in_graphs  # torch.compile breaks a graph at an import
def _import_once(module: str) -> None:
    importlib.import_module(module)


@constant_in_graphs
def package_refusal(package: str) -> str | None:
    """The reason why a package cannot be used, or None. Missing and broken are different reasons.

    >>> package_refusal("torch")
    >>> package_refusal("no_such_package")
    'no_such_package is not installed: pip install no_such_package'
    """
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


def needs_gradients(inputs: tuple[object, ...]) -> bool:
    """Whether a backward pass may follow a call with these inputs.

    >>> needs_gradients((torch.ones(1), None)), needs_gradients((torch.ones(1, requires_grad=True), None))
    (False, True)
    """
    if not torch.is_grad_enabled():
        return False
    return any(isinstance(x, torch.Tensor) and x.requires_grad for x in inputs)
