"""The content of files: what their bytes and pixels are, remembered by size and time of the last change."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from yolomix import files

FILE = "contents.json"  # in the study's folder
SIDE = 16  # of the difference hash
BITS = SIDE * SIDE
NEAR = 40  # bits; of BCCD's 364 images the one near pair differs in 26, all other pairs in 83 and more
LEAST = 16  # bits set, and not set: the hash of an almost uniform image says nothing


class Content(NamedTuple):
    """What is in a file.

    Attributes:
        digest: the SHA-256 of its bytes.
        pixels: the SHA-256 of the image's pixels; empty of what is no image.
        outline: its difference hash, 256 bits as hexadecimal digits; empty of what is no image.
    """

    digest: str
    pixels: str = ""
    outline: str = ""


class Contents:
    """Contents of many files. What was read once is read again only after a change of its size or time.

    >>> _ = Path("a.txt").write_text("0 0.5 0.5 1 1")
    >>> contents = Contents("study")
    >>> contents.of([Path("a.txt")])[0].digest[:8]
    '02f4d143'

    Args:
        folder: where they are remembered, by :meth:`save`; it need not exist.
    """

    def __init__(self, folder: str | Path) -> None:
        self.file = Path(folder) / FILE
        self.known: dict[str, list[Any]] = {}
        with contextlib.suppress(OSError, ValueError):  # nothing is remembered, or it is spoilt: all is read again
            self.known = json.loads(self.file.read_text("utf-8"))

    def of(self, paths: Sequence[Path], images: bool = False) -> list[Content]:
        """The content of every file; of images their pixels too.

        Raises:
            FileNotFoundError: one is not there.
            ValueError: one is to be an image and cannot be read.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding and hashing leave the interpreter's lock
            return [*pool.map(lambda path: self._one(path, images), paths)]

    def save(self) -> None:
        """Remember them for the next time; the folder is made."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(self.file, json.dumps(self.known), flush=False)

    def _one(self, path: Path, image: bool) -> Content:
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        known = self.known.get(str(path))
        if known is None or known[:2] != stamp or (image and not known[3]):
            content = _read(path) if image else Content(files.digest(path))
            self.known[str(path)] = known = [*stamp, *content]
        return Content(*known[2:])


def _read(path: Path) -> Content:
    """The content of an image file."""
    data = path.read_bytes()
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None:
        raise ValueError(f"{path} cannot be read as an image; mend it, or take it out of the dataset")
    found = hashlib.sha256(str(pixels.shape).encode())
    found.update(np.ascontiguousarray(pixels).tobytes())
    return Content(hashlib.sha256(data).hexdigest(), found.hexdigest(), outline(pixels))


def outline(pixels: npt.NDArray[Any]) -> str:
    """The difference hash of an image: of a 17 x 16 thumbnail, whether each pixel is brighter than the one before it.

    >>> outline(np.zeros((64, 48, 3), np.uint8)) == 64 * "0"
    True

    Args:
        pixels: (H, W), or (H, W, C) in the order of OpenCV, of any integer type.
    """
    if pixels.ndim == 3:
        pixels = pixels[..., :3].mean(axis=2)
    small = cv2.resize(pixels.astype(np.float32), (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes().hex()


def near_pairs(one: Iterable[str], other: Iterable[str]) -> list[tuple[int, int]]:
    """Pairs of images that look alike, one of each list, by index; hashes as :func:`outline` makes them.

    >>> near_pairs([32 * "f0"], [32 * "f0", 31 * "f0" + "0f", 32 * "0f"])
    [(0, 0), (0, 1)]
    """
    first, second = _signs(one), _signs(other)
    found: list[tuple[int, int]] = []
    for start in range(0, len(first), 1024):
        differing = (BITS - first[start : start + 1024] @ second.T) / 2  # (rows, other)
        found += [(start + int(i), int(j)) for i, j in np.argwhere(differing <= NEAR)]
    return found


def _signs(outlines: Iterable[str]) -> npt.NDArray[np.float32]:
    """Hashes as +1 and -1, (n, 256); a hash that says nothing as zeros, which are near to none."""
    bits = np.array([np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)) for text in outlines], np.float32)
    bits = bits.reshape(-1, BITS)
    count = bits.sum(1, keepdims=True)
    says = (count >= LEAST) & (count <= BITS - LEAST)
    return np.asarray((2 * bits - 1) * says, np.float32)
