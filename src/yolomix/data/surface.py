"""What a sample image is painted with: pieces of photographs, light and noise.

The photographs are the two that Ultralytics ships. Only integers are drawn from the random stream, which NumPy keeps
the same for ever (``RandomState``). So a seed means the same image on every machine.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import cv2
import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

Image = NDArray[np.float32]  # (h, w, 3), blue-green-red, 0 to 255

PHOTOGRAPHS = ("bus.jpg", "zidane.jpg")


def between(rng: RandomState, low: float, high: float) -> float:
    """A random value between two others, in a thousand steps.

    >>> between(RandomState(0), 0, 1)
    0.684
    """
    return low + (high - low) * int(rng.randint(0, 1001)) / 1000


@functools.cache
def photographs() -> tuple[NDArray[np.uint8], ...]:
    """The photographs, (h, w, 3) blue-green-red.

    >>> [photo.shape for photo in photographs()]
    [(1080, 810, 3), (720, 1280, 3)]

    Raises:
        FileNotFoundError: Ultralytics is not installed, or without its images.
    """
    spec = importlib.util.find_spec("ultralytics")
    folders: list[str] = []
    if spec is not None and spec.submodule_search_locations is not None:
        folders += spec.submodule_search_locations
    files = [Path(folder) / "assets" / name for folder in folders for name in PHOTOGRAPHS]
    # Not cv2.imread, which on Windows cannot open a path with non-ASCII letters.
    found = [np.fromfile(file, np.uint8) for file in files if file.is_file()]
    if len(found) != len(PHOTOGRAPHS):
        raise FileNotFoundError(
            f"the sample dataset needs {' and '.join(PHOTOGRAPHS)} from the folder assets of ultralytics, "
            f"found {len(found)} of them in {folders}. Reinstall it: pip install --force-reinstall ultralytics"
        )
    return tuple(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)) for data in found)


def piece(rng: RandomState, height: int, width: int) -> Image:
    """A piece of a photograph at a random position, scale and orientation, (height, width, 3), 0 to 255.

    >>> piece(RandomState(0), 8, 12).shape
    (8, 12, 3)
    """
    photo = photographs()[rng.randint(len(PHOTOGRAPHS))]
    side = int(rng.randint(80, min(photo.shape[:2]) + 1))
    top = int(rng.randint(0, photo.shape[0] - side + 1))
    left = int(rng.randint(0, photo.shape[1] - side + 1))
    crop = cv2.resize(photo[top : top + side, left : left + side], (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.randint(2):
        crop = crop[:, ::-1]
    return np.asarray(crop[:, :, rng.permutation(3)], np.float32)


def colour(rng: RandomState) -> Image:
    """Any colour that is neither black nor white, (3,).

    >>> colour(RandomState(0)).shape
    (3,)
    """
    return np.asarray(rng.randint(35, 221, 3), np.float32)


def second_colour(rng: RandomState, first: Image) -> Image:
    """A colour that is clearly lighter or clearly darker than the first, (3,).

    >>> bool(second_colour(RandomState(0), np.full(3, 40, np.float32)).mean() > 90)
    True
    """
    step = rng.randint(80, 146) + rng.randint(-25, 26, 3)
    if abs(float(first.mean()) - 128) > 40:
        lighter = bool(first.mean() < 128)
    else:
        lighter = bool(rng.randint(2))
    return np.asarray(np.clip(first + (step if lighter else -step), 0, 255), np.float32)


def background(rng: RandomState, side: int) -> Image:
    """A piece of a photograph with less contrast, in front of one colour, (side, side, 3).

    >>> background(RandomState(0), 8).shape
    (8, 8, 3)
    """
    keep = between(rng, 0.15, 0.55)
    return piece(rng, side, side) * np.float32(keep) + colour(rng) * np.float32(1 - keep)


def lit(rng: RandomState, image: Image) -> NDArray[np.uint8]:
    """The image under uneven light, sometimes slightly out of focus, with the noise of a camera, (side, side, 3).

    >>> lit(RandomState(0), np.full((8, 8, 3), 128, np.float32)).dtype
    dtype('uint8')
    """
    side = image.shape[0]
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    slope_x, slope_y = between(rng, -0.3, 0.3), between(rng, -0.3, 0.3)
    light = between(rng, 0.75, 1.15) + np.float32(slope_x) * ramp[None, :] + np.float32(slope_y) * ramp[:, None]
    image = image * light[:, :, None].astype(np.float32)
    if rng.randint(4) == 0:
        image = cv2.GaussianBlur(image, (3, 3), between(rng, 0.4, 0.9))
    # The sum of two uniform bytes: near enough to a normal distribution, and drawn as integers.
    grain = np.frombuffer(rng.bytes(2 * image.size), np.int8).reshape(2, *image.shape)
    noise = (grain[0].astype(np.float32) + grain[1]) * np.float32(between(rng, 2, 12) / 128)
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)
