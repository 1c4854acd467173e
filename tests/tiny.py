"""A model and a dataset small enough to train in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

ROOT = Path(__file__).parents[1]

TINY = """
nc: 2
scales: # [depth, width, max_channels]
  n: [1.0, 0.5, 64]
  s: [1.0, 1.0, 64]
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, HaloAttention, [2, 1, 8, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 2, C2PSAMLLA, [32]]
head:
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, MLLAttention, []]
  - [[4, 6], 1, Detect, [nc]]
"""


def description(**changes: Any) -> dict[str, Any]:
    """The tiny model as Ultralytics reads it, at scale n."""
    return {**yaml.safe_load(TINY), "scale": "n", "yaml_file": "tiny.yaml", **changes}


def write_dataset(root: Path) -> Path:
    """Bright squares and dark bars on noise, 64 x 64 or 64 x 48 pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        images, labels = root / "images" / split, root / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for i in range(count):
            h = 48 if i % 3 == 2 else 64
            picture = rng.integers(64, 192, (h, 64, 3), dtype=np.uint8)
            picture[8:24, 8:24], picture[28:44, 24:32] = 255, 0
            cv2.imwrite(str(images / f"{i}.png"), picture)
            (labels / f"{i}.txt").write_text(f"0 0.25 {16 / h} 0.25 {16 / h}\n1 0.4375 {36 / h} 0.125 {16 / h}\n")
    file = root / "data.yaml"
    file.write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames: {{0: square, 1: bar}}\n")
    return file
