"""Functions of Ultralytics as they were before our hooks wrapped them.

What was wrapped is recorded on the module that holds it: a module that is executed anew has lost its wrappers and its
record together, and a copy of yolomix that is imported anew finds what an earlier copy did.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

RECORD = "__yolomix__"


class Wrapped(NamedTuple):
    """A function of Ultralytics, and ours around it."""

    native: Callable[..., Any]
    wrapper: Callable[..., Any]


def record(module: ModuleType) -> dict[str, Wrapped]:
    """What is wrapped in a module, by the name inside it; may be changed in place.

    >>> record(ModuleType("new"))
    {}
    """
    return vars(module).setdefault(RECORD, {})


def native(module: ModuleType, target: str) -> Callable[..., Any]:
    """The function of that name as Ultralytics wrote it, whoever wrapped it.

    >>> import math
    >>> native(math, "sqrt")(4.0)
    2.0
    """
    wrapped = record(module).get(target)
    if wrapped is not None:
        return wrapped.native
    found: Any = functools.reduce(getattr, target.split("."), module)
    return found
