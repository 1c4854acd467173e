"""Keeping stdout for results: what Ultralytics and its child processes write there goes elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import TextIO


def open_closed() -> None:
    """Open the standard streams that whoever started this process had closed; what is written to them is gone.

    Python has None for such a stream. And the next file that is opened gets its number, so that a child process, or a
    library that warns on stderr, would write into that file.

    >>> from unittest import mock
    >>> with mock.patch.object(sys, "stderr", None):
    ...     open_closed()
    ...     sys.stderr.write("nobody reads this")
    17
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: the one that was closed
            setattr(sys, name, os.fdopen(number, mode))


@contextlib.contextmanager
def output_to(stream: TextIO) -> Iterator[None]:
    """Send what this process writes to stdout, and the log of Ultralytics, to another stream.

    >>> import io
    >>> elsewhere = io.StringIO()
    >>> with output_to(elsewhere):
    ...     print("Ultralytics says hello")
    >>> elsewhere.getvalue().strip()
    'Ultralytics says hello'
    """
    stdout = sys.stdout
    _log_to(stream)
    try:
        with contextlib.redirect_stdout(stream):
            yield
    finally:
        _log_to(stdout)


@contextlib.contextmanager
def children_to_stderr() -> Iterator[None]:
    """Send what child processes write to stdout (the workers of DDP do) to stderr."""
    sys.stdout.flush()
    # The descriptor and not ``sys.stdout``: a child process inherits descriptors.
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


@contextlib.contextmanager
def own_log_to_stderr() -> Iterator[None]:
    """Show what yolomix logs, on stderr."""
    logger, handler = logging.getLogger("yolomix"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("yolomix: %(message)s"))
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _log_to(stream: TextIO) -> None:
    """Ultralytics' logger keeps the stdout of the moment when it was imported."""
    for handler in logging.getLogger("ultralytics").handlers:
        if type(handler) is logging.StreamHandler:  # not those that test tools and trackers derive from it
            with contextlib.suppress(ValueError):  # its stream may be closed by now
                handler.flush()
            handler.stream = stream
