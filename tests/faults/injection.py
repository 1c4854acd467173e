"""The n-th call that touches a file fails, or ends the process: every way to be interrupted, one after another.

Wrapped are the ways from Python to the disk: ``open`` and what is written through it, the calls of ``os`` that make,
move, flush and remove, ``mmap`` and ``torch.save``. Only calls on files under one folder count, so that imports and
devices do not.
"""

from __future__ import annotations

import builtins
import errno
import io
import mmap
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

ERRORS = {"full": errno.ENOSPC, "input/output": errno.EIO, "interrupted": errno.EINTR, "forbidden": errno.EACCES}
MOVES = ("replace", "rename", "mkdir", "unlink", "remove", "link", "symlink", "chmod", "rmdir", "truncate")


class Injection:
    """Counts calls on files under a folder; the n-th fails in the given way.

    Attributes:
        fired: what the call was, once it has failed.
    """

    def __init__(self, folder: Path, n: int, how: str, reads: bool = False) -> None:
        self.folder, self.n, self.how, self.reads = os.path.realpath(folder), n, how, reads
        self.count = 0
        self.fired = ""

    def start(self) -> None:
        """Wrap everything, for the rest of this process."""
        if self.how == "room":  # the system itself refuses to let a file grow, whoever writes it
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.n, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            return
        import torch

        native = io.open
        opened = self._opening(native)
        builtins.open = io.open = opened  # type: ignore[assignment]
        for name in MOVES:
            setattr(os, name, self._moving(name, getattr(os, name)))
        os.open = self._opening_low(os.open)  # type: ignore[assignment]
        os.fsync = self._on_handle("fsync", os.fsync)  # type: ignore[assignment]
        torch.save = self._saving(torch.save)  # type: ignore[assignment]
        mmap.mmap = self._mapping(mmap.mmap)  # type: ignore[assignment,misc]

    def too_large(self, size: int) -> bool:
        """Whether a file of that many bytes was more than there was room for."""
        return self.how == "room" and size > self.n

    def step(self, what: str, path: Any, half: Callable[[], Any] = lambda: None) -> None:
        """Count one call; fail if it is the one, after ``half`` of it was done."""
        if not self._counts(path):
            return
        self.count += 1
        if self.count != self.n:
            return
        self.fired = f"{what} {path}"
        half()
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        code = ERRORS[self.how]
        raise OSError(code, os.strerror(code), str(path))

    def _counts(self, path: Any) -> bool:
        if isinstance(path, int):
            path = f"/proc/self/fd/{path}"
        if not isinstance(path, (str, os.PathLike)):
            return False
        return os.path.realpath(path).startswith(self.folder + os.sep)

    def _opening(self, native: Any) -> Any:
        def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            writes = bool(set("wxa+") & set(mode))
            if writes or self.reads:
                self.step(f"open({mode})", file)
            handle = native(file, mode, *args, **kwargs)
            return _Counted(handle, self, file) if writes and self._counts(file) else handle

        return opened

    def _opening_low(self, native: Any) -> Any:
        def opened(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if self.reads or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.step("os.open", path)
            return int(native(path, flags, *args, **kwargs))

        return opened

    def _moving(self, name: str, native: Any) -> Any:
        def moved(path: Any, *args: Any, **kwargs: Any) -> Any:
            self.step(f"os.{name}", path)
            return native(path, *args, **kwargs)

        return moved

    def _on_handle(self, name: str, native: Any) -> Any:
        def called(handle: Any, *args: Any) -> Any:
            self.step(f"os.{name}", handle if isinstance(handle, int) else handle.fileno())
            return native(handle, *args)

        return called

    def _saving(self, native: Any) -> Any:
        def saved(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(f, (str, os.PathLike)):
                self.step("torch.save", f, lambda: Path(f).write_bytes(b"PK half of a checkpoint"))
            return native(obj, f, *args, **kwargs)

        return saved

    def _mapping(self, native: Any) -> Any:
        injection = self

        class Mapped(native):  # type: ignore[misc]
            def __new__(cls, fileno: int, *args: Any, **kwargs: Any) -> Any:
                injection.step("mmap", fileno)
                return native.__new__(cls, fileno, *args, **kwargs)

        return Mapped


class _Counted:
    """An open file whose writes count, and of which the failing one is done by half."""

    def __init__(self, handle: Any, injection: Injection, path: Any) -> None:
        self._handle, self._injection, self._path = handle, injection, path

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._handle.write(data[: len(data) // 2])
            self._handle.flush()

        self._injection.step("write", self._path, half)
        return self._handle.write(data)

    def __enter__(self) -> _Counted:
        self._handle.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._handle.__exit__(*error)

    def __iter__(self) -> Any:
        return iter(self._handle)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)
