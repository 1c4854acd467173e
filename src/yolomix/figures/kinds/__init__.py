"""One file for every kind of figure, with a function of its name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

KINDS = ("erf", "cam", "attention", "delta", "routes", "gates", "scan", "insertion", "compare")


def find(kind: str) -> Callable[..., Any]:
    """The function of a kind, which takes models and returns a figure.

    >>> find("erf").__name__
    'erf'
    """
    found: Callable[..., Any] = getattr(importlib.import_module(f"{__name__}.{kind}"), kind)
    return found
