"""A sample picture with its labels: things are laid over each other, and a label covers what is still seen of one."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from yolomix.data import surface
from yolomix.data.shapes import CLASSES, DISTRACTORS, Kind, Map
from yolomix.data.surface import Image, between

SIDE = 320  # of a picture, in pixels
LARGEST = SIDE // 2  # extent of a thing, in pixels
SEEN = 0.2  # a thing that is hidden more than this far is not labelled: share of its area
LEAST = 20  # and so is one of which fewer pixels are seen
TRIES = 12  # for a place where no thing is cut into two pieces

Mask = NDArray[np.bool_]


@dataclass
class Thing:
    """One thing in a picture.

    Args:
        label: index of its class; None for a distractor.
        area: of all of it, also what lies outside the picture or behind others, in pixels.
        seen: the pixels of it that are seen, (SIDE, SIDE).
    """

    label: int | None
    area: int
    seen: Mask

    @property
    def labelled(self) -> bool:
        """Whether it has a class and enough of it is seen."""
        return self.label is not None and int(self.seen.sum()) >= max(SEEN * self.area, LEAST)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of what is seen, in pixels, the last two exclusive."""
        rows, columns = np.flatnonzero(self.seen.any(1)), np.flatnonzero(self.seen.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @property
    def polygon(self) -> NDArray[np.float64]:
        """The border of what is seen, (points, 2) in pixels; its extent is exactly the box."""
        contours, _ = cv2.findContours(self.seen.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        points = np.asarray(contours[0], np.float64).reshape(-1, 2)  # through centres of pixels
        low, high = np.array(self.box[:2]), np.array(self.box[2:])
        return np.asarray(low + (points - points.min(0)) * (high - low) / np.ptp(points, 0))


@dataclass(frozen=True)
class Picture:
    """A picture, (SIDE, SIDE, 3) blue-green-red, and its labelled things, far ones first."""

    image: NDArray[np.uint8]
    things: tuple[Thing, ...]

    @property
    def label(self) -> str:
        """Its label file: a line per thing, the class and the polygon's points in shares of the picture."""
        return "".join(f"{t.label} {' '.join(f'{p / SIDE:.6f}' for p in t.polygon.ravel())}\n" for t in self.things)


def picture(seed: int) -> Picture:
    """The picture of a seed, the same on every machine."""
    rng = RandomState(seed)
    image, things = surface.background(rng, SIDE), list[Thing]()
    order = [*rng.randint(0, len(CLASSES), rng.randint(5, 12)), *[None] * rng.randint(0, 4)]
    for i in rng.permutation(len(order)):
        _add(rng, image, things, order[i])
    return Picture(surface.lit(rng, image), tuple(t for t in things if t.labelled))


@dataclass(frozen=True)
class Stamp:
    """A thing before it has a place: distance to its edge in pixels and its mark, (n, n), and its paint, (n, n, 3)."""

    distance: Map
    mark: Map
    paint: Image

    @property
    def inside(self) -> Mask:
        """The pixels whose centre it covers, (n, n)."""
        return self.distance <= 0


def _stamp(rng: RandomState, kind: Kind) -> Stamp:
    extent = kind.smallest * (LARGEST / kind.smallest) ** (between(rng, 0, 1) ** 0.75)
    turn, squeeze = np.deg2rad(rng.randint(0, 360)), between(rng, 0.75, 1)
    n = int(extent * 1.1) + 3
    x, y = np.meshgrid(*[(np.arange(n) - n / 2 + 0.5) / (extent / 2)] * 2)
    u, v = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / squeeze
    mark = kind.mark(u, v)
    first = surface.colour(rng)
    paint = first + (surface.second_colour(rng, first) - first) * mark[:, :, None].astype(np.float32)
    grain = surface.piece(rng, n, n)
    light = 1 + between(rng, -0.25, 0.25) * x + between(rng, -0.25, 0.25) * y
    paint = (paint + between(rng, 0.05, 0.25) * (grain - grain.mean())) * light[:, :, None]
    return Stamp(kind.outlines[rng.randint(len(kind.outlines))](u, v) * extent / 2, mark, paint.astype(np.float32))


def _add(rng: RandomState, image: Image, things: list[Thing], label: int | None) -> None:
    """Lay one more thing over the picture, at a place where it leaves every other thing in one piece."""
    stamp = _stamp(rng, CLASSES[label] if label is not None else DISTRACTORS[rng.randint(len(DISTRACTORS))])
    crowd = rng.randint(3) == 0  # a third of them may hide others, and may stick out of the picture
    for _ in range(TRIES):
        left, top = _place(rng, things, len(stamp.mark), crowd)
        here, there = _windows(left, top, len(stamp.mark))
        seen = np.zeros((SIDE, SIDE), bool)
        seen[here] = stamp.inside[there]
        behind = [thing for thing in things if (thing.seen[here] & seen[here]).any()]
        rest = [thing.seen & ~seen for thing in behind]
        whole = _one_piece(seen) and all(_one_piece(r) for t, r in zip(behind, rest, strict=True) if t.labelled)
        if whole and (crowd or not behind):
            for thing, what in zip(behind, rest, strict=True):
                thing.seen = what
            things.append(Thing(label, int(stamp.inside.sum()), seen))
            _paint(image, stamp, here, there)
            return


def _place(rng: RandomState, things: list[Thing], n: int, crowd: bool) -> tuple[int, int]:
    """Left and top of an n x n stamp: inside the picture, or in a crowd at the edge of another thing."""
    beyond = n // 4 if crowd else 0
    x, y = (int(a) for a in rng.randint(-beyond, SIDE - n + beyond + 1, 2))
    near, shift = rng.randint(0, len(things) + 1), rng.randint(-n // 2, n // 2 + 1, 2)
    if crowd and near < len(things) and things[near].labelled:
        left, top, right, bottom = things[near].box
        return (left if shift[0] < 0 else right) - n // 2 + int(shift[0]), (top + bottom - n) // 2 + int(shift[1])
    return x, y


def _windows(left: int, top: int, n: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where an n x n stamp lies in the picture, and which part of the stamp that is."""
    spans = [(max(start, 0), max(min(start + n, SIDE), 0)) for start in (top, left)]
    here = tuple(slice(low, high) for low, high in spans)
    there = tuple(slice(low - start, high - start) for (low, high), start in zip(spans, (top, left), strict=True))
    return (here[0], here[1]), (there[0], there[1])


def _one_piece(mask: Mask) -> bool:
    """Whether it is empty, or one region without holes."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return len(contours) <= 1


def _paint(image: Image, stamp: Stamp, here: tuple[slice, slice], there: tuple[slice, slice]) -> None:
    cover = np.clip(0.5 - stamp.distance[there], 0, 1).astype(np.float32)[:, :, None]
    image[here] += (stamp.paint[there] - image[here]) * cover
