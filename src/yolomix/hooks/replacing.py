"""Functions of other packages that are replaced for a while."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_LOCK = threading.RLock()  # of the functions that are replaced, which everybody calls


@contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let everybody call ``function`` by that name inside the block, with what was there as its first argument.

    >>> import math
    >>> with replaced(math, "sqrt", lambda native, x: -native(x)):
    ...     math.sqrt(4)
    -2.0
    """
    with _LOCK:
        native = getattr(owner, name)
        setattr(owner, name, functools.partial(function, native))
        try:
            yield
        finally:
            setattr(owner, name, native)
