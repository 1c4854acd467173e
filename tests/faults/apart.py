"""A part of a case in a process of its own: what may not outlive it, be killed, or be done by nobody in particular."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.faults import judge
from tests.faults.kind import Bad

NOBODY = 65534


class RefusedError(Exception):
    """An error of yolomix, in another process; its words."""


def start(act: Callable[[], Any]) -> tuple[int, int]:
    """Begin to do it in a forked process; its id, and a pipe for :func:`result`."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    try:  # whatever happens here, this process must not go on as the one that forked it
        os.close(read)
        try:
            answer = {"value": act()}
        except BaseException as error:  # noqa: BLE001  the other process judges
            answer = {"error": judge.described(error), "ours": judge.is_ours(error)}
        os.write(write, json.dumps(answer)[:60_000].encode())
        sys.stdout.flush()
    finally:
        os._exit(0)


def result(started: tuple[int, int], wall: float = 60.0) -> Any:
    """What came of it.

    Raises:
        RefusedError: it raised an error of yolomix.
        Bad: it raised another one, died, or still ran after ``wall`` seconds.
    """
    pid, read = started
    status = _ended(pid, time.monotonic() + wall)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    if not said:
        raise Bad(f"a process ended with status {status} and without a word")
    answer = json.loads(said)
    if "error" not in answer:
        return answer["value"]
    raise (RefusedError if answer["ours"] else Bad)(answer["error"])


def do(act: Callable[[], Any], wall: float = 60.0) -> Any:
    """:func:`start` and :func:`result`."""
    return result(start(act), wall)


def killed(act: Callable[[], Any], after: float | None = None, wall: float = 60.0) -> bool:
    """Do it in a forked process until it kills itself, or is killed after some seconds; whether it was killed."""
    pid, read = start(act)
    if after is not None:
        with contextlib.suppress(TimeoutError):
            _wait(pid, time.monotonic() + after)
            os.close(read)
            return False
        os.kill(pid, signal.SIGKILL)
    status = _ended(pid, time.monotonic() + wall)
    os.close(read)
    return os.WIFSIGNALED(status)


def without_rights() -> None:
    """Give up the rights of root, whom no permission stops; Python and the packages stay readable for their owner."""
    if os.geteuid() != 0:
        return
    if sys.platform == "linux":
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the third version of capabilities, this process
        none = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable ones, 64 bits each
        if ctypes.CDLL(None, use_errno=True).capset(header, none):
            raise OSError(ctypes.get_errno(), "the rights of root cannot be given up")
    else:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _ended(pid: int, deadline: float) -> int:
    try:
        return _wait(pid, deadline)
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise Bad("a process hangs") from None


def _wait(pid: int, deadline: float) -> int:
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        time.sleep(0.005)
    raise TimeoutError
