"""The table of layers that Ultralytics logs while it builds a model, with lines of ours in place of some."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def corrected(logger: logging.Logger) -> Iterator[dict[int, str]]:
    """Hold back what is logged inside, then log it with the lines of the layers in the yielded dict replaced.

    >>> import sys
    >>> logger = logging.Logger("layers")
    >>> logger.addHandler(logging.StreamHandler(sys.stdout))
    >>> with corrected(logger) as lines:
    ...     logger.info("  0  -1  1  Conv")
    ...     lines[0] = "  0  -1  1  MLLABlock"
      0  -1  1  MLLABlock
    """
    held: list[str] = []
    lines: dict[int, str] = {}

    def _hold(record: logging.LogRecord) -> bool:
        if record.levelno == logging.INFO:
            held.append(record.getMessage())
        return record.levelno != logging.INFO

    logger.addFilter(_hold)
    try:
        yield lines
    finally:
        logger.removeFilter(_hold)
        for text in held:
            layer = re.match(r" *(\d+) ", text)
            logger.info(lines.get(int(layer[1]), text) if layer else text)


def line(module: nn.Module, n: int, args: list[object]) -> str:
    """One line as ``parse_model`` writes it: index, from, repeats, parameters, module, arguments.

    >>> layer = nn.Identity()
    >>> layer.i, layer.f, layer.np, layer.type = 3, -1, 1200, "yolomix.nn.mlla.MLLABlock"
    >>> line(layer, 1, []).split()
    ['3', '-1', '1', '1200', 'yolomix.nn.mlla.MLLABlock', '[]']
    """
    return f"{module.i!s:>3}{module.f!s:>20}{n:>3}{module.np:10.0f}  {module.type:<45}{args!s:<30}"
