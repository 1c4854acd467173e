"""How the channels of a block follow from what it reads: said by the first parameters of its constructor."""

from __future__ import annotations

import inspect
from enum import Enum

from torch import nn

Read = int | list[int]  # the channels of the layer that a block reads, or of several


class ChannelRule(Enum):
    """The first parameters of a block's constructor, and what follows from them.

    ====================  ================================================================
    ``(c, ...)``          keeps the channels
    ``(c1, c2, ...)``     changes them; ``c2`` before width scaling is a row's first argument
    ``(c1, c2, n, ...)``  takes the row's repeats itself instead of being repeated
    ``(ch, ...)``         reads several layers; ``ch`` is the list of their channels
    ====================  ================================================================

    >>> ChannelRule.REPEATS.takes_width, ChannelRule.SEVERAL.reads_several
    (True, True)
    >>> print(ChannelRule.CHANGES)
    (c1, c2, ...)
    """

    KEEPS = ("c",)
    CHANGES = ("c1", "c2")
    REPEATS = ("c1", "c2", "n")
    SEVERAL = ("ch",)

    @classmethod
    def of(cls, block: type[nn.Module]) -> ChannelRule:
        """The rule that a constructor follows.

        >>> ChannelRule.of(nn.Identity)
        Traceback (most recent call last):
        TypeError: Identity(args, kwargs) follows no channel rule: ...

        Raises:
            TypeError: not a module class, or the constructor's first parameters follow no rule.
        """
        if not (isinstance(block, type) and issubclass(block, nn.Module)):
            raise TypeError(f"a block is a class derived from torch.nn.Module, got {block!r}")
        names = tuple(inspect.signature(block).parameters)
        for rule in sorted(cls, key=lambda rule: -len(rule.value)):  # (c1, c2, n) before (c1, c2)
            if names[: len(rule.value)] == rule.value:
                return rule
        known = ", ".join(map(str, cls))
        raise TypeError(
            f"{block.__name__}({', '.join(names)}) follows no channel rule: the first parameters of a block are one "
            f"of {known}"
        )

    @property
    def keeps_channels(self) -> bool:
        """Whether the output has as many channels as the one layer that is read."""
        return "c" in self.value

    @property
    def reads_several(self) -> bool:
        """Whether a row reads a list of layers."""
        return "ch" in self.value

    @property
    def takes_width(self) -> bool:
        """Whether a row's first argument is the channels of the output, before width scaling."""
        return "c2" in self.value

    @property
    def takes_repeats(self) -> bool:
        """Whether the block is built once and told the repeats, instead of being repeated."""
        return "n" in self.value

    def leading(self, read: Read, c2: int | None = None, n: int = 1) -> list[Read | None]:
        """The constructor's first arguments.

        Args:
            read: channels of the layer that is read, or of several.
            c2: channels of the output, for a rule that takes a width.
            n: repeats, for a rule that takes them.

        >>> ChannelRule.REPEATS.leading(32, 64, 2), ChannelRule.KEEPS.leading(32)
        ([32, 64, 2], [32])
        """
        values: dict[str, Read | None] = {"c": read, "ch": read, "c1": read, "c2": c2, "n": n}
        return [values[name] for name in self.value]

    def __str__(self) -> str:
        return f"({', '.join(self.value)}, ...)"
