"""Heads of one's own: subclasses of Ultralytics' heads. Free of imports of Ultralytics.

Such a class is given what its parent is given, has its parent's task, and trains with its parent's loss.
"""

from __future__ import annotations

import inspect

from torch import nn

from yolomix.nn.rules import ChannelRule

HOME = "ultralytics.nn.modules.head"  # where Ultralytics defines its heads
KNOWN = "Detect, Segment, Pose, OBB, Classify, RTDETRDecoder"


def parent(cls: type) -> type[nn.Module] | None:
    """The nearest head of Ultralytics that a class derives from; None for any other class, and for those heads.

    >>> parent(nn.Linear) is None
    True
    """
    if not isinstance(cls, type) or cls.__module__ == HOME:
        return None
    for base in cls.__mro__:
        if base.__module__ == HOME:
            return base
    return None


def rule(cls: type[nn.Module], text: str | None = None) -> ChannelRule:
    """The channel rule of a block; a head, which is told everything by its parent's row, reads several layers.

    >>> class Mine(nn.Module):
    ...     def __init__(self, nc=80, ch=()):
    ...         super().__init__()
    >>> rule(Mine)
    Traceback (most recent call last):
    TypeError: Mine(nc, ch) takes a class count like a head, and its parent Module is no head of Ultralytics. ...

    Args:
        cls: the class that is registered.
        text: the rule that was given with it, if any.

    Raises:
        TypeError: no rule, see :meth:`ChannelRule.of`; a head with a rule of its own; or what looks like a head and
            derives from none.
        ValueError: there is no such rule.
    """
    head = parent(cls) if isinstance(cls, type) else None
    if head is not None:
        if text is not None:
            raise TypeError(f"{cls.__name__} is a head and is given what {head.__name__} is given; it takes no rule")
        return ChannelRule(("ch",))
    try:
        return ChannelRule.of(cls, text)
    except TypeError as error:
        if text is None and isinstance(cls, type):
            _check_no_head(cls, error)
        raise


def _check_no_head(cls: type[nn.Module], error: TypeError) -> None:
    """Raise TypeError in other words for what takes a class count."""
    names = list(inspect.signature(cls).parameters)
    if "nc" in names:
        raise TypeError(
            f"{cls.__name__}({', '.join(names)}) takes a class count like a head, and its parent "
            f"{cls.__bases__[0].__name__} is no head of Ultralytics. Derive it from one of them ({KNOWN}, ...): its "
            "parent says its task, its loss and what it is given"
        ) from error
