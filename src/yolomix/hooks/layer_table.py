"""The table of layers that Ultralytics logs while it builds a model, with what was built in the lines of our rows."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

# A long list in the second column leaves no space before itself.
FORM = re.compile(r"([ \d]{3})([- \d]{20}| *\[[^]]+\])([ \d]{3})([ \d]{10})  ([^[ ]+) *(\[.*\]) *")

Place = tuple[int, int | list[int]]  # layer index and from, as the model YAML has them


@dataclass(frozen=True)
class Line:
    """One line of the table.

    >>> text = "  2                  -1  1      6640  ultralytics.nn.modules.block.C3k2            [32, 64, 1, False]"
    >>> line = Line.read(text)
    >>> line.i, line.args, str(line).rstrip() == text
    (2, '[32, 64, 1, False]', True)

    Attributes:
        i: the layer.
        f: what it reads.
        n: repeats after depth scaling.
        np: parameters.
        type: the module and its package.
        args: what its constructor was given.
    """

    i: int
    f: str
    n: int
    np: int
    type: str
    args: str

    @classmethod
    def read(cls, text: str) -> Line | None:
        """The line of a text; None for what is no line of a layer."""
        found = FORM.fullmatch(text)
        if found is None:
            return None
        i, f, n, np, kind, args = (part.strip() for part in found.groups())
        return cls(int(i), f, int(n), int(np), kind, args)

    def of(self, module: Any, args: Sequence[Any]) -> Line:
        """The line with another module, built with ``args``, in it."""
        return replace(self, np=module.np, type=module.type, args=str(args))

    def __str__(self) -> str:
        """As ``parse_model`` writes it."""
        return f"{self.i:>3}{self.f:>20}{self.n:>3}{self.np:10d}  {self.type:<45}{self.args:<30}"


@contextmanager
def corrected(logger: logging.Logger, places: Sequence[Place] = ()) -> Iterator[dict[int, Callable[[Line], Line]]]:
    """Hold back what is logged inside, then log it with the lines of layers changed by the functions in the dict.

    >>> import sys
    >>> logger = logging.Logger("layers")
    >>> logger.addHandler(logging.StreamHandler(sys.stdout))
    >>> with corrected(logger, [(5, 4)]) as changes:
    ...     logger.info("  0                  -1  1       464  Conv                       [3, 16, 3, 2]")
    ...     changes[0] = lambda line: replace(line, type="SimpleStem")
      5                   4  1       464  SimpleStem                                   [3, 16, 3, 2]...

    Args:
        logger: of Ultralytics.
        places: of every layer, where the model YAML has another index and from than the log.
    """
    held: list[str] = []
    changes: dict[int, Callable[[Line], Line]] = {}

    def _hold(record: logging.LogRecord) -> bool:
        if record.levelno == logging.INFO:
            held.append(record.getMessage())
        return record.levelno != logging.INFO

    def _changed(line: Line) -> Line:
        index = line.i
        if index in changes:
            line = changes[index](line)
        if places:
            i, f = places[index]
            line = replace(line, i=i, f=str(f))
        return line

    logger.addFilter(_hold)
    try:
        yield changes
    finally:
        logger.removeFilter(_hold)
        for text in held:
            line = Line.read(text)
            logger.info(str(_changed(line)) if line else text)
