"""What a sample picture is painted with: pieces of photographs, light and noise.

The photographs are the two that Ultralytics ships. Only integers are drawn from the random stream, which NumPy keeps
the same for ever (``RandomState``), so a seed means the same picture on every machine.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import cv2
import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

Image = NDArray[np.float32]

PHOTOGRAPHS = ("bus.jpg", "zidane.jpg")


def between(rng: RandomState, low: float, high: float) -> float:
    """A number between two others, in a thousand steps."""
    return low + (high - low) * int(rng.randint(0, 1001)) / 1000


@functools.cache
def photographs() -> tuple[NDArray[np.uint8], ...]:
    """The photographs, (h, w, 3) blue-green-red.

    Raises:
        FileNotFoundError: Ultralytics is not installed, or without its pictures.
    """
    spec = importlib.util.find_spec("ultralytics")
    folders = (spec.submodule_search_locations if spec else None) or []
    files = [Path(folder) / "assets" / name for folder in folders for name in PHOTOGRAPHS]
    found = [np.fromfile(file, np.uint8) for file in files if file.is_file()]
    if len(found) != len(PHOTOGRAPHS):
        raise FileNotFoundError(
            f"the sample dataset needs {' and '.join(PHOTOGRAPHS)} from the folder assets of ultralytics, "
            f"found {len(found)} of them in {[*folders]}; reinstall it: pip install --force-reinstall ultralytics"
        )
    return tuple(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)) for data in found)


def piece(rng: RandomState, height: int, width: int) -> Image:
    """A piece of a photograph at a random place, scale and orientation, (height, width, 3), 0 to 255."""
    photo = photographs()[rng.randint(len(PHOTOGRAPHS))]
    side = int(rng.randint(80, min(photo.shape[:2]) + 1))
    top, left = (int(rng.randint(0, n - side + 1)) for n in photo.shape[:2])
    crop = cv2.resize(photo[top : top + side, left : left + side], (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.randint(2):
        crop = crop[:, ::-1]
    return np.asarray(crop[:, :, rng.permutation(3)], np.float32)


def colour(rng: RandomState) -> Image:
    """Any colour that is neither black nor white, (3,)."""
    return np.asarray(rng.randint(35, 221, 3), np.float32)


def second_colour(rng: RandomState, first: Image) -> Image:
    """A colour that is clearly lighter or clearly darker than the first, (3,)."""
    step = rng.randint(80, 146) + rng.randint(-25, 26, 3)
    lighter = first.mean() < 128 if abs(float(first.mean()) - 128) > 40 else bool(rng.randint(2))
    return np.asarray(np.clip(first + (step if lighter else -step), 0, 255), np.float32)


def background(rng: RandomState, side: int) -> Image:
    """A photograph's piece with less contrast, in front of one colour, (side, side, 3)."""
    keep = between(rng, 0.15, 0.55)
    return piece(rng, side, side) * np.float32(keep) + colour(rng) * np.float32(1 - keep)


def lit(rng: RandomState, image: Image) -> NDArray[np.uint8]:
    """The picture under uneven light, slightly out of focus at times, with the noise of a camera."""
    side = image.shape[0]
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    slope_x, slope_y = between(rng, -0.3, 0.3), between(rng, -0.3, 0.3)
    light = between(rng, 0.75, 1.15) + np.float32(slope_x) * ramp[None, :] + np.float32(slope_y) * ramp[:, None]
    image = image * light[:, :, None].astype(np.float32)
    if rng.randint(4) == 0:
        image = cv2.GaussianBlur(image, (3, 3), between(rng, 0.4, 0.9))
    grain = np.frombuffer(rng.bytes(2 * image.size), np.int8).reshape(2, *image.shape)
    noise = (grain[0].astype(np.float32) + grain[1]) * np.float32(between(rng, 2, 12) / 128)
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)
