"""Compilation: serial kernels that release the interpreter lock, compiled once per machine and kept on disk.

Never ``parallel=True``: Numba's OpenMP layer kills forked data-loader workers, and its own layer aborts the process
when two Python threads call it. Threads are ours (``pool``).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

from yolomix.ops._numba import processor

helper = numba.njit(nogil=True, error_model="numpy")
"""Compile a function that kernels call; it becomes part of them."""


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, on its first call, and keep the machine code on disk.

    Without a folder to write to (read-only install, no home), it is compiled once per process instead.

    >>> double = kernel(lambda x: 2 * x)
    >>> double.py_func(4)  # the plain function; double(4) compiles it first
    8
    """
    dispatcher = helper(function)
    try:
        dispatcher._cache = _Cache(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
    return dispatcher


@functools.cache
def _sources() -> str:
    """A digest of every file that a kernel may be made of."""
    ops = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in sorted(ops.rglob("*numba*/*.py")) + sorted(ops.rglob("*numba*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _target() -> str:
    """A digest of the processor that kernels are compiled for."""
    return hashlib.sha256(processor.target().encode()).hexdigest()[:8]


def _versioned(locator: type) -> type:
    """Put the digests of sources and processor into the names of cache files.

    Numba tells versions of a kernel apart by its own file alone; a change of a helper in another file counts as well.
    An index of another version is not even read, since it may name types that are gone.
    """

    class Versioned(locator):
        def get_disambiguator(self) -> str:
            # Numba's index has an entry per processor, but LANES, which is decided in Python, is not part of it. And
            # unlike machines that share a folder may number their entries alike: the last one to write then wins.
            return f"{super().get_disambiguator()}{_sources()}{_target()}"

    return Versioned


class _Stored(caching.CompileResultCacheImpl):
    _locator_classes = [_versioned(locator) for locator in caching.CompileResultCacheImpl._locator_classes]


class _Cache(caching.FunctionCache):
    _impl_class = _Stored
