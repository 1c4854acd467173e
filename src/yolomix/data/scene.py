"""A sample image with its labels: objects are laid over each other, and a label covers what is still visible of one."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from yolomix.data import surface
from yolomix.data.shapes import CLASSES, DISTRACTORS, Grid, Kind
from yolomix.data.surface import Image, between

SIDE = 320  # of an image, in pixels
LARGEST = SIDE // 2  # extent of an object, in pixels
MIN_VISIBLE = 0.2  # an object of which less is visible is not labelled: fraction of its area
MIN_PIXELS = 20  # nor is one of which fewer pixels are visible
ATTEMPTS = 12  # to find a position where no object is cut into two pieces

Mask = NDArray[np.bool_]
Window = tuple[slice, slice]  # rows and columns


@dataclass
class SceneObject:
    """One object in an image.

    >>> labelled_image(0).objects[0].box
    (122, 36, 262, 176)

    Attributes:
        label: index of its class; None for a distractor.
        area: of all of it, also of what lies outside the image or behind others, in pixels.
        visible: its visible pixels, (SIDE, SIDE).
    """

    label: int | None
    area: int
    visible: Mask

    @property
    def labelled(self) -> bool:
        """Whether it has a class and enough of it is visible."""
        return self.label is not None and int(self.visible.sum()) >= max(MIN_VISIBLE * self.area, MIN_PIXELS)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of what is visible, in pixels, the last two exclusive."""
        rows, columns = np.flatnonzero(self.visible.any(1)), np.flatnonzero(self.visible.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @property
    def polygon(self) -> NDArray[np.float64]:
        """The border of what is visible, (points, 2) in pixels; its extent is exactly the box."""
        contours, _ = cv2.findContours(self.visible.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        points = np.asarray(contours[0], np.float64).reshape(-1, 2)
        # OpenCV's points lie on the centres of pixels, half a pixel inside the box on every side: stretch them.
        low, high = np.array(self.box[:2]), np.array(self.box[2:])
        return np.asarray(low + (points - points.min(0)) * (high - low) / np.ptp(points, 0))


@dataclass(frozen=True)
class LabelledImage:
    """An image and its labelled objects.

    Attributes:
        image: (SIDE, SIDE, 3), blue-green-red.
        objects: those that are labelled, from back to front.
    """

    image: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]

    @property
    def label(self) -> str:
        """Its label file: a line per object, the class and the polygon's points in fractions of the image side.

        >>> labelled_image(0).label.split()[:3]
        ['2', '0.538624', '0.112500']
        """
        lines = []
        for shown in self.objects:
            points = " ".join(f"{p / SIDE:.6f}" for p in shown.polygon.ravel())
            lines.append(f"{shown.label} {points}\n")
        return "".join(lines)


def labelled_image(seed: int) -> LabelledImage:
    """The image of a seed, the same on every machine.

    >>> labelled_image(0).image.shape, len(labelled_image(0).objects)
    ((320, 320, 3), 5)
    """
    rng = RandomState(seed)
    image, objects = surface.background(rng, SIDE), list[SceneObject]()
    labels: list[int | None] = rng.randint(0, len(CLASSES), rng.randint(5, 12)).tolist()
    labels += [None] * rng.randint(0, 4)
    for i in rng.permutation(len(labels)):
        _add(rng, image, objects, labels[i])
    return LabelledImage(surface.lit(rng, image), tuple(shown for shown in objects if shown.labelled))


@dataclass(frozen=True)
class Sprite:
    """An object before it has a position, as a square of n x n pixels.

    Attributes:
        distance: to its edge, negative inside, in pixels, (n, n).
        paint: its colours, (n, n, 3).
    """

    distance: Grid
    paint: Image

    @property
    def side(self) -> int:
        """Its n."""
        return len(self.distance)

    @property
    def inside(self) -> Mask:
        """The pixels whose centre it covers, (n, n)."""
        return self.distance <= 0


def _sprite(rng: RandomState, kind: Kind) -> Sprite:
    """An object of that kind in a random size, orientation, colour and light."""
    extent = kind.smallest * (LARGEST / kind.smallest) ** (between(rng, 0, 1) ** 0.75)
    angle, squeeze = np.deg2rad(rng.randint(0, 360)), between(rng, 0.75, 1)
    n = int(extent * 1.1) + 3
    x, y = np.meshgrid(*[(np.arange(n) - n / 2 + 0.5) / (extent / 2)] * 2)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = (y * np.cos(angle) - x * np.sin(angle)) / squeeze
    first = surface.colour(rng)
    second = surface.second_colour(rng, first)
    paint = first + (second - first) * kind.pattern(u, v)[:, :, None].astype(np.float32)
    grain = surface.piece(rng, n, n)
    light = 1 + between(rng, -0.25, 0.25) * x + between(rng, -0.25, 0.25) * y
    paint = (paint + between(rng, 0.05, 0.25) * (grain - grain.mean())) * light[:, :, None]
    outline = kind.outlines[rng.randint(len(kind.outlines))]
    return Sprite(outline(u, v) * extent / 2, paint.astype(np.float32))


def _add(rng: RandomState, image: Image, objects: list[SceneObject], label: int | None) -> None:
    """Lay one more object over the image, at a position where it leaves every other object in one piece."""
    if label is None:
        kind = DISTRACTORS[rng.randint(len(DISTRACTORS))]
    else:
        kind = CLASSES[label]
    sprite = _sprite(rng, kind)
    crowd = rng.randint(3) == 0  # a third of them may hide others, and may stick out of the image
    for _ in range(ATTEMPTS):
        left, top = _position(rng, objects, sprite.side, crowd)
        here, there = _windows(left, top, sprite.side)
        visible = np.zeros((SIDE, SIDE), bool)
        visible[here] = sprite.inside[there]
        behind = [other for other in objects if (other.visible[here] & visible[here]).any()]
        fits = crowd or not behind
        if fits and _one_piece(visible) and _leaves_whole(behind, visible):
            for other in behind:
                other.visible = other.visible & ~visible
            objects.append(SceneObject(label, int(sprite.inside.sum()), visible))
            _paint(image, sprite, here, there)
            return


def _leaves_whole(behind: list[SceneObject], visible: Mask) -> bool:
    """Whether what is left of every labelled object behind these pixels is one piece."""
    return all(_one_piece(other.visible & ~visible) for other in behind if other.labelled)


def _position(rng: RandomState, objects: list[SceneObject], n: int, crowd: bool) -> tuple[int, int]:
    """Left and top of an n x n sprite: inside the image, or in a crowd at the edge of another object."""
    beyond = n // 4 if crowd else 0
    x, y = rng.randint(-beyond, SIDE - n + beyond + 1, 2)
    neighbour = rng.randint(0, len(objects) + 1)
    shift_x, shift_y = rng.randint(-n // 2, n // 2 + 1, 2)
    if crowd and neighbour < len(objects) and objects[neighbour].labelled:
        left, top, right, bottom = objects[neighbour].box
        edge = left if shift_x < 0 else right
        return edge - n // 2 + int(shift_x), (top + bottom - n) // 2 + int(shift_y)
    return int(x), int(y)


def _windows(left: int, top: int, n: int) -> tuple[Window, Window]:
    """Where an n x n sprite lies in the image, and which part of the sprite that is."""
    low_y, high_y = _clipped(top, n)
    low_x, high_x = _clipped(left, n)
    here = slice(low_y, high_y), slice(low_x, high_x)
    there = slice(low_y - top, high_y - top), slice(low_x - left, high_x - left)
    return here, there


def _clipped(start: int, n: int) -> tuple[int, int]:
    """First and last pixel, exclusive, of n pixels from ``start``, as far as they lie in the image."""
    return max(start, 0), max(min(start + n, SIDE), 0)


def _one_piece(mask: Mask) -> bool:
    """Whether it is empty, or one region without holes."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return len(contours) <= 1


def _paint(image: Image, sprite: Sprite, here: Window, there: Window) -> None:
    cover = np.clip(0.5 - sprite.distance[there], 0, 1).astype(np.float32)[:, :, None]  # smooth edges
    image[here] += (sprite.paint[there] - image[here]) * cover
