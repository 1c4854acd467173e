"""Heads of one's own in a model YAML: Ultralytics builds the parent in their row, and they are given the same.

What a head is given depends on the version: class count, ``reg_max``, ``end2end``, the channels of its inputs, for some
a width after scaling. So nothing is worked out here; what the parent's constructor got is given to the subclass.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

Given = tuple[tuple[Any, ...], dict[str, Any]]
Record = weakref.WeakKeyDictionary[nn.Module, Given]

_BUILDING = threading.RLock()  # recording changes a class for a moment


@contextmanager
def recorded(parents: Iterable[type[nn.Module]]) -> Iterator[Record]:
    """Keep what the constructors of these classes are given meanwhile, by the module that they make.

    >>> with recorded([nn.Linear]) as given:
    ...     layer = nn.Linear(2, 3, bias=False)
    >>> given[layer]
    ((2, 3), {'bias': False})
    """
    found: Record = weakref.WeakKeyDictionary()
    classes = set(parents)
    if not classes:
        yield found
        return
    with _BUILDING, ExitStack() as stack:
        for cls in classes:
            stack.enter_context(_watched(cls, found))
        yield found


@contextmanager
def _watched(cls: type[nn.Module], found: Record) -> Iterator[None]:
    native: Callable[..., None] = cls.__init__
    had_its_own = "__init__" in vars(cls)

    def _init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        # One of these classes may derive from another: the first call is the outermost.
        found.setdefault(self, (args, kwargs))
        native(self, *args, **kwargs)

    cls.__init__ = _init  # type: ignore[method-assign]
    try:
        yield
    finally:
        if had_its_own:
            cls.__init__ = native  # type: ignore[method-assign]
        else:
            del cls.__init__
