"""What a kind of fault is: where its cases come from, what is done with one, and when that is bad."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

Case = Any  # whatever JSON can hold, so that a failing one is kept as a file


class Bad(AssertionError):  # noqa: N818  raised as a verdict
    """What a case showed that may not be."""


@dataclass(frozen=True)
class Limits:
    """What one case may use; more is a failure.

    Attributes:
        seconds: CPU time of the case and of its own children.
        wall: seconds until it counts as hanging, on a machine that others use too.
        memory: GiB at the peak, what the parent had imported included.
        file: MiB of the largest file that it may write.
    """

    seconds: float = 20.0
    wall: float = 90.0
    memory: float = 4.0
    file: float = 512.0


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        name: what it is called on the command line and in the table.
        tries: what its cases are, in words, for the table.
        figure: what has to come out, in words, for the table.
        check: does one case, in a process and an empty folder of its own; returns a word for the count, raises
            :class:`Bad`, or lets an exception of yolomix through.
        target: how many cases a full run tries; None for a list that is tried whole.
        draw: makes a case of a random generator, endless.
        listed: all cases, for a kind that has an end.
        first: cases that come before all others, for they once found something or are to find a plant.
        walks: whether a listed case without ``"n"`` is repeated with n = 1, 2, ... until it answers ``"end"``.
        bare: whether the parent may have imported neither Ultralytics nor yolomix.
        runs_nothing: whether starting a program or opening a connection is a failure.
        limits: what one case may use.
        share: how much of a run's time it is given, in parts.
        small: how many cases the fixed small part tries.
        plants: regressions that it has to find: a name, and a function that breaks yolomix in this process.
        theirs: whether an exception of Ultralytics is as good as one of ours: it names the file and the reason.
        refusal: why it cannot be tried on this system, or None.
    """

    name: str
    tries: str
    figure: str
    check: Callable[[Case], str]
    target: int | None = None
    draw: Callable[[Random], Case] | None = None
    listed: Callable[[], Iterable[Case]] | None = None
    first: tuple[Case, ...] = ()
    walks: bool = False
    bare: bool = False
    runs_nothing: bool = True
    limits: Limits = Limits()
    share: float = 1.0
    small: int = 20
    plants: dict[str, Callable[[], None]] = field(default_factory=dict)
    theirs: Callable[[BaseException], bool] = lambda error: False
    refusal: Callable[[], str | None] = lambda: None
