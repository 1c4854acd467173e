"""What somebody meant by a name that is none: the nearest ones, or all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FEW = 12  # names that one line can hold


def near(word: str, known: Iterable[str]) -> str:
    """What to type instead: the names near to a word, or all of them when none is near and they are few.

    >>> near("epoch", ["epochs", "batch"])
    'did you mean epochs?'
    >>> near("zzz", ["epochs", "batch"])
    'known: epochs, batch'
    """
    names = [*known]
    if not names:
        return "it takes no arguments"
    more = ", ..." if len(names) > FEW else ""
    return meant(word, names) or f"known: {', '.join(names[:FEW])}{more}"


def meant(word: str, known: Iterable[str]) -> str:
    """The question whether one of the names near to a word was meant; empty when none is near.

    >>> meant("warp", ["after", "wrap"]), meant("list", ["edit"])
    ('did you mean wrap?', '')
    """
    *others, last = difflib.get_close_matches(word, [*known], n=3) or [""]
    if not last:
        return ""
    return f"did you mean {', '.join(others)} or {last}?" if others else f"did you mean {last}?"
