"""The blocks that a model YAML may name, and what a block has to be.

A block is a ``torch.nn.Module`` on maps. Its constructor says its channel rule by the names of its first parameters:

=====================  ==================================================================
``(c, ...)``           keeps the channels; a YAML row gives only what follows ``c``
``(c1, c2, ...)``      changes them; a row gives ``c2`` (before width scaling) and what follows
``(c1, c2, n, ...)``   takes the row's repeats itself instead of being repeated
``(ch, ...)``          reads several layers; ``ch`` is the list of their channels
=====================  ==================================================================

``forward(x: (B, C, H, W)) -> (B, C', H', W')`` takes any H, W >= 1 and returns the dtype that came in.

A row's last argument may be a mapping: arguments by name, as in ``[-1, 1, HaloAttention, [2, 1, {residual: false}]]``.

What a block, or a module inside one, may say about itself:

- ``no_weight_decay``, a class attribute: the names of those of its own parameters that an optimiser must leave without
  weight decay and without orthogonalisation (decay rates, step sizes, position tables).
- ``row_arguments(args: list) -> list``, a static method: turns what older YAMLs give in a row into what the constructor
  takes, for example without a width that the row repeats.
- ``fuse()``: folds what can be folded for inference; called before export, prediction and validation, perhaps twice.

The YAML's ``activation:`` is what ``yolomix.nn.common.Conv`` uses unless it is told otherwise.
"""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from torch import nn

LOGGER = logging.getLogger("yolomix")
RULES = {("ch",): "ch", ("c1", "c2", "n"): "c1 c2 n", ("c1", "c2"): "c1 c2", ("c",): "c"}

M = TypeVar("M", bound=type[nn.Module])


@dataclass(frozen=True)
class Block:
    """One registered block: its name in a YAML, its class, its channel rule and where it comes from."""

    name: str
    cls: type[nn.Module]
    rule: str
    source: str

    @property
    def arguments(self) -> list[inspect.Parameter]:
        """What a YAML row may give, in order: the constructor's parameters without those that the rule fills."""
        _, *rest = inspect.signature(self.cls).parameters.values()  # the channels that come in
        return [p for p in rest if not (self.rule == "c1 c2 n" and p.name == "n")]

    @property
    def signature(self) -> str:
        """The row's arguments as a reader would write them: ``[block=2, halo=1]``."""
        return "[" + ", ".join(_written(p) for p in self.arguments if p.kind is not p.VAR_KEYWORD) + "]"


BLOCKS: dict[str, Block] = {}
_WATCHERS: list[Callable[[Block], None]] = []


@overload
def register(cls: M) -> M: ...
@overload
def register(*, name: str | None = ..., aliases: tuple[str, ...] = ..., source: str = ...) -> Callable[[M], M]: ...
def register(
    cls: M | None = None, *, name: str | None = None, aliases: tuple[str, ...] = (), source: str = ""
) -> M | Callable[[M], M]:
    """Make a block usable by name in a model YAML; usable plain or as a decorator.

    Args:
        cls: the block; see this module's description for what it has to be.
        name: its name in a YAML; by default the name of the class.
        aliases: further names.
        source: paper and where it is, for listings.

    Raises:
        TypeError: the class is no ``nn.Module`` or its constructor follows no channel rule.
        ValueError: another class has the name already.
    """
    if cls is None:
        return lambda real: _enter(real, name, aliases, source)
    return _enter(cls, name, aliases, source)


def _enter(cls: M, name: str | None, aliases: tuple[str, ...], source: str) -> M:
    """Enter a class under its name and aliases; see :func:`register`."""
    rule = channel_rule(cls)
    if cls.__module__ == "__main__":
        LOGGER.warning(
            "%s is registered from the script that was started: no other process can open a checkpoint with it. "
            "Put the class into a module that can be imported",
            cls.__name__,
        )
    for known in (name or cls.__name__, *aliases):
        old = BLOCKS.get(known)
        block = Block(known, cls, rule, source)
        if old is not None and (old.cls.__module__, old.cls.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(
                f"{known!r} is already registered by {old.cls.__module__}.{old.cls.__qualname__}; "
                f"register {cls.__module__}.{cls.__qualname__} under another name"
            )
        for check in _WATCHERS:
            check(block)
        BLOCKS[known] = block
    return cls


def watch(check: Callable[[Block], None]) -> None:
    """Call ``check`` for every block, registered already or later; it raises to refuse one."""
    for block in BLOCKS.values():
        check(block)
    _WATCHERS.append(check)


def channel_rule(cls: type[nn.Module]) -> str:
    """'c', 'c1 c2', 'c1 c2 n' or 'ch', read from the constructor.

    Raises:
        TypeError: not a module class, or the constructor's first parameters follow no rule.
    """
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise TypeError(f"a block is a class derived from torch.nn.Module, got {cls!r}")
    leading = [*inspect.signature(cls).parameters]
    for names, rule in RULES.items():
        if tuple(leading[: len(names)]) == names:
            return rule
    raise TypeError(
        f"{cls.__name__}({', '.join(leading)}) follows no channel rule: the first parameters of a block are "
        "(c, ...), (c1, c2, ...), (c1, c2, n, ...) or (ch, ...)"
    )


def find(name: str) -> Block:
    """The block of that name.

    Raises:
        KeyError: no block has the name; the message has the near ones.
    """
    if name not in BLOCKS:
        lower = {known.lower(): known for known in BLOCKS}
        near = [lower[found] for found in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
        if near:
            raise KeyError(f"no block {name!r}; near: {', '.join(near)}")
        raise KeyError(f"{name!r} is not registered as a block; registered are {', '.join(sorted(BLOCKS))}")
    return BLOCKS[name]


def _written(p: inspect.Parameter) -> str:
    default: Any = p.default
    return p.name if default is p.empty else f"{p.name}={default!r}"
