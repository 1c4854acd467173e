"""What the objects in a sample image look like: six classes told apart by outline, texture or arrangement, not colour.

Coordinates are the object's own: ``u, v`` in object radii, rotated with the object, (h, w) each. An outline is negative
inside, and about the distance to the edge, in radii. A pattern is 1 where the second colour lies and 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float64]  # (h, w)
Field = Callable[[Grid, Grid], Grid]  # of u and v

PERIODS = 1.0  # of a texture per radius, the same for stripes and checks
DOT = 0.25  # radius of a dot, in object radii


def circle(u: Grid, v: Grid) -> Grid:
    """The outline of a disc.

    >>> circle(np.array([0.0, 1.0]), np.zeros(2)).tolist()
    [-1.0, 0.0]
    """
    return np.hypot(u, v) - 1


def square(u: Grid, v: Grid) -> Grid:
    """The outline of a square with round corners."""
    return np.asarray(np.sqrt(np.hypot(u * u, v * v)) - 0.88)


def gear(u: Grid, v: Grid) -> Grid:
    """The outline of a disc with eight teeth."""
    return np.asarray(np.hypot(u, v) - 0.86 - 0.14 * np.clip(3 * np.cos(8 * np.arctan2(v, u)), -1, 1))


def star(u: Grid, v: Grid) -> Grid:
    """The outline of a star with five points."""
    fifths = np.arctan2(v, u) * 5 / (2 * np.pi)
    angle = np.abs((fifths + 0.5) % 1 - 0.5) * 2 * np.pi / 5  # 0 at a point of the star, 36 degrees between two
    radius = np.hypot(u, v)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    return (across + 0.60 * along - 0.60) * 0.857


def triangle(u: Grid, v: Grid) -> Grid:
    """The outline of a triangle; no class looks like it."""
    return np.maximum(np.abs(u) * 0.866 + v * 0.5, -v) - 0.5


def plain(u: Grid, v: Grid) -> Grid:
    """No pattern."""
    return np.zeros_like(u)


def stripes(u: Grid, v: Grid) -> Grid:
    """A pattern of parallel bands.

    >>> stripes(np.array([0.25, 0.75]), np.zeros(2)).tolist()
    [1.0, 0.0]
    """
    return _soft(np.sin(2 * np.pi * PERIODS * u))


def checks(u: Grid, v: Grid) -> Grid:
    """A chessboard with the period of the stripes."""
    return _soft(2 * np.sin(2 * np.pi * PERIODS * u) * np.sin(2 * np.pi * PERIODS * v))


def row(u: Grid, v: Grid) -> Grid:
    """Three dots in a row."""
    return _dots(u, v, ((-0.55, 0.0), (0.0, 0.0), (0.55, 0.0)))


def trio(u: Grid, v: Grid) -> Grid:
    """Three dots at the corners of a triangle."""
    return _dots(u, v, ((0.0, 0.5), (-0.43, -0.25), (0.43, -0.25)))


def duo(u: Grid, v: Grid) -> Grid:
    """Two dots: nearly a row or a trio, and no class."""
    return _dots(u, v, ((-0.4, 0.0), (0.4, 0.0)))


@dataclass(frozen=True)
class Kind:
    """A kind of object that an image may show.

    >>> [kind.name for kind in CLASSES]
    ['stripe', 'check', 'row', 'trio', 'gear', 'star']

    Attributes:
        outlines: an object has one of these.
        pattern: drawn on it in a second colour.
        smallest: least extent at which it can be told from the other kinds, in pixels.
        name: its class, in the singular, since Ultralytics counts "2 stripes"; empty for a distractor, which is not
            labelled.
    """

    outlines: tuple[Field, ...]
    pattern: Field
    smallest: int
    name: str = ""


CLASSES = (
    Kind((circle, square), stripes, 16, "stripe"),
    Kind((circle, square), checks, 16, "check"),
    Kind((circle, square), row, 18, "row"),
    Kind((circle, square), trio, 18, "trio"),
    Kind((gear,), plain, 14, "gear"),
    Kind((star,), plain, 8, "star"),
)
DISTRACTORS = (Kind((triangle,), plain, 10), Kind((triangle,), stripes, 20), Kind((circle, square), duo, 26))


def _soft(wave: Grid) -> Grid:
    return np.clip(2.5 * wave + 0.5, 0, 1)


def _dots(u: Grid, v: Grid, centres: tuple[tuple[float, float], ...]) -> Grid:
    nearest = np.minimum.reduce([np.hypot(u - x, v - y) for x, y in centres])
    return np.asarray(np.clip((DOT - nearest) / 0.06 + 0.5, 0, 1))
