"""The blocks that a model YAML may name, and what a block has to be.

A block is a ``torch.nn.Module`` on feature maps. The first parameters of its constructor say its channel rule, or
``register(cls, rule=...)`` does, see :class:`yolomix.nn.rules.ChannelRule`. ``forward(x: (B, C, H, W)) -> (B, C', H',
W')`` takes any H, W >= 1 and returns the dtype that came in.

A subclass of a head of Ultralytics is a head: it is given what its parent is given, see ``yolomix.nn.heads``.

A row's last argument may be a mapping: arguments by name, as in ``[-1, 1, HaloAttention, [2, 1, {residual: false}]]``.

What a block, or a module inside one, may say about itself:

- ``no_weight_decay``, a class attribute: the names of those of its own parameters that an optimiser must neither decay
  nor orthogonalise (decay rates, step sizes, tables of a positional encoding).
- ``row_arguments(args: list) -> list``, a static method: turns what older YAMLs give in a row into what the constructor
  takes, for example without a width that the row repeats.
- ``fuse()``: folds what can be folded for inference; called before export, prediction and validation, perhaps twice.

The YAML's ``activation:`` is what ``yolomix.nn.common.Conv`` uses unless it is told otherwise.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar, overload

from torch import nn

from yolomix.nn import heads
from yolomix.nn.rules import ChannelRule, Read

LOGGER = logging.getLogger("yolomix")

M = TypeVar("M", bound=type[nn.Module])


@dataclass(frozen=True)
class Block:
    """One registered block.

    >>> find("MLLABlock").signature
    '[num_heads=4, mlp_ratio=4.0, qkv_bias=True, drop_path=0.0]'

    Attributes:
        name: what a model YAML calls it.
        cls: its class.
        rule: how its channels follow from what it reads.
        source: the paper, and where it is.
        home: the module whose import registers it; "" where its name says where the class is.
    """

    name: str
    cls: type[nn.Module]
    rule: ChannelRule
    source: str
    home: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it comes with yolomix, so that nobody has to say where its class is."""
        return self.cls.__module__.startswith("yolomix.")

    @property
    def parent(self) -> type[nn.Module] | None:
        """The head of Ultralytics that it derives from; None for everything that is no head."""
        return heads.parent(self.cls)

    @property
    def is_c3k2(self) -> bool:
        """Whether it is somebody's C3k2, ``(c1, c2, n, c3k, ...)``, to be given what Ultralytics gives its own."""
        fourth = [parameter.name for parameter in self.options[:1]]
        return self.rule.words == ("c1", "c2", "n") and fourth == ["c3k"]

    @property
    def options(self) -> list[inspect.Parameter]:
        """The constructor's parameters after those that the channel rule fills."""
        return list(inspect.signature(self.cls).parameters.values())[self.rule.filled :]

    @property
    def signature(self) -> str:
        """The arguments of a row as a reader would write them: ``[block_size=2, halo_size=1]``."""
        if self.parent is not None:
            return f"[as {self.parent.__name__}]"
        return _written(["c2"] if self.rule.takes_width else [], self.options)

    @property
    def graft_signature(self) -> str:
        """The arguments of a graft, whose channels are those of the layer that it is put behind."""
        return _written([], self.options)

    def make(
        self,
        read: Read,
        c2: int | None = None,
        n: int = 1,
        args: Sequence[Any] = (),
        named: Mapping[str, Any] = MappingProxyType({}),
    ) -> nn.Module:
        """Build the block.

        >>> find("MLLABlock").make(32, named={"num_heads": 2}).attn.num_heads
        2

        Args:
            read: channels of the layer that it reads, or of several.
            c2: channels of its output, for a rule that takes a width.
            n: repeats, for a rule that takes them.
            args: what follows the channels and the repeats.
            named: arguments by name.
        """
        return self.cls(*self.rule.leading(read, c2, n), *args, **named)


BLOCKS: dict[str, Block] = {}
_WATCHERS: list[Callable[[Block], None]] = []
SOURCES: list[Callable[[str], None]] = []  # asked to enter a name that is not known, see `yolomix.nn.origins`


@overload
def register(cls: M, *, rule: str | None = ..., name: str | None = ..., source: str = ...) -> M: ...
@overload
def register(
    *, rule: str | None = ..., name: str | None = ..., aliases: tuple[str, ...] = ..., source: str = ...
) -> Callable[[M], M]: ...
def register(
    cls: M | None = None,
    *,
    rule: str | None = None,
    name: str | None = None,
    aliases: tuple[str, ...] = (),
    source: str = "",
) -> M | Callable[[M], M]:
    """Make a block usable by name in a model YAML; usable plain or as a decorator.

    >>> class Twice(nn.Module):
    ...     def __init__(self, c: int) -> None:
    ...         super().__init__()
    ...     def forward(self, x):
    ...         return 2 * x
    >>> register(Twice).__name__, str(find("Twice").rule)
    ('Twice', '(c, ...)')
    >>> register(nn.GELU, rule="", name="Gelu").__name__
    'GELU'

    Args:
        cls: the block; see this module's description for what it has to be.
        rule: what its first parameters are, where their names do not say it: "c", "c1 c2", "c1 c2 n", "ch", "ch c2" or
            "", see :class:`yolomix.nn.rules.ChannelRule`.
        name: its name in a YAML; by default the name of the class.
        aliases: further names.
        source: paper and where it is, for listings.

    Raises:
        TypeError: the class is no ``nn.Module``, or its constructor follows no channel rule, or not the one given.
        ValueError: another class has the name already, or there is no such rule.
    """
    home = str(sys._getframe(1).f_globals.get("__name__", ""))
    if cls is None:
        return lambda real: _enter(real, rule, (name or real.__name__, *aliases), source, home)
    return _enter(cls, rule, (name or cls.__name__, *aliases), source, home)


def _enter(cls: M, text: str | None, names: Sequence[str], source: str, home: str) -> M:
    """Enter a class under its names; see :func:`register`."""
    rule = heads.rule(cls, text)
    if cls.__module__ == "__main__":
        LOGGER.warning(
            "%s is registered from the script that was started: no other process can open a checkpoint with it. "
            "Put the class into a module that can be imported",
            cls.__name__,
        )
    for entered in names:
        enter(Block(entered, cls, rule, source, home))
    return cls


def enter(block: Block) -> None:
    """Add a block to ``BLOCKS``, in the place of an earlier form of the same class.

    Raises:
        ValueError: another class has its name, or a watcher refuses it.
    """
    old, cls = BLOCKS.get(block.name), block.cls
    if old is not None and (old.cls.__module__, old.cls.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(
            f"{block.name!r} is already registered by {old.cls.__module__}.{old.cls.__qualname__}; "
            f"register {cls.__module__}.{cls.__qualname__} under another name"
        )
    for check in _WATCHERS:
        check(block)
    BLOCKS[block.name] = block


def watch(check: Callable[[Block], None]) -> None:
    """Call ``check`` for every block, registered already or later; it raises to refuse one."""
    for block in BLOCKS.values():
        check(block)
    _WATCHERS.append(check)


def known(name: str) -> Block | None:
    """The block of that name, or None. Nothing is imported for it but what installed packages announce.

    >>> known("MLLABlock").name, known("C2f")
    ('MLLABlock', None)
    """
    for look in SOURCES:
        if name not in BLOCKS:
            look(name)
    return BLOCKS.get(name)


def find(name: str) -> Block:
    """The block of that name.

    >>> find("MLLABlok")
    Traceback (most recent call last):
    KeyError: "no block 'MLLABlok'; did you mean MLLABlock, ...?"

    Raises:
        KeyError: no block has the name; the message has the near ones.
    """
    block = known(name)
    if block is None:
        lower = {entered.lower(): entered for entered in BLOCKS}
        near = [lower[found] for found in difflib.get_close_matches(name.lower(), lower, n=3)]
        if near:
            raise KeyError(f"no block {name!r}; did you mean {', '.join(near)}?")
        raise KeyError(f"{name!r} is not registered as a block; registered are {', '.join(sorted(BLOCKS))}")
    return block


def _written(first: list[str], parameters: list[inspect.Parameter]) -> str:
    words = list(first)
    for parameter in parameters:
        if parameter.kind is not parameter.VAR_KEYWORD:
            default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
            words.append(parameter.name + default)
    return f"[{', '.join(words)}]"
