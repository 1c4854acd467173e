"""Names that say a graft: ``yolo11n+HaloAttention(2,1)@p5.yaml``. Parsed here, never evaluated.

::

    name   = base "+" graft {"+" graft} [".yaml" | ".yml" | ".pt"]
    graft  = block ["(" block ")"] ["(" [value {"," value}] ")"] ["*" repeats] "@" point {"," point} {":" word}
             a block in brackets stands inside a CSP module: C3k2(MLLABlock); its arguments follow, all with names
             the last values may have names: (2, residual=False, mlp=plain)
    block  = the name of a block, or module.Class
    point  = an insertion point, see `yolomix.surgery.insertion.resolve`: p5, 10, neck, head-inputs, C2PSA, C2*, *
    word   = "after" | "wrap" | "replace" | "plain"          ("plain" is gate=False)
    value  = number | True | False | None | "text" | 'text' | [value, ..]
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUFFIXES = (".yaml", ".yml", ".pt")
MODES = ("after", "wrap", "replace")
WORDS = (*MODES, "plain")
CONSTANTS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
BLOCK = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
NAME, ARGUMENTS = " is no file, and as a name with grafts", " as arguments"  # what a text was read as, for errors


@dataclass(frozen=True)
class Part:
    """One graft of a name, with the arguments of :func:`yolomix.graft`; ``at_char`` is where it stands in the name."""

    block: str
    at: tuple[str, ...]
    args: tuple[Any, ...] = ()
    n: int = 1
    mode: str = "after"
    gate: bool | None = None
    at_char: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Name:
    """A parsed name: the file or model it starts from, and the grafts, in order."""

    text: str
    base: str
    parts: tuple[Part, ...]

    @property
    def is_yaml(self) -> bool:
        """Whether it means a model without weights; a name without suffix means weights, as Ultralytics reads it.

        >>> parse("yolo11n+MLLABlock@p5.yaml").is_yaml, parse("yolo11n+MLLABlock@p5").is_yaml
        (True, False)
        """
        return self.base.endswith((".yaml", ".yml"))


class GraftNameError(ValueError):
    """A name that does not follow the grammar, shown with a caret under the character.

    >>> print(GraftNameError("yolo11n+", 8, "needed the name of a block, got the end"))
    'yolo11n+' is no file, and as a name with grafts: needed the name of a block, got the end
      yolo11n+
              ^
    """

    def __init__(self, text: str, at: int, what: str, intro: str = NAME) -> None:
        super().__init__(f"{text!r}{intro}: {what}\n  {text}\n  {' ' * at}^")


def parse(name: str) -> Name:
    """Take a name apart.

    >>> found = parse("yolo11n+HaloAttention(2,1)@p4,p5:wrap.yaml")
    >>> found.base, found.parts[0].block, found.parts[0].args, found.parts[0].at, found.parts[0].mode
    ('yolo11n.yaml', 'HaloAttention', (2, 1), ('p4', 'p5'), 'wrap')

    Raises:
        ValueError: it does not follow the grammar; the message points at the character.
    """
    suffix = _suffix(name)
    end = len(name) - len(suffix)
    found = re.search(r"\+(?=[^/\\]*$)", name[:end])  # the first "+" after the last folder
    plus = found.start() if found else end
    base = name[:plus]
    if not found or not Path(base).name or base.endswith(("/", "\\")):
        raise GraftNameError(name, plus, "needed a model, '+' and a graft, as in yolo11n+HaloAttention@p5.yaml")
    own = _suffix(base)
    if own and suffix and own != suffix:
        what = f"the base is a {own} file and the name ends in {suffix}; one of them is enough"
        raise GraftNameError(name, end, what)
    reader = _Reader(name, plus, end)
    parts = []
    while reader.at < end:
        reader.take("+", "'+' and another graft, or the end")
        parts.append(reader.graft())
    if not own:
        base += suffix or ".pt"
    return Name(name, base, tuple(parts))


def arguments(text: str) -> list[Any]:
    """The values of ``2,1`` or ``0.5,True,[1,2],mlp=plain``, named ones as a dictionary at the end.

    One pair of brackets around everything is that of a model YAML and means nothing.

    >>> arguments("2,1,residual=False")
    [2, 1, {'residual': False}]

    Raises:
        ValueError: they are none; the message points at the character.
    """
    reader = _Reader(text, 0, len(text), ARGUMENTS)
    found: list[Any] = []
    while reader.at < reader.end:
        if found:
            reader.take(",", "',' or the end")
        reader.argument(found)
    if len(found) == 1 and isinstance(found[0], list):
        return found[0]
    return found


def _suffix(name: str) -> str:
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def _number(text: str) -> int | float:
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    return float(text)


class _Reader:
    """Reads a text from left to right, up to ``end``; a method per rule of the grammar."""

    def __init__(self, text: str, at: int, end: int, intro: str = NAME) -> None:
        self.text, self.at, self.end, self.intro = text, at, end, intro

    def error(self, needed: str, at: int | None = None) -> GraftNameError:
        """The error that something else was needed here, or at another character."""
        if at is None:
            at = self.at
        came = repr(self.text[at]) if at < self.end else "the end"
        return GraftNameError(self.text, at, f"needed {needed}, got {came}", self.intro)

    def match(self, pattern: str) -> str | None:
        """The text here if it fits, and go past it."""
        found = re.compile(pattern).match(self.text, self.at, self.end)
        if found is None or not found[0]:
            return None
        self.at = found.end()
        return found[0]

    def take(self, char: str, needed: str) -> None:
        """Go past a character that has to stand here."""
        if self.match(re.escape(char)) is None:
            raise self.error(needed)

    def graft(self) -> Part:
        """A block, its arguments, repeats, insertion points and words."""
        start = self.at
        block = self.block()
        args: list[Any] = []
        if self.match(r"\("):
            args = self.values(")", self.at - 1)
        n = 1
        if self.match(r"\*"):
            n = self.repeats()
        # After arguments no others can come, which is one way less to go on.
        self.take("@", "'@' and an insertion point" if args else "'(' and arguments, or '@' and an insertion point")
        at = [self.point()]
        while self.match(","):
            at.append(self.point())
        mode, gate = self.words()
        return Part(block, tuple(at), tuple(args), n, mode, gate, start)

    def block(self) -> str:
        """A block, perhaps inside a CSP module. A word in the brackets of a block is no block, but lacks its quotes."""
        outer = self.match(BLOCK)
        if outer is None:
            raise self.error("the name of a block")
        from yolomix.nn.registry import BLOCKS  # only now: help reads this file, and must not wait for torch

        inside = None
        if outer not in BLOCKS:
            inside = self.match(rf"\((?!(True|False|None|true|false|null)\)){BLOCK}\)")
        return outer + (inside or "")

    def repeats(self) -> int:
        """A whole number of at least 1."""
        digits = self.match(r"[1-9]\d*")
        if digits is None:
            raise self.error("a number of repeats after '*'")
        return int(digits)

    def point(self) -> str:
        """The name of an insertion point."""
        point = self.match(r"[\w.*?-]+")
        if point is None:
            raise self.error("an insertion point, like p5, neck, head-inputs, a layer's index or module type, or *")
        return point

    def words(self) -> tuple[str, bool | None]:
        """Mode and gate, from what follows the insertion points."""
        mode, gate = "after", None
        while self.match(":"):
            start = self.at
            word = self.match(r"\w+") or ""
            if word not in WORDS:
                needed = f"one of {', '.join(WORDS)} after ':'"
                if near := difflib.get_close_matches(word, WORDS, n=1):
                    needed += f" (did you mean {near[0]}?)"
                raise self.error(needed, start)
            if word == "plain":
                gate = False
            else:
                mode = word
        return mode, gate

    def values(self, close: str, opened: int) -> list[Any]:
        """Values up to the closing bracket, which is taken too; ``opened`` is where the opening one stands."""
        found: list[Any] = []
        while self.match(re.escape(close)) is None:
            if self.at >= self.end:
                what = f"needed {close!r}, the bracket that opens here is not closed"
                raise GraftNameError(self.text, opened, what, self.intro)
            if found:
                self.take(",", f"',' or {close!r}")
            if close == ")":
                self.argument(found)
            else:
                found.append(self.value())
        return found

    def argument(self, found: list[Any]) -> None:
        """Add a value to those found, or ``name=value`` to the dictionary at their end."""
        start = self.at
        named = bool(found) and isinstance(found[-1], dict)
        key = self.match(r"[A-Za-z_]\w*(?=\s*=)")
        if key is None:
            if named:
                raise self.error("name=value, as before it", start)
            found.append(self.value())
            return
        self.match(r"\s*=\s*")
        if not named:
            found.append({})
        # A word without quotes is a text, unless it is a constant.
        text = self.match(r"(?!True\b|False\b|None\b|true\b|false\b|null\b)[A-Za-z_]\w*")
        found[-1][key] = self.value() if text is None else text

    def value(self) -> Any:
        """A number, a constant, a quoted text or a list."""
        start = self.at
        if (number := self.match(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?(?![\w.])")) is not None:
            return _number(number)
        if (quoted := self.match(r"'[^']*'|\"[^\"]*\"")) is not None:
            return quoted[1:-1]
        if self.match(r"\["):
            return self.values("]", start)
        word = self.match(r"[A-Za-z_]\w*")
        if word in CONSTANTS:
            return CONSTANTS[word]
        raise self.error("a number, True, False, None, a quoted text or a list", start)
