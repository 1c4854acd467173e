"""Running ``yolomix`` in a process of its own, and the arguments of small runs."""

from __future__ import annotations

from tests import fresh

SMALL = """
nc: 2
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [256, 3, 2]]
head:
  - [[4], 1, Detect, [nc]]
"""
"""A model YAML with a layer of every stride up to 32, of which a plan is made in a moment."""
TINY = ("imgsz=64", "workers=0", "plots=False", "device=cpu")


def command(*words: str, **environment: str) -> fresh.Done:
    """``yolomix WORDS`` in a process of its own."""
    code = "import sys; from yolomix.cli import main; sys.exit(main())"
    return fresh.run(code, *words, **environment)
