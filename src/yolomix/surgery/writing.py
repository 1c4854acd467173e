"""The text of grafts: what ``yolomix.surgery.grammar`` reads."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from yolomix.surgery.grammar import CONSTANTS, Part


def written(parts: Iterable[Part]) -> str:
    """The text of grafts: what :func:`yolomix.surgery.grammar.parse` reads.

    >>> written([Part("HaloAttention", ("p5",), (2, 1), gate=False)])
    '+HaloAttention(2,1)@p5:plain'
    """
    return "".join(map(_written, parts))


def arguments(values: Iterable[Any]) -> str:
    """The text of arguments: what :func:`yolomix.surgery.grammar.arguments` reads.

    >>> arguments([2, "plain", {"mlp": "plain"}])
    "2,'plain',mlp=plain"
    """
    return ",".join(map(_argument, values))


def _written(part: Part) -> str:
    text = f"+{part.block}"
    if part.args:
        text += f"({arguments(part.args)})"
    if part.n != 1:
        text += f"*{part.n}"
    text += f"@{','.join(part.at)}"
    if part.mode != "after":
        text += f":{part.mode}"
    if part.gate is False and part.mode != "replace":
        text += ":plain"
    return text


def _argument(value: Any) -> str:
    if not isinstance(value, dict):
        return _value(value)
    return ",".join(f"{key}={_word(named)}" for key, named in value.items())


def _word(value: Any) -> str:
    """A value after a name, where a text that looks like a word needs no quotes."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*", value) and value not in CONSTANTS:
        return value
    return _value(value)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_value, value))}]"
    return repr(value)
