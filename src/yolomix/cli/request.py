"""The words of a command line, read once and strictly."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

FLAGS = ("--json", "--debug", "--help", "-h", "--version")
TASKS = ("detect", "segment", "classify", "pose", "obb", "semantic", "depth")  # `yolo detect train` is good syntax

FEW = 12  # names that one line can hold


class UsageError(ValueError):
    """The command line itself is wrong: nothing was done."""


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Args:
        verb: one of the known verbs, or "help".
        words: all further words in order, without flags.
        json: whether a program will read the answer.
        about: the verb to explain, for "help".
        values: what the words of one of our own verbs say, by key.
    """

    verb: str
    words: Sequence[str] = ()
    json: bool = False
    about: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)


def read(words: Sequence[str], verbs: Iterable[str]) -> Request:
    """Make sense of the words after ``yolomix``.

    Raises:
        UsageError: there is no verb, or an unknown one.
    """
    known = [*verbs]
    flags, rest = [w for w in words if w in FLAGS], [w for w in words if w not in FLAGS]
    named = [w for w in rest if w in known]
    if "--version" in flags:
        return Request("version", json="--json" in flags)
    wants_help = "--help" in flags or "-h" in flags or rest[:1] == ["help"]
    if not rest or (wants_help and (rest == ["help"] or named)):
        return Request("help", about=named[0] if named else None)
    verb = rest[1] if rest[0] in TASKS and rest[1:2] and rest[1] in known else rest[0]
    if verb == "help":
        verb = rest[1]
    if verb not in known:
        raise UsageError(f"no verb {verb!r}; {near(verb, known)}. `yolomix help` explains each")
    rest.remove(verb)
    return Request(verb, rest, "--json" in flags)


def values(request: Request, takes: Mapping[str, str]) -> dict[str, str]:
    """The ``key=value`` words of one of our own verbs.

    Raises:
        UsageError: a word is no ``key=value``, its key is unknown, or it is given twice.
    """
    found: dict[str, str] = {}
    for word in request.words:
        key, equals, value = word.partition("=")
        if key not in takes:
            raise UsageError(f"{request.verb} takes no {key!r}; {near(key, takes)}")
        if not equals or not value:
            raise UsageError(f"{key} needs a value, {key}=...: {takes[key]}")
        if key in found:
            raise UsageError(f"{key} is given twice: {found[key]} and {value}")
        found[key] = value
    return found


def near(word: str, known: Iterable[str]) -> str:
    """What to type instead: the names near to a word, or all of them when none is near and they are few."""
    names = [*known]
    if close := difflib.get_close_matches(word, names, n=3, cutoff=0.5):
        return f"near: {', '.join(close)}"
    few = ", ".join(names) if len(names) <= FEW else f"{', '.join(names[:FEW])}, ..."
    return f"known: {few}" if names else "it takes no arguments"
