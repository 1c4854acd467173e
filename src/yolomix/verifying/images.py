"""The real images that both sides look at: those of a dataset, else sixteen of the packaged sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from yolomix import data
from yolomix.host import datasets

COUNT = 16


class Batch(NamedTuple):
    """As many images as a file takes at once."""

    images: Tensor  # (B, C, H, W)
    real: int  # how many of them; the others repeat the first


def chosen(given: str | None, task: str, folder: Path) -> tuple[list[Path], str]:
    """The files, and what they are in words.

    Args:
        given: what the user gave as ``data=``; None takes the packaged sample.
        task: what the model does.
        folder: where images of the sample go.

    Raises:
        Exception: whatever Ultralytics says of a dataset that cannot be read.
    """
    if given is None:
        data.render(folder, {"val": COUNT})
        return sorted((folder / "images" / "val").iterdir()), f"{COUNT} images of the packaged sample"
    described = datasets.described(str(data.sample_dataset(task)) if given == "sample" else given, task)
    found = datasets.images(described.get("val") or described["train"])[:COUNT]
    return found, f"{len(found)} images of {given}"


def batched(images: Sequence[Tensor], size: int) -> list[Batch]:
    """Batches of images.

    >>> [(batch.images.shape[0], batch.real) for batch in batched([torch.zeros(1, 3, 8, 8)] * 3, 2)]
    [(2, 2), (2, 1)]
    """
    found = []
    for first in range(0, len(images), size):
        part = [*images[first : first + size]]
        filled = part + part[:1] * (size - len(part))
        found.append(Batch(torch.cat(filled).contiguous(), len(part)))
    return found


def other_size(imgsz: tuple[int, int], stride: int) -> tuple[int, int]:
    """A smaller size than that of an export, of another shape.

    >>> other_size((640, 640), 32), other_size((32, 32), 32)
    ((320, 480), (32, 64))
    """
    height, width = (-(-side * part // 4 // stride) * stride for side, part in zip(imgsz, (2, 3), strict=True))
    return (height, width) if (height, width) != imgsz else (height, width + stride)
