"""Names of rows that are taken by Ultralytics. Free of imports of Ultralytics.

It is called while Ultralytics is being imported, perhaps by a module of ours that is itself not complete yet.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import TypeGuard

from torch import nn

from yolomix.host import original
from yolomix.nn import heads, registry
from yolomix.nn.registry import Block

WATCHED = "__yolomix_watched__"  # an attribute of the module, set once


def watch_names(tasks: ModuleType) -> None:
    """Refuse blocks, registered already or later, under a name of Ultralytics.

    Args:
        tasks: ``ultralytics.nn.tasks``, where ``parse_model`` looks up the names of rows.

    Raises:
        ValueError: a block has such a name.
    """
    if getattr(tasks, WATCHED, None) is registry:
        return
    setattr(tasks, WATCHED, registry)  # a copy of yolomix that is imported anew has a registry of its own
    registry.watch(functools.partial(refuse_taken, tasks))


def refuse_taken(tasks: ModuleType, block: Block) -> None:
    """Refuse a user's block under a name of Ultralytics, where it would change every model that uses the name."""
    # What a row of a model YAML may say is what the parser speaks of; parts of heads are in the same file as heads.
    spoken = original.native(tasks, "parse_model").__code__.co_names
    if block.parent is not None and block.parent.__name__ not in spoken:
        raise TypeError(
            f"{block.name} derives from {block.parent.__name__}, which is no head of a model YAML in Ultralytics; "
            f"derive it from one that is: {heads.KNOWN}, ..."
        )
    theirs = getattr(tasks, block.name, None)
    ours = block.cls.__module__.startswith("yolomix.")
    mixed_in = theirs is block.cls and not block.cls.__module__.startswith("ultralytics.")  # as older recipes do
    if is_module_class(theirs) and not mixed_in and not ours:
        raise ValueError(
            f"{block.name!r} is a module of Ultralytics ({theirs.__module__}); register "
            f"{block.cls.__module__}.{block.cls.__qualname__} under another name: register(..., name=...)"
        )


def is_module_class(value: object) -> TypeGuard[type[nn.Module]]:
    """Whether a value is a class derived from ``torch.nn.Module``.

    >>> is_module_class(nn.Conv2d), is_module_class(nn.Conv2d(3, 8, 1))
    (True, False)
    """
    return isinstance(value, type) and issubclass(value, nn.Module)
