"""Compilation: serial kernels that release the interpreter lock, compiled once per machine and kept on disk.

Never ``parallel=True``: Numba's OpenMP layer kills forked data-loader workers, and its own layer aborts the process
when two Python threads call it. Threads are ours (``pool``).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

from yolomix.ops._numba import processor

LOGGER = logging.getLogger("yolomix")
DIGEST = hashlib.sha256().digest_size
STALE = 600.0  # seconds after which a file that is being written was left behind

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
    """A digest of the processor that kernels are compiled for, and of the Numba that compiles them."""
    return hashlib.sha256(f"{processor.target()} {numba.__version__}".encode()).hexdigest()[:8]


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


class _CheckedFile(caching.IndexDataCacheFile):
    """Cache files with a digest in front: what cannot be read or verified counts as absent, and is compiled again.

    Numba trusts what it finds. An empty index then fails every later process, and changed machine code is run.
    """

    def _save_index(self, overloads: Any) -> None:
        self._write(self._index_path, (self._version, self._source_stamp, overloads))

    def _load_index(self) -> Any:
        found = self._read(self._index_path)
        if found is None or found[:2] != (self._version, self._source_stamp):
            return {}
        return found[2]

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), data)

    def _load_data(self, name: str) -> Any:
        found = self._read(self._data_path(name))
        if found is None:
            raise FileNotFoundError(name)  # which Numba takes for an entry whose file is gone
        return found

    def _write(self, path: str, value: Any) -> None:
        content = self._dump(value)
        _remove_leftovers(Path(path))
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(content).digest() + content)

    def _read(self, path: str) -> Any:
        try:
            with open(path, "rb") as file:
                digest, content = file.read(DIGEST), file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            LOGGER.warning("%s cannot be read (%s): the kernel is compiled once more", path, error.strerror)
            return None
        if hashlib.sha256(content).digest() != digest:
            LOGGER.warning("%s, a compiled kernel, is damaged: it is compiled once more", path)
            return None
        return pickle.loads(content)


class _Cache(caching.FunctionCache):
    _impl_class = _Stored

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _CheckedFile(self._cache_path, self._impl.filename_base, stamp)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel where there is room for it; elsewhere this process has it all the same."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            LOGGER.info("a compiled kernel cannot be kept in %s (%s)", self._cache_path, error.strerror)


def _remove_leftovers(path: Path) -> None:
    """Remove what killed processes were writing under this name."""
    for left in path.parent.glob(f"{path.name}.tmp.*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()
