"""The things in a sample picture: six classes told apart by outline, texture or arrangement, never by colour.

Coordinates are the object's own: ``u, v`` in object radii, turned with the object, (h, w) each. An outline is negative
inside and about the distance to the edge, in radii. A mark is 1 where the second colour lies and 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]
Field = Callable[[Map, Map], Map]

PERIODS = 1.0  # of a texture per radius, the same for stripes and checks
DOT = 0.25  # radius of a dot, in object radii


def circle(u: Map, v: Map) -> Map:
    """A disc."""
    return np.hypot(u, v) - 1


def square(u: Map, v: Map) -> Map:
    """A square with round corners."""
    return np.asarray(np.sqrt(np.hypot(u * u, v * v)) - 0.88)


def gear(u: Map, v: Map) -> Map:
    """A disc with eight teeth."""
    return np.asarray(np.hypot(u, v) - 0.86 - 0.14 * np.clip(3 * np.cos(8 * np.arctan2(v, u)), -1, 1))


def star(u: Map, v: Map) -> Map:
    """A star with five points."""
    turn = (
        np.abs((np.arctan2(v, u) * 5 / (2 * np.pi) + 0.5) % 1 - 0.5) * 2 * np.pi / 5
    )  # 0 at a point, 36 degrees between
    along, across = np.hypot(u, v) * np.cos(turn), np.hypot(u, v) * np.sin(turn)
    return (across + 0.60 * along - 0.60) * 0.857


def triangle(u: Map, v: Map) -> Map:
    """A triangle; no class looks like it."""
    return np.maximum(np.abs(u) * 0.866 + v * 0.5, -v) - 0.5


def plain(u: Map, v: Map) -> Map:
    """No mark."""
    return np.zeros_like(u)


def stripes(u: Map, v: Map) -> Map:
    """Parallel bands."""
    return _soft(np.sin(2 * np.pi * PERIODS * u))


def checks(u: Map, v: Map) -> Map:
    """A chessboard with the period of the stripes."""
    return _soft(2 * np.sin(2 * np.pi * PERIODS * u) * np.sin(2 * np.pi * PERIODS * v))


def row(u: Map, v: Map) -> Map:
    """Three dots in a row."""
    return _dots(u, v, ((-0.55, 0.0), (0.0, 0.0), (0.55, 0.0)))


def trio(u: Map, v: Map) -> Map:
    """Three dots at the corners of a triangle."""
    return _dots(u, v, ((0.0, 0.5), (-0.43, -0.25), (0.43, -0.25)))


def duo(u: Map, v: Map) -> Map:
    """Two dots: nearly a row or a trio, and no class."""
    return _dots(u, v, ((-0.4, 0.0), (0.4, 0.0)))


@dataclass(frozen=True)
class Kind:
    """A thing that a picture may show.

    Args:
        outlines: it has one of these.
        mark: drawn on it in a second colour.
        smallest: least extent at which it can be told from the other kinds, in pixels.
        name: its class; empty for a thing that is not labelled.
    """

    outlines: tuple[Field, ...]
    mark: Field
    smallest: int
    name: str = ""


CLASSES = (
    Kind((circle, square), stripes, 16, "stripes"),
    Kind((circle, square), checks, 16, "checks"),
    Kind((circle, square), row, 18, "row"),
    Kind((circle, square), trio, 18, "trio"),
    Kind((gear,), plain, 14, "gear"),
    Kind((star,), plain, 8, "star"),
)
DISTRACTORS = (Kind((triangle,), plain, 10), Kind((triangle,), stripes, 20), Kind((circle, square), duo, 26))


def _soft(wave: Map) -> Map:
    return np.clip(2.5 * wave + 0.5, 0, 1)


def _dots(u: Map, v: Map, centres: tuple[tuple[float, float], ...]) -> Map:
    nearest = np.minimum.reduce([np.hypot(u - x, v - y) for x, y in centres])
    return np.asarray(np.clip((DOT - nearest) / 0.06 + 0.5, 0, 1))
