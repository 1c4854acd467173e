"""Running ``yolomix`` in a process of its own, and the arguments of small runs."""

from __future__ import annotations

from tests import fresh

TINY = ("imgsz=64", "workers=0", "plots=False", "device=cpu")


def command(*words: str, **environment: str) -> fresh.Done:
    """``yolomix WORDS`` in a process of its own."""
    code = "import sys; from yolomix.cli import main; sys.exit(main())"
    return fresh.run(code, *words, **environment)
