"""How the channels of a block follow from what it reads: its constructor says it, or whoever registers the block."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

Read = int | list[int]  # the channels of the layer that a block reads, or of several

KINDS = {
    "c": "keeps the channels",
    "c1 c2": "changes them; c2 is a row's first argument, before width scaling",
    "c1 c2 n": "the same, and takes the row's repeats itself",
    "c1": "is told what it reads, and gives what it gives",
    "ch": "reads several layers and is told their channels, as a list",
    "ch c2": "reads several layers and gives c2 channels",
    "": "is told no channels",
}

# Parameter names that people give to what goes in, to what comes out, to a width that stays, to a list of widths.
_IN = {
    "c1", "in_channels", "in_channel", "in_ch", "in_chs", "in_chans", "in_planes", "in_dim", "in_features",
    "input_channels", "input_channel", "input_dim", "inc", "inp", "inch", "in_c", "cin", "c_in", "C_in", "ch_in",
    "channels_in", "dim_in", "num_channels", "dim", "channels",
}  # fmt: skip
_OUT = {
    "c2", "out_channels", "out_channel", "out_ch", "out_chs", "out_chans", "out_planes", "out_dim", "out_features",
    "output_channels", "output_channel", "output_dim", "ouc", "outc", "oup", "outch", "out_c", "cout", "c_out",
    "C_out", "ch_out", "channels_out", "dim_out", "num_filters",
}  # fmt: skip
_STAYS = {"dim", "channels", "channel", "d_model", "embed_dim", "num_channels", "n_channels"}
_LIST = {"ch", "in_channels_list", "in_channel_list"}

_WORD = re.compile(r"c|c1|c2|n|ch|ch\[-?\d+\]|sum\(ch\)|\(c2\)")


@dataclass(frozen=True)
class ChannelRule:
    """The first parameters of a block's constructor, and what follows from them.

    ============  ==================================================================================
    ``c``         keeps the channels
    ``c1 c2``     changes them; ``c2`` before width scaling is a row's first argument
    ``c1 c2 n``   takes the row's repeats itself instead of being repeated
    ``c1``        is told what it reads; what it gives is measured
    ``ch``        reads several layers; ``ch`` is the list of their channels
    ``ch c2``     reads several layers and gives ``c2`` channels
    (empty)       is told no channels
    ============  ==================================================================================

    One word stands for one parameter, in the constructor's order. Further words: ``ch[0]`` is the channels of the first
    of several inputs, ``sum(ch)`` their sum, and ``(c2)`` a width that rows have and the constructor does not take.
    What a rule without ``c`` or ``c2`` gives is measured on a small feature map.

    >>> ChannelRule.said("c1 c2 n").takes_width, ChannelRule.said("ch").reads_several
    (True, True)
    >>> print(ChannelRule.said("c1 c2"))
    (c1, c2, ...)
    """

    words: tuple[str, ...]

    @classmethod
    def said(cls, text: str) -> ChannelRule:
        """The rule of a text.

        >>> ChannelRule.said("c3")
        Traceback (most recent call last):
        ValueError: 'c3' is no channel rule: ...

        Raises:
            TypeError: it is no text.
            ValueError: it has other words than a rule has, or words that contradict each other.
        """
        if not isinstance(text, str):
            raise TypeError(f'a channel rule is a text, such as "c1 c2", got {text!r}')
        words = tuple(text.split())
        rule = cls(words)
        wrong = next((f"there is no word {word!r}" for word in words if not _WORD.fullmatch(word)), "")
        if not wrong and "c" in words and rule.takes_width and "(c2)" not in words:
            wrong = "'c' keeps the channels and 'c2' changes them"
        if not wrong and rule.reads_several and {"c", "c1"} & set(words):
            wrong = "'c' and 'c1' are of one input and 'ch' of several"
        if wrong:
            raise ValueError(f"{text!r} is no channel rule: {wrong}. {_kinds()}")
        return rule

    @classmethod
    def of(cls, block: Callable[..., nn.Module], text: str | None = None) -> ChannelRule:
        """The rule that was said, if it fits the constructor, or the one that its parameters' names say.

        >>> class Widen(nn.Module):
        ...     def __init__(self, in_channels: int, out_channels: int) -> None:
        ...         super().__init__()
        >>> print(ChannelRule.of(Widen))
        (c1, c2, ...)
        >>> ChannelRule.of(nn.Identity)
        Traceback (most recent call last):
        TypeError: which channels Identity(args, kwargs) takes cannot be read from the names of its parameters...

        Args:
            block: the class, or a function that makes a module, whose rule has to be said.
            text: the rule, where the names of the parameters do not say it; None reads it from them.

        Raises:
            TypeError: neither of the two, or no rule, or one that does not fit.
            ValueError: the text is no rule.
        """
        is_class = isinstance(block, type) and issubclass(block, nn.Module)
        if not is_class and not inspect.isfunction(block):
            raise TypeError(
                f"a block is a class derived from torch.nn.Module, or a function that makes one, got {block!r}"
            )
        parameters = list(inspect.signature(block).parameters.values())
        positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        shown = f"{block.__name__}({', '.join(p.name for p in parameters)})"
        if text is None:
            found = _read(positional) if is_class else None
            if found is None:
                raise TypeError(
                    f"which channels {shown} takes cannot be read from the names of its parameters. Say it where the "
                    f'block is registered: register({block.__name__}, rule="c"). {_kinds()}'
                )
            return cls(tuple(found.split()))
        rule = cls.said(text)
        takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if rule.filled > len(positional) and not takes_any:
            raise TypeError(
                f"rule={text!r} fills {rule.filled} parameters, and {shown} takes {len(positional)} by position. "
                f"{_kinds()}"
            )
        return rule

    @property
    def filled(self) -> int:
        """How many of the constructor's first parameters it fills."""
        return len([word for word in self.words if word != "(c2)"])

    @property
    def keeps_channels(self) -> bool:
        """Whether it promises that the output has as many channels as the one layer that is read."""
        return "c" in self.words

    @property
    def reads_several(self) -> bool:
        """Whether a row reads a list of layers."""
        return any("ch" in word for word in self.words)

    @property
    def reads_any(self) -> bool:
        """Whether a row may read one layer or a list: the block is told nothing of them."""
        return not self.reads_several and not {"c", "c1"} & set(self.words)

    @property
    def takes_width(self) -> bool:
        """Whether a row's first argument is a width, before width scaling."""
        return "c2" in self.words or "(c2)" in self.words

    @property
    def gives_width(self) -> bool:
        """Whether the output has the channels that the row says."""
        return "c2" in self.words

    @property
    def takes_repeats(self) -> bool:
        """Whether the block is built once and told the repeats, instead of being repeated."""
        return "n" in self.words

    def leading(self, read: Read, c2: int | None = None, n: int = 1) -> list[Read | None]:
        """The constructor's first arguments.

        Args:
            read: channels of the layer that is read, or of several.
            c2: channels of the output, for a rule that takes a width.
            n: repeats, for a rule that takes them.

        >>> ChannelRule.said("c1 c2 n").leading(32, 64, 2), ChannelRule.said("ch[0] sum(ch)").leading([8, 16])
        ([32, 64, 2], [8, 24])
        """
        several = read if isinstance(read, list) else [read]
        values: dict[str, Read | None] = {"c": read, "c1": read, "ch": read, "c2": c2, "n": n, "sum(ch)": sum(several)}
        found: list[Read | None] = []
        for word in self.words:
            if word.startswith("ch["):
                found.append(several[int(word[3:-1])])
            elif word != "(c2)":
                found.append(values[word])
        return found

    def __str__(self) -> str:
        return f"({', '.join([*self.words, '...'])})"


def _read(names: list[str]) -> str | None:
    """The rule that the names of a constructor's positional parameters say, None where they leave it open."""
    first, second, third = [*names, "", "", ""][:3]
    if first in _LIST:
        return "ch c2" if second in _OUT else "ch"
    if first in _IN and second in _OUT:
        return "c1 c2 n" if third == "n" else "c1 c2"
    if first == "c" or (first in _STAYS and not set(names[1:]) & (_IN | _OUT)):
        return "c"
    return None


def _kinds() -> str:
    return "A rule is one of " + "; ".join(f'"{rule}" {meaning}' for rule, meaning in KINDS.items())
