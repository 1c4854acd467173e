"""How much memory this process has, as Linux counts it; nothing elsewhere."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

STATUS, FORGET = Path("/proc/self/status"), "/proc/self/clear_refs"


def now() -> float:
    """Megabytes that are resident; 0 where the system does not say."""
    return _read("VmRSS")


def most() -> float:
    """Megabytes that were resident at once, at most, since :func:`forget`; 0 where the system does not say."""
    return _read("VmHWM")


def forget() -> None:
    """Let :func:`most` begin anew, where the system can."""
    with contextlib.suppress(OSError):
        kernel = os.open(FORGET, os.O_WRONLY)
        try:
            os.write(kernel, b"5")
        finally:
            os.close(kernel)


def _read(name: str) -> float:
    text = STATUS.read_text("utf-8") if STATUS.exists() else ""
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return 1024 * int(found[1]) / 1e6 if found else 0.0
