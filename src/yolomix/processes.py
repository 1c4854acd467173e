"""Processes that do one job: they end with the process that began them, and with those that they began."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from typing import Any

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has the second alone


def watch() -> None:
    """End this process, and those that it began, as soon as the other end of stdin is closed."""
    threading.Thread(target=_end_with_the_other, daemon=True).start()


def send(process: subprocess.Popen[Any], number: int = KILL) -> None:
    """Send a signal to a process that has a session of its own, and to those that it began.

    >>> import sys
    >>> sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    >>> send(sleeper)
    >>> sleeper.wait() == 0
    False

    Args:
        process: begun with ``start_new_session=True``; one that has ended is let be.
        number: of the signal.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def _end_with_the_other() -> None:
    while os.read(0, 1024):
        pass
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
