"""Running ``yolomix`` in a process of its own, and the arguments of small runs."""

from __future__ import annotations

import os
import subprocess
import sys

TINY = ("imgsz=64", "workers=0", "plots=False", "device=cpu")


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``yolomix WORDS`` in a process of its own."""
    code = "import sys; from yolomix.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
