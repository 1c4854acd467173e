"""Which backend is wanted: an argument, a ``use_backend`` block or the environment variable, the nearest first."""

from __future__ import annotations

import contextvars
import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from yolomix.ops.tracing import constant_in_graphs

ENVIRONMENT = "YOLOMIX_BACKEND"
COUNTED = "yolomix.ops.selective_scan.counted"
NAMES = ("auto", "triton", "numba", "eager", "reference")

_scans: contextvars.ContextVar[list[tuple[int, ...]] | None] = contextvars.ContextVar("yolomix_scans", default=None)
_forced: contextvars.ContextVar[str | None] = contextvars.ContextVar("yolomix_backend", default=None)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force a backend for every operator called with "auto" inside the block, in this thread.

    Operators that have no such backend are passed by.

    >>> import torch
    >>> from yolomix.ops import linear_attention, use_backend
    >>> q = torch.ones(1, 4, 2, 2)
    >>> with use_backend("reference"):
    ...     linear_attention(q, q, q, num_heads=1).shape
    torch.Size([1, 4, 2, 2])

    Raises:
        ValueError: the name is none of ``NAMES``.
    """
    token = _forced.set(_known(name))
    try:
        yield
    finally:
        _forced.reset(token)


@contextmanager
def counting() -> Iterator[list[tuple[int, ...]]]:
    """Run every operator in a form whose operations PyTorch can count, whichever backend would compute it.

    A scan is one node with a formula then, and its outputs are zeros: inside the block only shapes mean something.
    Gives the list to which every scan adds its sizes (B, D, L, N).

    >>> import torch
    >>> from torch.utils.flop_counter import FlopCounterMode
    >>> from yolomix.ops import selective_scan
    >>> u, A, B = torch.ones(1, 2, 4), torch.zeros(2, 3), torch.ones(1, 3, 4)
    >>> with counting() as scans, FlopCounterMode(display=False) as counter:
    ...     y = selective_scan(u, u, A, B, B)
    >>> scans, counter.get_total_flops() == 6 * 1 * 2 * 4 * 3
    ([(1, 2, 4, 3)], True)
    """
    importlib.import_module(COUNTED)  # enters the formulas, which a counter reads once, when it is made
    scans = list[tuple[int, ...]]()
    token = _scans.set(scans)
    try:
        yield scans
    finally:
        _scans.reset(token)


@constant_in_graphs
def is_counting() -> bool:
    """Whether operations are counted, see :func:`counting`."""
    return _scans.get() is not None


def note_scan(*sizes: int) -> None:
    """Add the sizes (B, D, L, N) of a scan to the list of :func:`counting`."""
    scans = _scans.get()
    if scans is not None:
        scans.append(sizes)


def wanted(backend: str, names: Sequence[str] = NAMES) -> str:
    """What to look for: the argument, else the innermost ``use_backend``, else the environment variable.

    The last two are for a whole model, so they pass by the operators whose ``names`` lack that backend.

    >>> with use_backend("numba"):
    ...     wanted("auto"), wanted("eager"), wanted("auto", ["eager", "reference"])
    ('numba', 'eager', 'auto')
    """
    if _known(backend) != "auto":
        return backend
    forced = _known(_forced_name())
    return forced if forced in names else "auto"


@constant_in_graphs
def _forced_name() -> str:
    return _forced.get() or os.environ.get(ENVIRONMENT) or "auto"


def _known(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"unknown backend {name!r}; {_near(name)}choose from {', '.join(NAMES)}")
    return name


def _near(name: str) -> str:
    import difflib  # only now: most processes never misspell a backend

    found = difflib.get_close_matches(name, NAMES, 1)
    return f"did you mean {found[0]!r}? Or " if found else ""
