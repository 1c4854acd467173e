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

helper = numba.njit(nogil=True, error_model="numpy")
"""Compile a function that kernels call; it becomes part of them."""


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, on its first call, and keep the machine code on disk.

    Without a directory to write to (read-only install, no home), it is compiled once per process instead.
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
    return digest.hexdigest()


def _stamped(locator: type) -> type:
    """Numba's stamp of a kernel is its own file's; a changed helper in another file must make it stale as well."""

    class Stamped(locator):  # type: ignore[misc]
        def get_source_stamp(self) -> tuple[Any, str]:
            return super().get_source_stamp(), _sources()

    return Stamped


class _Stored(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_stamped(locator) for locator in caching.CompileResultCacheImpl._locator_classes]


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _Stored
