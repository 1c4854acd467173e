"""The arguments of a verb, declared once: what help says, what is read, and what a shell can complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolomix.cli.request import UsageError
from yolomix.nearest import meant, near


@dataclass(frozen=True)
class Kind:
    """What the text of an argument has to be. A shell completes by it: model names, blocks, files, choices.

    >>> SWITCH.read("false"), SWITCH.read("no"), SWITCH.choices
    (False, None, ('true', 'false'))

    Attributes:
        name: in words, as in "seed must be a whole number of at least 0".
        read: makes the value; None where the text is none of this kind.
        choices: every text that it can be, where they are few.
        suffixes: what the names of the files end in that it can be, "" of any file; none means folders alone, and None
            that it is no path.
    """

    name: str
    read: Callable[[str], Any] = str
    choices: tuple[str, ...] = ()
    suffixes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Argument:
    """One argument of a verb, given as ``name=value``.

    >>> seed = Argument("seed", "whole number, of the initial weights", whole(0), default=0)
    >>> seed.described, seed.value("3")
    ('whole number, of the initial weights (0)', 3)

    Attributes:
        name: what stands before the equals sign.
        meaning: what it is for, in a few words.
        kind: what its text has to be.
        required: whether the verb cannot do without it.
        default: the value that the verb gets when it is not given; a plain value or None.
        hint: what an error asks for when it is missing; empty asks for ``name=``.
        repeatable: whether it may be given several times; its value is a list then.
        bare: whether its text may stand alone, as in ``yolomix completion bash``; of one argument of a verb at most.
    """

    name: str
    meaning: str
    kind: Kind
    required: bool = False
    default: str | float | bool | None = None
    hint: str = ""
    bare: bool = False
    repeatable: bool = False

    @property
    def described(self) -> str:
        """The meaning with the default value, or with the word that it is needed."""
        if self.required:
            return f"{self.meaning} (needed)"
        if self.default in (None, "") or self.default is False:  # the meaning of a switch says what true does
            return self.meaning
        return f"{self.meaning} ({self.default})"

    def value(self, text: str) -> Any:
        """What a text means.

        Raises:
            UsageError: it is none of this kind.
        """
        found = self.kind.read(text)
        if found is None:
            hint = meant(text, self.kind.choices)
            raise UsageError(f"{self.name} must be {self.kind.name}, got {text!r}{hint and f'; {hint}'}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "meaning": self.meaning,
            "kind": self.kind.name,
            "choices": [*self.kind.choices],
            "required": self.required,
            "default": self.default,
        }


def parse(verb: str, words: Sequence[str], arguments: Sequence[Argument]) -> dict[str, Any]:
    """The value of every argument of a verb, from the ``key=value`` words that were given.

    >>> parse("graft", ["n=2"], [Argument("n", "repeats", whole(1), default=1), Argument("at", "where", POINTS)])
    {'n': 2, 'at': None}
    >>> parse("completion", ["zsh"], [Argument("shell", "the shell", one_of("bash", "zsh"), bare=True)])
    {'shell': 'zsh'}

    Args:
        verb: for messages.
        words: what stands behind the verb.
        arguments: all that it takes.

    Raises:
        UsageError: a word is no ``key=value``, its key is unknown or given twice, or its value is of another kind.
    """
    known = {argument.name: argument for argument in arguments}
    given = _given(verb, words, known)
    values: dict[str, Any] = {}
    for name, argument in known.items():
        found = [argument.value(text) for text in given.get(name, ())]
        values[name] = found if argument.repeatable else found[0] if found else argument.default
    return values


def _given(verb: str, words: Sequence[str], known: Mapping[str, Argument]) -> dict[str, list[str]]:
    """The texts by name."""
    given: dict[str, list[str]] = {}
    alone = [name for name, argument in known.items() if argument.bare]
    for word in words:
        name, equals, text = word.partition("=")
        if alone and not equals and name not in known:
            name, text = alone[0], word
        if name not in known:
            raise UsageError(f"{verb} takes no {name!r}; {near(name, known)}")
        if not text:
            raise UsageError(f"{name} needs a value, {name}=...: {known[name].described}")
        if name in given and not known[name].repeatable:
            raise UsageError(f"{name} is given twice: {given[name][0]} and {text}")
        given.setdefault(name, []).append(text)
    return given


def whole(least: int) -> Kind:
    """A whole number that is not too small.

    >>> whole(1).read("0") is None
    True
    """

    def _read(text: str) -> int | None:
        return int(text) if text.isdecimal() and int(text) >= least else None

    return Kind(f"a whole number of at least {least}", _read)


def numbers(least: int, most: int) -> Kind:
    """One whole number from 1 on, or several with commas between them.

    >>> numbers(1, 2).read("480,640"), numbers(1, 2).read("0")
    ([480, 640], None)
    """

    def _read(text: str) -> list[int] | None:
        found = [int(part) if part.isdecimal() else 0 for part in text.split(",")]
        return found if least <= len(found) <= most and all(found) else None

    several = " and ".join(["a whole number of at least 1", f"at most {most} with commas"])
    return Kind(several, _read)


def one_of(*choices: str) -> Kind:
    """One of a few texts.

    >>> one_of("after", "wrap").name
    'one of after, wrap'
    """

    def _read(text: str) -> str | None:
        return text if text in choices else None

    return Kind(f"one of {', '.join(choices)}", _read, choices)


def some_of(*choices: str) -> Kind:
    """Some of a few texts, with commas between them.

    >>> some_of("32", "16", "8").read("32,8"), some_of("32", "16", "8").read("32,4")
    (['32', '8'], None)
    """

    def _read(text: str) -> list[str] | None:
        found = text.split(",")
        return found if {*found} <= {*choices} else None

    return Kind(f"some of {', '.join(choices)}, with commas", _read, choices)


def _switch(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.lower())


def _pair(text: str) -> tuple[str, str] | None:
    first, _, second = text.partition(":")
    return (first, second) if first and second else None


def _layer_and_number(text: str) -> tuple[str, int] | None:
    layer, _, n = text.rpartition(":")
    return (layer, int(n)) if layer and n.isdecimal() and int(n) else None


def fractions(count: int) -> Kind:
    """Numbers from 0 to 1 with commas between them.

    >>> fractions(2).read("0.5,0.25"), fractions(2).read("0.5,2")
    ([0.5, 0.25], None)
    """

    def _read(text: str) -> list[float] | None:
        try:
            found = [float(part) for part in text.split(",")]
        except ValueError:
            return None
        return found if len(found) == count and all(0 <= part <= 1 for part in found) else None

    return Kind(f"{count} numbers from 0 to 1 with commas" if count > 1 else "a number from 0 to 1", _read)


def _models(text: str) -> list[str]:
    """Model names with commas between them; names of grafts have commas of their own, and end in .yaml or .pt.

    >>> _models("a.pt,yolo11n+HaloAttention(2,1)@p4,p5.yaml,runs/train")
    ['a.pt', 'yolo11n+HaloAttention(2,1)@p4,p5.yaml', 'runs/train']
    """
    *before, last = text.split(",")
    found, begun = list[str](), ""
    for part in before:
        begun = f"{begun},{part}" if begun else part
        if part.endswith((".pt", ".yaml", ".yml")) or Path(begun).exists():
            found.append(begun)
            begun = ""
    return [*found, f"{begun},{last}" if begun else last]


TEXT = Kind("a text")
SWITCH = Kind("true or false", _switch, ("true", "false"))
FILE = Kind("a file", suffixes=("",))
FOLDER = Kind("a folder", Path, suffixes=())
MODEL = Kind("a model name", suffixes=(".pt", ".yaml", ".yml"))
CHECKPOINT = Kind("a checkpoint", suffixes=(".pt",))
DATASET = Kind("a dataset YAML", suffixes=(".yaml", ".yml"))
EXPORT_FORMAT = Kind("an export format")
EXPORT_FORMATS = Kind("export formats", lambda text: text.split(","))
PRECISIONS = some_of("32", "16", "8")
BLOCK = Kind("a block")
MODELS = Kind("model names", _models, suffixes=(".pt", ".yaml", ".yml"))
POINTS = Kind("insertion points", lambda text: text.split(","))
LAYER_TYPES = Kind("OLD:NEW", _pair)
LAYER_AND_NUMBER = Kind("LAYER:N", _layer_and_number)
